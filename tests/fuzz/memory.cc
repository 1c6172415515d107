#include "memory.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace memory {

uint8_t* base;

namespace {

/** A 32-bit pointer plus a 32-bit offset reaches this far. */
constexpr size_t ADDRESS_SPACE = size_t{1} << 33;

std::vector<uint32_t> dirtyPages;
std::vector<uint8_t> isDirty(size_t{1} << 20);

void* map(void* at, size_t length, int protection, int flags, int fd, off_t offset) {
  void* result = mmap(at, length, protection, flags, fd, offset);
  if (result == MAP_FAILED) {
    perror("mmap");
    exit(1);
  }
  return result;
}

void mapPrivate(uint32_t ptr, size_t length) {
  map(base + ptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

void mapGuest(uint32_t ptr, size_t length, int fd, off_t offset) {
  map(base + ptr, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, offset);
}

void zeroPage(uint32_t page) {
  memset(base + page * size_t{GUEST_PAGE}, 0, GUEST_PAGE);
  isDirty[page] = false;
}

bool isOfWorker(uint32_t page) {
  const uint32_t ptr = page * GUEST_PAGE;
  return ptr - WORKER_PTR < WORKER_STRIDE;
}

}  // namespace

void open() {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  base = static_cast<uint8_t*>(map(nullptr, ADDRESS_SPACE, PROT_NONE, flags, -1, 0));
  mapPrivate(DEVICE_PTR, HEAD_END - DEVICE_PTR);
  mapPrivate(DIRTY_LOG_PTR, DIRTY_LOG_SIZE);
  mapPrivate(WORKER_PTR, WORKER_STRIDE);
  mapPrivate(INFLIGHT_PTR, 4 * INFLIGHT_PART);
  mapPrivate(COPIES_PTR, COPIES_MAX * GUEST_PAGE);
  const int fd = memfd_create("guest", 0);
  if (fd < 0 || ftruncate(fd, GUEST_REGIONS * REGION_SIZE) != 0) {
    perror("memfd_create");
    exit(1);
  }
  for (uint32_t region = 0; region < GUEST_REGIONS; region++) {
    mapGuest(WHOLE_PTR + region * WHOLE_STRIDE, REGION_SIZE, fd, region * REGION_SIZE);
  }
  for (uint32_t page = 0; page < GUEST_REGIONS * REGION_PAGES; page++) {
    mapGuest(PAGES_PTR + page * PAGE_STRIDE, GUEST_PAGE, fd, page * GUEST_PAGE);
  }
}

void markDirty(uint32_t ptr, uint32_t length) {
  const uint32_t last = (ptr + length - 1) / GUEST_PAGE;
  for (uint32_t page = ptr / GUEST_PAGE; page <= last; page++) {
    if (isDirty[page]) continue;
    isDirty[page] = true;
    dirtyPages.push_back(page);
  }
}

void reset() {
  for (uint32_t page : dirtyPages) zeroPage(page);
  dirtyPages.clear();
}

void resetWorker() {
  std::vector<uint32_t> others;
  for (uint32_t page : dirtyPages) {
    if (isOfWorker(page)) zeroPage(page);
    else others.push_back(page);
  }
  dirtyPages.swap(others);
}

std::vector<uint32_t> workerPages() {
  std::vector<uint32_t> pages;
  for (uint32_t page : dirtyPages) {
    if (isOfWorker(page)) pages.push_back(page * GUEST_PAGE);
  }
  return pages;
}

}  // namespace memory
