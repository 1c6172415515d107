// Guest memory: its regions, where the guest, the core and the kernel have them, and the windows that are mapped.
#pragma once
#include <cstdint>
#include <vector>

#include "input.h"
#include "memory.h"

struct Region {
  uint64_t gpa;
  uint64_t length;
  uint64_t hostAddress;
};

/** A range of addresses, of one kind or another. */
struct Span {
  uint64_t start;
  uint64_t length;

  bool overlaps(const Span& other) const {
    return other.start - start < length || start - other.start < other.length;
  }
  bool holds(const Span& other) const {
    return other.start >= start && other.start - start <= length && other.length <= length - (other.start - start);
  }
};

/** What the host writes for the core: a status byte, or part of the ID. */
struct HostWrite {
  uint64_t gpa;
  uint32_t length;
  /** -1 if it is no status. */
  int status;
};

namespace guest {

extern std::vector<Region> regions;

void setUp(Input& input);
/** For a worker that knows of none yet. */
void resetWindows();
/** Shows the core what is at `gpa`: by a window, for which the one mapped longest ago goes, or by a copy. */
void show(uint64_t gpa);
/** Writes what the core wants written. */
std::vector<HostWrite> writeForCore();
/** Whether these bytes are in a copy that the core may read. */
bool isCopy(uint32_t ptr, uint32_t length);
/** Guest addresses of which the core may read a copy that is not what is there by now. */
std::vector<Span> staleRanges();

/** Index of the region that holds `gpa`, or -1. */
int regionOf(uint64_t gpa);
/** Where the core finds `gpa` when its whole region is mapped. `gpa` is guest memory. */
uint32_t wholePtr(uint64_t gpa);
/** An offset into all of guest memory for a pointer to a window or a whole region that may be used, or -1. */
int64_t offsetOf(uint32_t ptr, uint32_t length, bool isRing);
uint64_t gpaOfOffset(uint32_t offset);
uint32_t offsetOfGpa(uint64_t gpa);
/** Whether the kernel may touch these bytes: guest memory, from one region or several that touch. */
bool isHostMemory(uint64_t hostAddress, uint64_t length);

void write(uint64_t gpa, const void* bytes, uint32_t length);
/** Copies what is guest memory of the range. False if not all of it is. */
bool read(uint64_t gpa, void* bytes, uint32_t length);

/** An address that is likely to be interesting. */
uint64_t pickGpa(Input& input);

}  // namespace guest
