#include "guest.h"

#include <algorithm>

namespace guest {

std::vector<Region> regions;

namespace {

/** Low memory, memory above 4 GiB, a region that touches it, one that crosses 4 GiB, the end of all addresses. */
constexpr uint64_t GPAS[] = {
    0, 0x140000000, 0x140000000 + REGION_SIZE, 0x100000000 - GUEST_PAGE, 0 - uint64_t{REGION_SIZE}, 0x1000,
};

/** Two that touch, so that I/O vectors merge; one that doesn't. */
constexpr uint64_t HOSTS[] = {0x7f1200000000, 0x7f1200000000 + REGION_SIZE, 0x7f3400000000};

bool isWindowed;
/** There are copies in place of windows. */
bool lendsCopies;
uint32_t copyCount;
uint32_t windowCount;
uint32_t nextWindow;
std::vector<int> windows;

void writeEntry(uint32_t table, uint32_t index, uint64_t gpa, uint64_t length, uint64_t target) {
  const uint32_t entry = table + index * TABLE_ENTRY_SIZE;
  memory::store<uint64_t>(entry + ENTRY_GPA, gpa);
  memory::store<uint64_t>(entry + ENTRY_LENGTH, length);
  memory::store<uint64_t>(entry + ENTRY_TARGET, target);
}

bool isApart(uint64_t gpa, uint64_t length) {
  return std::all_of(regions.begin(), regions.end(), [&](const Region& region) {
    return gpa - region.gpa >= region.length && region.gpa - gpa >= length;
  });
}

void addRegion(Input& input) {
  const uint64_t gpa = input.pick(GPAS);
  const uint64_t length = REGION_SIZE - (input.below(4) == 0 && !isWindowed ? input.u16() % GUEST_PAGE : 0);
  if (!isApart(gpa, length)) return;
  const uint32_t index = static_cast<uint32_t>(regions.size());
  regions.push_back({gpa, length, HOSTS[index]});
  writeEntry(REGION_TABLE_PTR, index, gpa, length, HOSTS[index]);
}

uint32_t currentCopies() {
  const uint64_t first = memory::load<uint64_t>(WORKER_PTR + WORKER_COPIES + ENTRY_LENGTH);
  return first == 0 ? 0 : copyCount;
}

void lend(int region, uint32_t page) {
  const uint32_t index = currentCopies();
  const uint32_t copies = WORKER_PTR + WORKER_COPIES;
  const uint64_t gpa = regions[region].gpa + page * GUEST_PAGE;
  for (uint32_t i = 0; i < index; i++) {
    if (memory::load<uint64_t>(copies + i * TABLE_ENTRY_SIZE + ENTRY_GPA) == gpa) {
      fail("a copy was asked for at 0x%lx, which one shows", gpa);
    }
  }
  if (index == COPIES_MAX) return;
  const uint32_t ptr = COPIES_PTR + index * GUEST_PAGE;
  memory::markDirty(ptr, GUEST_PAGE);
  memcpy(memory::base + ptr, memory::base + wholePtr(gpa), GUEST_PAGE);
  copyCount = index + 1;
  if (copyCount < COPIES_MAX) writeEntry(copies, copyCount, 0, 0, 0);
  writeEntry(copies, index, gpa, GUEST_PAGE, ptr);
}

}  // namespace

void setUp(Input& input) {
  regions.clear();
  isWindowed = input.below(3) == 0;
  windowCount = 1 + input.below(6);
  lendsCopies = isWindowed && windowCount > 3;
  const uint32_t count = 1 + input.below(GUEST_REGIONS);
  for (uint32_t i = 0; i < count; i++) addRegion(input);
}

void resetWindows() {
  windows.assign(windowCount, -1);
  nextWindow = 0;
  if (isWindowed) return;
  for (uint32_t i = 0; i < regions.size(); i++) {
    writeEntry(WORKER_PTR + WORKER_WINDOW_TABLE, i, regions[i].gpa, regions[i].length, WHOLE_PTR + i * WHOLE_STRIDE);
  }
}

void show(uint64_t gpa) {
  const int region = regionOf(gpa);
  if (region < 0) fail("a window was asked for at 0x%lx, which is no guest memory", gpa);
  const uint32_t page = static_cast<uint32_t>((gpa - regions[region].gpa) / GUEST_PAGE);
  const int global = static_cast<int>(region * REGION_PAGES + page);
  if (lendsCopies) return lend(region, page);
  const bool isShown = std::find(windows.begin(), windows.end(), global) != windows.end();
  if (!isWindowed || isShown) fail("a window was asked for at 0x%lx, which one shows", gpa);
  windows[nextWindow] = global;
  writeEntry(WORKER_PTR + WORKER_WINDOW_TABLE, nextWindow, regions[region].gpa + page * GUEST_PAGE, GUEST_PAGE,
             PAGES_PTR + global * PAGE_STRIDE);
  nextWindow = (nextWindow + 1) % windowCount;
}

bool isCopy(uint32_t ptr, uint32_t length) {
  const uint32_t copy = (ptr - COPIES_PTR) / GUEST_PAGE;
  return ptr >= COPIES_PTR && copy < currentCopies() && (ptr - COPIES_PTR) % GUEST_PAGE + length <= GUEST_PAGE;
}

std::vector<Span> staleRanges() {
  std::vector<Span> ranges;
  const uint32_t copies = WORKER_PTR + WORKER_COPIES;
  for (uint32_t i = 0; i < currentCopies(); i++) {
    const uint64_t gpa = memory::load<uint64_t>(copies + i * TABLE_ENTRY_SIZE + ENTRY_GPA);
    const uint8_t* copy = memory::base + COPIES_PTR + i * GUEST_PAGE;
    const uint8_t* now = memory::base + wholePtr(gpa);
    if (memcmp(copy, now, GUEST_PAGE) == 0) continue;
    for (uint32_t at = 0; at < GUEST_PAGE; at++) {
      if (copy[at] == now[at]) continue;
      if (!ranges.empty() && ranges.back().start + ranges.back().length == gpa + at) ranges.back().length++;
      else ranges.push_back({gpa + at, 1});
    }
  }
  return ranges;
}

std::vector<HostWrite> writeForCore() {
  std::vector<HostWrite> written;
  for (uint32_t i = 0; i < GUEST_WRITES_MAX; i++) {
    const uint32_t entry = WORKER_PTR + WORKER_GUEST_WRITES + i * TABLE_ENTRY_SIZE;
    const uint64_t length = memory::load<uint64_t>(entry + ENTRY_LENGTH);
    if (length == 0) break;
    const uint64_t gpa = memory::load<uint64_t>(entry + ENTRY_GPA);
    const uint64_t source = memory::load<uint64_t>(entry + ENTRY_TARGET);
    const int region = regionOf(gpa);
    if (region < 0 || !Span{regions[region].gpa, regions[region].length}.holds({gpa, length})) {
      fail("%lu bytes to be written at 0x%lx, which is no guest memory", length, gpa);
    }
    const bool isStatus = length == 1 && Span{WORKER_PTR, WORKER_STRIDE}.holds({source, length});
    if (!isStatus && !Span{DEVICE_PTR + DEVICE_ID, VIRTIO_BLK_ID_BYTES}.holds({source, length})) fail("%lu bytes to be written from 0x%lx", length, source);
    write(gpa, memory::base + source, static_cast<uint32_t>(length));
    const int status = isStatus ? memory::load<uint8_t>(static_cast<uint32_t>(source)) : -1;
    written.push_back({gpa, static_cast<uint32_t>(length), status});
  }
  return written;
}

int regionOf(uint64_t gpa) {
  for (size_t i = 0; i < regions.size(); i++) {
    if (gpa - regions[i].gpa < regions[i].length) return static_cast<int>(i);
  }
  return -1;
}

uint32_t wholePtr(uint64_t gpa) {
  const int region = regionOf(gpa);
  return WHOLE_PTR + region * WHOLE_STRIDE + static_cast<uint32_t>(gpa - regions[region].gpa);
}

int64_t offsetOf(uint32_t ptr, uint32_t length, bool isRing) {
  if (ptr >= PAGES_PTR) {
    const uint32_t page = (ptr - PAGES_PTR) / PAGE_STRIDE;
    const uint32_t offset = (ptr - PAGES_PTR) % PAGE_STRIDE;
    if (offset + length > GUEST_PAGE) return -1;
    if (std::find(windows.begin(), windows.end(), static_cast<int>(page)) == windows.end()) return -1;
    return page * GUEST_PAGE + offset;
  }
  const uint32_t region = (ptr - WHOLE_PTR) / WHOLE_STRIDE;
  const uint32_t offset = (ptr - WHOLE_PTR) % WHOLE_STRIDE;
  if (region >= regions.size() || offset + uint64_t{length} > regions[region].length) return -1;
  if (isWindowed && !isRing) return -1;
  return region * REGION_SIZE + offset;
}

uint32_t offsetOfGpa(uint64_t gpa) {
  const int region = regionOf(gpa);
  return region * REGION_SIZE + static_cast<uint32_t>(gpa - regions[region].gpa);
}

uint64_t gpaOfOffset(uint32_t offset) {
  return regions[offset / REGION_SIZE].gpa + offset % REGION_SIZE;
}

bool isHostMemory(uint64_t hostAddress, uint64_t length) {
  while (length > 0) {
    const auto region = std::find_if(regions.begin(), regions.end(), [&](const Region& candidate) {
      return hostAddress - candidate.hostAddress < candidate.length;
    });
    if (region == regions.end()) return false;
    const uint64_t part = std::min(length, region->hostAddress + region->length - hostAddress);
    hostAddress += part;
    length -= part;
  }
  return true;
}

void write(uint64_t gpa, const void* bytes, uint32_t length) {
  for (uint32_t i = 0; i < length; i++) {
    if (regionOf(gpa + i) >= 0) memory::store<uint8_t>(wholePtr(gpa + i), static_cast<const uint8_t*>(bytes)[i]);
  }
}

bool read(uint64_t gpa, void* bytes, uint32_t length) {
  for (uint32_t i = 0; i < length; i++) {
    if (regionOf(gpa + i) < 0) return false;
    static_cast<uint8_t*>(bytes)[i] = memory::load<uint8_t>(wholePtr(gpa + i));
  }
  return true;
}

uint64_t pickGpa(Input& input) {
  const uint8_t kind = input.byte();
  const Region& region = regions[kind % regions.size()];
  switch (kind >> 4) {
    case 0:
      return input.u64();
    case 1:
      return region.gpa + region.length - input.below(64);
    case 2:
      return region.gpa - input.below(64);
    case 3:
      return region.gpa + (1 + input.below(REGION_PAGES)) * GUEST_PAGE - input.below(32);
    default:
      return region.gpa + input.u16() % REGION_SIZE;
  }
}

}  // namespace guest
