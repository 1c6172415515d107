#include "engine.h"

#include <algorithm>
#include <deque>

#include "core.h"
#include "device.h"
#include "dirty-log.h"

static_assert(sizeof(Sqe) == SQE_SIZE);

std::vector<Span> Sqe::data() const {
  if (opcode == IORING_OP_READ || opcode == IORING_OP_WRITE) return {{address, length}};
  std::vector<Span> spans;
  for (uint32_t i = 0; i < length; i++) {
    const uint32_t vector = static_cast<uint32_t>(address - MEMORY_HOST) + i * IOVEC_SIZE;
    spans.push_back({memory::load<uint64_t>(vector + IOVEC_BASE), memory::load<uint64_t>(vector + IOVEC_LEN)});
  }
  return spans;
}

namespace engine {

std::vector<Sqe> pending;
bool isForged;
std::vector<uint32_t> chainFlags;

bool isZeroes(const Span& span) { return Span{MEMORY_HOST + ZEROES_PTR, ZEROES_SIZE}.holds(span); }

bool isBounceBuffer(uint32_t request, const Span& span) {
  const uint64_t buffers = MEMORY_HOST + WORKER_PTR + WORKER_BOUNCE;
  return device.bounces && Span{buffers + uint64_t{request} * BOUNCE_SIZE, BOUNCE_SIZE}.holds(span);
}

bool usesBounceBuffer(const Sqe& sqe) {
  const bool isPlain = sqe.opcode == IORING_OP_READ || sqe.opcode == IORING_OP_WRITE;
  return isPlain && isBounceBuffer(sqe.index(), {sqe.address, sqe.length});
}

namespace {

uint32_t sqEntries;
uint32_t requestCount;
uint32_t queueCount;
std::deque<Cqe> backlog;

constexpr uint64_t MAX_RW_COUNT = 0x7ffff000;

uint64_t capacityBytes() {
  return device.capacitySectors > UINT64_MAX >> SECTOR_SHIFT ? UINT64_MAX : device.capacitySectors << SECTOR_SHIFT;
}

void check(bool isTrue, const Sqe& sqe, const char* what) {
  if (isTrue) return;
  fail("SQE %s: opcode %u, fd %d, offset 0x%lx, address 0x%lx, length 0x%x, op flags 0x%x, user_data 0x%lx", what,
       sqe.opcode, sqe.fd, sqe.offset, sqe.address, sqe.length, sqe.opFlags, sqe.userData);
}

bool isOfWorker(uint64_t hostAddress, uint64_t length) {
  return Span{MEMORY_HOST + WORKER_PTR, WORKER_STRIDE}.holds({hostAddress, length});
}

bool isVectored(const Sqe& sqe) {
  return sqe.opcode == IORING_OP_READV || sqe.opcode == IORING_OP_WRITEV || sqe.opcode == OP_CHAIN;
}
bool isRead(const Sqe& sqe) { return sqe.opcode == IORING_OP_READ || sqe.opcode == IORING_OP_READV; }
bool isWrite(const Sqe& sqe) { return sqe.opcode == IORING_OP_WRITE || sqe.opcode == IORING_OP_WRITEV; }

void checkVectors(const Sqe& sqe) {
  if (!isVectored(sqe)) return;
  check(sqe.length > 0 && sqe.length <= IOVECS_MAX, sqe, "has too many vectors, or none");
  check(isOfWorker(sqe.address, uint64_t{sqe.length} * IOVEC_SIZE), sqe, "has its vectors outside the worker");
}

/** Between guest memory and the file behind the bounce buffers. */
void checkCopy(const Sqe& sqe) {
  check(device.bounces && isVectored(sqe), sqe, "is no copy");
  // Of two copies of one request, which only a forged completion brings about, one changes the vectors that the other has cut.
  if (isForged) return;
  uint64_t total = 0;
  for (const Span& span : sqe.data()) {
    check(span.length > 0 && guest::isHostMemory(span.start, span.length), sqe, "copies what is no guest memory");
    total += span.length;
  }
  const Span buffer{uint64_t{sqe.index()} * BOUNCE_SIZE, BOUNCE_SIZE};
  check(sqe.offset == buffer.start && total <= buffer.length, sqe, "copies past its buffer");
  check(sqe.opFlags == 0, sqe, "copies oddly");
}

void checkTransfer(const Sqe& sqe) {
  checkVectors(sqe);
  if (sqe.fd == BOUNCE_FD) return checkCopy(sqe);
  const uint64_t mask = sqe.fd == FILE_FD ? device.directMask : 0;
  uint64_t total = 0;
  for (const Span& span : sqe.data()) {
    check(span.length > 0 && span.length <= MAX_RW_COUNT, sqe, "has a vector of an impossible length");
    const bool isOwn = (isWrite(sqe) && isZeroes(span)) || (sqe.fd == FILE_FD && isBounceBuffer(sqe.index(), span));
    check(isOwn || guest::isHostMemory(span.start, span.length), sqe, "points outside guest memory");
    check(isZeroes(span) || ((span.start | span.length) & mask) == 0, sqe, "goes past the cache misaligned");
    total += span.length;
  }
  check((sqe.offset & mask) == 0, sqe, "goes past the cache at a misaligned offset");
  check(sqe.offset <= capacityBytes() && total <= capacityBytes() - sqe.offset, sqe, "goes past the end of the disk");
  const uint32_t wanted = isWrite(sqe) && device.isWriteThrough ? RWF_DSYNC : 0;
  // A write that failed is tried without; only the oracle knows which.
  const bool mayLack = isWrite(sqe) && (device.keepsSync || isZeroes(sqe.data()[0]));
  check(sqe.opFlags == wanted || (mayLack && sqe.opFlags == 0), sqe, "has the wrong durability");
}

/** A chain as it stands; what it must hold beside that, only the oracle knows. */
void checkChain(const Sqe& sqe) {
  check(sqe.fd >= 0 && static_cast<uint32_t>(sqe.fd) < queueCount && chainFlags[sqe.fd] != 0, sqe, "is of no queue of chains");
  check(sqe.opFlags < 32 && (chainFlags[sqe.fd] >> sqe.opFlags & 1) != 0, sqe, "has flags that its queue does not ask for");
  check(sqe.length <= IOVECS_MAX && sqe.offset <= sqe.length, sqe, "has too many vectors");
  check(isOfWorker(sqe.address, uint64_t{sqe.length} * IOVEC_SIZE), sqe, "has its vectors outside the worker");
  for (const Span& span : sqe.data()) {
    check(span.length > 0 && guest::isHostMemory(span.start, span.length), sqe, "points outside guest memory");
  }
}

void checkRequest(const Sqe& sqe) {
  check(sqe.index() < requestCount, sqe, "is of no request");
  check(isForged || !isPending(TAG_REQUEST, sqe.index()), sqe, "is a request's second at a time");
  if (sqe.opcode == OP_CHAIN) return checkChain(sqe);
  const bool isCopy = sqe.fd == BOUNCE_FD && (isRead(sqe) || isWrite(sqe));
  check(sqe.fd == FILE_FD || sqe.fd == UNALIGNED_FD || isCopy, sqe, "is of another file");
  check(!device.isReadOnly || isRead(sqe) || sqe.opcode == IORING_OP_FSYNC, sqe, "changes a read-only disk");
  if (isRead(sqe) || isWrite(sqe)) return checkTransfer(sqe);
  if (sqe.opcode == IORING_OP_FSYNC) return check(sqe.fd == FILE_FD && sqe.opFlags == IORING_FSYNC_DATASYNC, sqe, "flushes oddly");
  check(sqe.opcode == IORING_OP_FALLOCATE, sqe, "is of an unknown operation");
  const bool isMarked = (sqe.length & FALLOC_FL_NO_HIDE_STALE) != 0;
  const uint32_t mode = sqe.length & ~static_cast<uint32_t>(FALLOC_FL_KEEP_SIZE | FALLOC_FL_NO_HIDE_STALE);
  check(mode == FALLOC_FL_ZERO_RANGE || (mode == FALLOC_FL_PUNCH_HOLE && device.unmaps), sqe, "has an unknown mode");
  check(!isMarked || (mode == FALLOC_FL_PUNCH_HOLE && device.marksDiscards), sqe, "is marked and no discard");
  check((sqe.length & FALLOC_FL_KEEP_SIZE) != 0, sqe, "may change the size of the disk");
  check(sqe.offset <= capacityBytes() && sqe.address <= capacityBytes() - sqe.offset, sqe, "goes past the end of the disk");
}

void checkEvent(const Sqe& sqe, uint8_t opcode) {
  check(sqe.opcode == opcode && sqe.length == 8, sqe, "is no use of an eventfd");
  check(isOfWorker(sqe.address, 8), sqe, "has its value outside the worker");
  check(isForged || !isPending(sqe.tag(), sqe.index()), sqe, "is an event's second at a time");
}

void checkOne(const Sqe& sqe) {
  check(sqe.flags == 0 && sqe.priority == 0, sqe, "has flags");
  check((sqe.rest[0] | sqe.rest[1] | sqe.rest[2]) == 0, sqe, "has more than it should");
  switch (sqe.tag()) {
    case TAG_REQUEST:
      return checkRequest(sqe);
    case TAG_KICK:
      check(sqe.index() < queueCount && sqe.fd == KICK_FD + static_cast<int>(sqe.index()), sqe, "reads another kick");
      return checkEvent(sqe, IORING_OP_READ);
    case TAG_CALL:
      check(sqe.index() < queueCount && sqe.fd == CALL_FD + static_cast<int>(sqe.index()), sqe, "writes another call");
      return checkEvent(sqe, IORING_OP_WRITE);
    case TAG_CONTROL:
      check(sqe.index() == 0 && sqe.fd == CONTROL_FD, sqe, "reads another control eventfd");
      return checkEvent(sqe, IORING_OP_READ);
    case TAG_CANCEL:
      return check(sqe.opcode == IORING_OP_ASYNC_CANCEL, sqe, "is no cancellation");
    default:
      check(false, sqe, "has an unknown tag");
  }
}

}  // namespace

void setUp(uint32_t entries, uint32_t requests, uint32_t queues) {
  sqEntries = entries;
  requestCount = requests;
  queueCount = queues;
  pending.clear();
  chainFlags.assign(queues, 0);
  backlog.clear();
  isForged = false;
}

std::vector<Sqe> take(uint32_t count) {
  const uint32_t tail = memory::load<uint32_t>(SQ_TAIL);
  uint32_t head = memory::load<uint32_t>(SQ_HEAD);
  if (tail - head != count) fail("step() said %u entries, the ring holds %u", count, tail - head);
  if (count > sqEntries) fail("%u entries in a ring of %u", count, sqEntries);
  std::vector<Sqe> taken;
  for (; head != tail; head++) {
    taken.push_back(memory::load<Sqe>(SQES + (head % sqEntries) * SQE_SIZE));
    trace("SQE user_data 0x%lx, opcode %u", taken.back().userData, taken.back().opcode);
    checkOne(taken.back());
    pending.push_back(taken.back());
  }
  memory::store<uint32_t>(SQ_HEAD, tail);
  return taken;
}

bool isPending(uint32_t tag, uint32_t index) {
  return std::any_of(pending.begin(), pending.end(),
                     [&](const Sqe& sqe) { return sqe.tag() == tag && sqe.index() == index; });
}

Sqe complete(size_t at, int32_t result) {
  const Sqe sqe = pending[at];
  pending.erase(pending.begin() + static_cast<long>(at));
  trace("complete user_data 0x%lx, result %d", sqe.userData, result);
  dirtylog::completed(sqe, result);
  backlog.push_back({sqe.userData, result});
  flush();
  return sqe;
}

void forge(uint64_t userData, int32_t result) {
  trace("forge user_data 0x%lx, result %d", userData, result);
  // There is one control eventfd, whatever the index says.
  const bool isControl = userData >> 32 == TAG_CONTROL;
  const bool isInFlight = std::any_of(pending.begin(), pending.end(), [&](const Sqe& sqe) {
    return sqe.userData == userData || (isControl && sqe.tag() == TAG_CONTROL);
  });
  // Behind other completions it may wait until there is something in flight that it fits.
  if (isInFlight || hasUnseen()) isForged = true;
  // Either this one, or the one that it forestalls, comes for a request that is over.
  if (userData >> 32 == TAG_REQUEST) core::allowStray();
  dirtylog::completedNothing();
  backlog.push_back({userData, result});
  flush();
}

void flush() {
  uint32_t tail = memory::load<uint32_t>(CQ_TAIL);
  while (!backlog.empty() && tail - memory::load<uint32_t>(CQ_HEAD) < 2 * sqEntries) {
    const uint32_t cqe = CQES + (tail % (2 * sqEntries)) * CQE_SIZE;
    memory::store<uint64_t>(cqe + CQE_USER_DATA, backlog.front().userData);
    memory::store<int32_t>(cqe + CQE_RES, backlog.front().result);
    backlog.pop_front();
    tail++;
  }
  memory::store<uint32_t>(CQ_TAIL, tail);
}

bool hasUnseen() {
  return !backlog.empty() || memory::load<uint32_t>(CQ_TAIL) != memory::load<uint32_t>(CQ_HEAD);
}

}  // namespace engine
