// The core as wasm2c made it, with the least around it: one queue, of a disk in memory or of chains; one thread.
// Made from assembly/ABI.md; abi.h is its tables.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include <sys/uio.h>

#include "abi.h"

typedef struct {
  uint8_t* bytes;
  uint64_t byteLength;
  unsigned flushes;
} Disk;

/** Guest memory: from guest physical address `gpa`, at `ptr` in linear memory. */
typedef struct {
  uint64_t gpa;
  uint32_t ptr;
  uint32_t byteLength;
} GuestRam;

/** Pointers into linear memory; `flags` are QUEUE_F_*. */
typedef struct {
  uint32_t size, flags, desc, driver, device, base;
} Ring;

/** A submission queue entry, as far as it is used. */
typedef struct {
  uint8_t opcode;
  int32_t fd;
  uint64_t offset, address;
  uint32_t length, flags;
  uint64_t userData;
} Operation;

/** A chain as a device has it: of its buffers, the first `readableCount` are what the driver gives. `flags` are CHAIN_F_*. */
typedef struct {
  const struct iovec* buffers;
  uint32_t count, readableCount, flags;
} Chain;

enum { SQ_ENTRIES = 64, CQ_ENTRIES = 128, REQUESTS = 32 };

/** Where the rings' words lie is our choice. */
enum {
  RINGS = WORKERS_PTR + WORKER_RINGS,
  SQ_HEAD = RINGS,
  SQ_TAIL = RINGS + 4,
  SQ_FLAGS = RINGS + 8,
  CQ_HEAD = RINGS + 12,
  CQ_TAIL = RINGS + 16,
  CQES = RINGS + 64,
  SQES = WORKERS_PTR + WORKER_SQES,
};

/** Linear memory. */
extern uint8_t* linear;
/** How often the driver was called. */
extern unsigned calls;
/** While set, operations on the disk wait in `held`. */
extern bool isHolding;
extern Operation held[REQUESTS];
extern unsigned heldCount;
/** What a device makes of a chain: a result, as "Chains as operations" lists them. */
extern int32_t (*onChain)(const Chain* chain);

/** Once. */
void openMemory(uint32_t pages);
/** A new instance, which knows nothing but what lies in guest memory and in the inflight region. */
void boot(const GuestRam* ram, Disk* disk);
/** `inflight`: a pointer to the region, or 0. */
void startRing(const Ring* ring, uint32_t inflight);
/** Returns the base to go on from. */
uint32_t stopRing(void);
/** The device asks for so many chains more. */
void giveCredit(uint32_t count);
/** What the driver does to say that it has made something available. */
void kick(void);
/** One turn of the core. Returns STEP_*. */
uint32_t step(void);
/** Turns until only a kick, or a release, brings something new. */
void run(void);
/** Performs the operation at `at` of those held. */
void releaseHeld(unsigned at);

/** Ends the program with a message. */
_Noreturn void die(const char* format, ...);
