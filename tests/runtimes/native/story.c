// What ../scenario.ts plays, in C, told in the same words.
#include <stdio.h>
#include <string.h>

#include "chain-stage.h"

enum { BLOCK = 4096, SECTORS_PER_BLOCK = 8, WRITES = 4, FIRST_BLOCK = 2 };

static uint8_t diskBytes[1 << 20];
static Disk disk = {diskBytes, sizeof diskBytes, 0};

static const GuestRam RAM = {0x100000000, WORKERS_PTR + WORKER_STRIDE, RAM_SIZE};
static const uint32_t INFLIGHT = WORKERS_PTR + WORKER_STRIDE + RAM_SIZE;
static const char* format;

static const uint8_t* pattern(uint32_t seed) {
  static uint8_t block[BLOCK];
  for (uint32_t i = 0; i < BLOCK; i++) block[i] = (uint8_t)(i * 7 + seed);
  return block;
}

static const char* same(const uint8_t* one, const uint8_t* other) {
  return memcmp(one, other, BLOCK) == 0 ? "the same" : "other bytes";
}

static const uint8_t* onDisk(uint32_t block) { return diskBytes + block * BLOCK; }

static void bootAndStart(void) {
  const Ring ring = guestRing();
  boot(&RAM, &disk);
  startRing(&ring, INFLIGHT);
}

static void tellOutcome(const char* what, uint32_t slot) {
  const Used used = takeUsed();
  if (used.count != 1 || used.slots[0] != slot) die("%s: %u used", what, used.count);
  printf("%s: %s: status %u, %u bytes written", format, what, statusOf(slot), used.writtenBytes[0]);
}

static void useDisk(void) {
  const uint32_t write = submitWrite(SECTORS_PER_BLOCK, pattern(1), BLOCK);
  kick();
  run();
  tellOutcome("write", write);
  printf(", %s on the disk\n", same(onDisk(1), pattern(1)));

  const uint32_t read = submitRead(SECTORS_PER_BLOCK, BLOCK);
  kick();
  run();
  tellOutcome("read", read);
  printf(", %s in the guest\n", same(dataOf(read), pattern(1)));

  const uint32_t flush = submitFlush();
  kick();
  run();
  tellOutcome("flush", flush);
  printf(", %u reached the disk\n", disk.flushes);

  const uint32_t outside = submitRead(sizeof diskBytes / 512, BLOCK);
  kick();
  run();
  tellOutcome("read past the end", outside);
  printf("\n%s: calls: %u\n", format, calls);
}

static void tellDone(const char* when, const uint32_t* slots) {
  const Used used = takeUsed();
  printf("%s: %s the crash: ", format, when);
  for (unsigned i = 0; i < used.count; i++) {
    unsigned which = 0;
    while (which < WRITES && slots[which] != used.slots[i]) which++;
    printf("%swrite %u", i == 0 ? "" : ", ", which + 1);
  }
  printf(" done\n");
}

static void crashAndRecover(void) {
  uint32_t slots[WRITES];
  isHolding = true;
  for (uint32_t i = 0; i < WRITES; i++) {
    const uint32_t block = FIRST_BLOCK + i;
    slots[i] = submitWrite(block * SECTORS_PER_BLOCK, pattern(block), BLOCK);
  }
  kick();
  run();
  releaseHeld(2);
  run();
  tellDone("before", slots);

  bootAndStart();
  run();
  printf("%s: the successor writes blocks ", format);
  for (unsigned i = 0; i < heldCount; i++) printf("%s%u", i == 0 ? "" : ", ", (unsigned)(held[i].offset / BLOCK));
  printf(" again\n");
  while (heldCount > 0) releaseHeld(0);
  run();
  tellDone("after", slots);
  printf("%s: blocks %u to %u: ", format, FIRST_BLOCK, FIRST_BLOCK + WRITES - 1);
  for (uint32_t block = FIRST_BLOCK; block < FIRST_BLOCK + WRITES; block++) {
    printf("%s%s", block == FIRST_BLOCK ? "" : ", ", same(onDisk(block), pattern(block)));
  }
  printf("\n");

  bootAndStart();
  run();
  printf("%s: another successor finds %u in flight\n", format, heldCount);
  isHolding = false;
}

static void play(bool isPacked) {
  format = isPacked ? "packed" : "split";
  memset(diskBytes, 0, sizeof diskBytes);
  disk.flushes = 0;
  calls = 0;
  openGuest(&RAM, isPacked);
  memset(linear + INFLIGHT, 0, WASM_PAGE_SIZE);
  bootAndStart();
  useDisk();
  crashAndRecover();
  printf("%s: stopped, base 0x%x\n", format, stopRing());
  memset(linear + INFLIGHT, 0, WASM_PAGE_SIZE);
  playChains(&RAM, INFLIGHT, isPacked, format);
}

int main(void) {
  openMemory(INFLIGHT / WASM_PAGE_SIZE + 2);
  play(false);
  play(true);
  return 0;
}
