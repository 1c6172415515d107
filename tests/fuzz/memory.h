// Linear memory as the host lays it out: only what is mapped there is mapped here, and each access of the core is checked.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

#include "numbers.h"
#include "report.h"

/** Guest memory: regions of so many pages, each page a window of its own. */
constexpr uint32_t GUEST_REGIONS = 3;
constexpr uint32_t REGION_PAGES = 8;
constexpr uint32_t GUEST_PAGE = 4096;
constexpr uint32_t REGION_SIZE = REGION_PAGES * GUEST_PAGE;

/** Each region whole, and each of its pages with a gap behind it: the same memory twice. */
constexpr uint32_t WHOLE_PTR = GUEST_PTR;
constexpr uint32_t WHOLE_STRIDE = 0x100000;
constexpr uint32_t PAGES_PTR = GUEST_PTR + 0x1000000;
constexpr uint32_t PAGE_STRIDE = 0x10000;

/** Copies of pages, lent to the core. */
constexpr uint32_t COPIES_PTR = GUEST_PTR + 0x2000000;

constexpr uint32_t WORKER_PTR = WORKERS_PTR;
constexpr uint32_t INFLIGHT_PART = 0x10000;
constexpr uint32_t SQ_HEAD = WORKER_PTR + WORKER_RINGS;
constexpr uint32_t SQ_TAIL = SQ_HEAD + 64;
constexpr uint32_t SQ_FLAGS = SQ_HEAD + 96;
constexpr uint32_t CQ_HEAD = SQ_HEAD + 128;
constexpr uint32_t CQ_TAIL = SQ_HEAD + 192;
constexpr uint32_t CQES = SQ_HEAD + 4096;
constexpr uint32_t SQES = WORKER_PTR + WORKER_SQES;

/** Where linear memory begins for the kernel, and guest memory. Nothing else is near, so mixing them up shows. */
constexpr uint64_t MEMORY_HOST = 0x7f5600000000;

namespace memory {

extern uint8_t* base;

void open();
/** Zeroes all that was written since the last reset. */
void reset();
/** Zeroes what a worker knows, as a new process finds it. */
void resetWorker();
/** Pointers to the worker's pages that aren't as a new process finds them. */
std::vector<uint32_t> workerPages();
void markDirty(uint32_t ptr, uint32_t length);

template <typename T>
T load(uint32_t ptr) {
  T value;
  memcpy(&value, base + ptr, sizeof value);
  return value;
}

template <typename T>
void store(uint32_t ptr, T value) {
  markDirty(ptr, sizeof value);
  memcpy(base + ptr, &value, sizeof value);
}

}  // namespace memory
