// What the harness says to people.
#pragma once

/** Says what the core did wrong, and ends the process so that libFuzzer keeps the input. */
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

/** Says what is happening, where FUZZ_TRACE is set: for one input at a time. */
void trace(const char* format, ...) __attribute__((format(printf, 1, 2)));
