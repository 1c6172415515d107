// A kernel that does what the input says: takes SQEs, checks what holds for each of them alone, and posts CQEs.
#pragma once
#include <cstdint>
#include <vector>

#include "guest.h"

constexpr uint32_t TAG_REQUEST = 0;
constexpr uint32_t TAG_KICK = 1;
constexpr uint32_t TAG_CALL = 2;
constexpr uint32_t TAG_CONTROL = 3;
constexpr uint32_t TAG_CANCEL = 4;

struct Sqe {
  uint8_t opcode;
  uint8_t flags;
  uint16_t priority;
  int32_t fd;
  uint64_t offset;
  uint64_t address;
  uint32_t length;
  uint32_t opFlags;
  uint64_t userData;
  uint64_t rest[3];

  uint32_t tag() const { return static_cast<uint32_t>(userData >> 32); }
  uint32_t index() const { return static_cast<uint32_t>(userData); }
  /** The memory that a read or write moves, neighbours joined. */
  std::vector<Span> data() const;
};

struct Cqe {
  uint64_t userData;
  int32_t result;
};

namespace engine {

/** Taken and not completed. */
extern std::vector<Sqe> pending;
/** Of each queue of chains, the op flags that its operations may have, as bits by their value; 0: of block requests. */
extern std::vector<uint32_t> chainFlags;
/** A completion was forged for something in flight: from here on the core may have two of a kind in flight. */
extern bool isForged;

/** Whether these host addresses are what zeroes are written from; or in the bounce buffer of a request. */
bool isZeroes(const Span& span);
bool usesBounceBuffer(const Sqe& sqe);
bool isBounceBuffer(uint32_t request, const Span& span);

void setUp(uint32_t entries, uint32_t requests, uint32_t queues);
/** Takes all that was submitted; `count` is what step() said. */
std::vector<Sqe> take(uint32_t count);
bool isPending(uint32_t tag, uint32_t index);
/** Completes the operation at `at` of those pending. */
Sqe complete(size_t at, int32_t result);
void forge(uint64_t userData, int32_t result);
/** Moves completions into the ring as far as there is room; the kernel keeps the others too. */
void flush();
bool hasUnseen();

}  // namespace engine
