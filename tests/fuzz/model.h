// What a chain means, worked out from the specification and not from the core: the core's SQEs and statuses are held to it.
#pragma once
#include <cstdint>
#include <vector>

#include "engine.h"
#include "guest.h"

struct Ring {
  bool isPacked;
  bool hasEventIdx;
  uint32_t size;
  /** Pointers. */
  uint32_t desc;
  uint32_t driver;
  uint32_t device;
};

struct Buffer {
  uint64_t gpa;
  uint32_t length;
  bool isWritable;
};

struct Chain {
  uint16_t id = 0;
  uint32_t count = 0;
  bool isBroken = false;
  /** Some of its buffers are writable and not empty. */
  bool hasWritable = false;
  /** Those before the fault, if there is one. */
  std::vector<Buffer> buffers;
  /** Guest memory that says what the chain is, but for a packed ring's own descriptors. */
  std::vector<Span> sources;
};

/** Where a pointer to a part of a ring is for the guest. */
uint64_t gpaOfRing(uint32_t ptr);

/** The chain whose first descriptor is at `position`. */
Chain walk(const Ring& ring, uint32_t position);

/** What limits count of a block request. Of flushes and IDs, and of what no disk serves, nothing. */
struct Charge {
  bool isLimited = false;
  bool isRead = false;
  uint64_t bytes = 0;

  bool operator==(const Charge& other) const {
    return isLimited == other.isLimited && isRead == other.isRead && bytes == other.bytes;
  }
};

Charge chargeOf(const Chain& chain);

constexpr int STATUS_UNKNOWN = -1;
constexpr int STATUS_NONE = -2;

enum class Kind { Read, Write, Flush, Ranges, Chain, Nothing };

/** The operation that a request starts, or with Kind::Nothing the status it ends with at once. */
struct Expectation {
  Kind kind = Kind::Nothing;
  int status = STATUS_UNKNOWN;
  uint64_t fileOffset = 0;
  uint64_t remaining = 0;
  /** Host addresses; neighbours that touch are one. */
  std::vector<Span> data;
  /** They were more than one operation takes. */
  bool isLong = false;
  /** What is in the bounce buffer and goes on from there, in bytes. */
  uint64_t bounced = 0;
  /** A write that is to be stable, as it was submitted last; one that failed as such, and is tried without. */
  bool isSyncAsked = false;
  bool isSyncDoubted = false;
  /** Byte ranges of the disk. */
  std::vector<Span> ranges;
  uint64_t statusGpa = 0;
  uint64_t inBytes = 0;
  uint32_t type = 0;
  uint32_t retries = 0;
  /** Of a chain that is an operation: its queue, how many of its vectors are readable, and the length it is used with. */
  uint32_t queue = 0;
  size_t readableCount = 0;
  uint32_t usedBytes = 0;
  /** Its records outlive a stop, so it may be parked; and it has been. */
  bool mayPark = false;
  bool isParked = false;

  /** What the used element says, once the status is known. */
  uint32_t usedLength() const;
  /** The first operation of so many bytes goes through the bounce buffer; 0: none does. */
  uint64_t bouncePiece() const;
  /** Whether O_DIRECT takes all that is left. */
  bool isDirectable() const;
  /** Takes a result of the kernel's. */
  void advance(const Sqe& sqe, int32_t result);

 private:
  bool takesRetry(int32_t result);
  void advanceBounce(const Sqe& sqe, int32_t result);
  void advanceMoved(int32_t result);
};

Expectation expect(const Chain& chain);
/** The same of a chain in a queue of chains. */
Expectation expectChain(const Chain& chain, uint32_t queue, bool mayPark);

void appendSpan(std::vector<Span>& spans, uint64_t start, uint64_t length);
