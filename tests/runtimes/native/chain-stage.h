// What ../chain-stage.ts plays, in C, told in the same words.
#pragma once
#include "guest.h"

/** `format`: for the lines. `inflight`: a pointer to zeroed memory for the region. */
void playChains(const GuestRam* ram, uint32_t inflight, bool isPacked, const char* format);
