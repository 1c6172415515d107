// A guest's driver of a disk, or of chains, in a few lines: one request a slot, in a split or in a packed ring (virtio 1.4, 2.7 and 2.8).
#pragma once
#include "embedder.h"

enum { RING_SIZE = 32, SLOTS = 8, RAM_SIZE = 0x10000 + SLOTS * 0x4000 };
/** A chain's room is two buffers of so many bytes. */
enum { ROOM_PART = 8 };

/** Slots that the device has used, in its order, with the bytes that it says it wrote. */
typedef struct {
  unsigned count;
  uint32_t slots[SLOTS];
  uint32_t writtenBytes[SLOTS];
} Used;

/** A new guest. */
void openGuest(const GuestRam* ram, bool isPacked);
Ring guestRing(void);

/** Each returns the slot. The device must be kicked then. */
uint32_t submitWrite(uint64_t sector, const uint8_t* data, uint32_t byteLength);
uint32_t submitRead(uint64_t sector, uint32_t byteLength);
uint32_t submitFlush(void);
uint32_t submitChain(const void* data, uint32_t byteLength);

/** What was used since this was last asked. */
Used takeUsed(void);
uint8_t statusOf(uint32_t slot);
const uint8_t* dataOf(uint32_t slot);
/** Copies what was written into a chain's room. */
void copyAnswer(uint32_t slot, void* to, uint32_t byteLength);
