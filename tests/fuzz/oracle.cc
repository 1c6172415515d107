#include "oracle.h"

#include <algorithm>
#include <set>

#include "device.h"
#include "dirty-log.h"
#include "limits.h"

namespace {

constexpr uint32_t SLOT_MASK = 0x7fff;
constexpr uint32_t WRAP = 0x8000;

Span gpaSpan(const GuestStore& store) { return {guest::gpaOfOffset(store.offset), store.length}; }

bool isHeld(const std::vector<Span>& parts, uint32_t offset, uint32_t length) {
  const Span access{WHOLE_PTR + (offset / REGION_SIZE) * WHOLE_STRIDE + offset % REGION_SIZE, length};
  return std::any_of(parts.begin(), parts.end(), [&](const Span& part) { return part.holds(access); });
}

bool touches(const std::vector<Span>& spans, const Span& range) {
  return std::any_of(spans.begin(), spans.end(), [&](const Span& span) { return span.overlaps(range); });
}

bool isWritable(const Chain& chain, const Span& range) {
  // Buffers may follow each other in guest memory: byte by byte, since a store may go across.
  for (uint64_t i = 0; i < range.length; i++) {
    const bool isFound = std::any_of(chain.buffers.begin(), chain.buffers.end(), [&](const Buffer& buffer) {
      return buffer.isWritable && range.start + i - buffer.gpa < buffer.length;
    });
    if (!isFound) return false;
  }
  return true;
}

std::vector<Span> joined(const std::vector<Span>& spans) {
  std::vector<Span> result;
  for (const Span& span : spans) appendSpan(result, span.start, span.length);
  return result;
}

bool isSame(const std::vector<Span>& a, const std::vector<Span>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Span& x, const Span& y) { return x.start == y.start && x.length == y.length; });
}

bool isBeginning(const std::vector<Span>& data, const std::vector<Span>& part) {
  if (part.empty() || part.size() > data.size() || part.size() > IOVECS_MAX) return false;
  if (!std::equal(part.begin(), part.end() - 1, data.begin(),
                  [](const Span& x, const Span& y) { return x.start == y.start && x.length == y.length; })) {
    return false;
  }
  const Span& last = data[part.size() - 1];
  return part.back().start == last.start && part.back().length <= last.length;
}

/** An operation takes so many vectors at the most, and then whole blocks; the rest of the data is the next one's. */
bool isFirstPart(const Expectation& expectation, const std::vector<Span>& part) {
  return expectation.isLong ? isBeginning(expectation.data, part) : isSame(part, expectation.data);
}

uint64_t lengthOf(const std::vector<Span>& spans) {
  uint64_t length = 0;
  for (const Span& span : spans) length += span.length;
  return length;
}

bool isOneOf(const std::vector<Span>& ranges, const Span& part) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const Span& range) { return range.holds(part); });
}

bool isRangeOperation(const Expectation& expectation, const Sqe& sqe) {
  // Write-through may have been switched off since the flush was first tried.
  if (sqe.opcode == IORING_OP_FSYNC) return true;
  if (sqe.opcode == IORING_OP_FALLOCATE) return isOneOf(expectation.ranges, {sqe.offset, sqe.address});
  if (sqe.opcode != IORING_OP_WRITE && sqe.opcode != IORING_OP_WRITEV) return false;
  const std::vector<Span> data = sqe.data();
  return std::all_of(data.begin(), data.end(), engine::isZeroes) &&
         isOneOf(expectation.ranges, {sqe.offset, lengthOf(data)});
}

/** Between guest memory, the bounce buffer and the disk: the first half of a piece, or the second half of one. */
bool isBounce(const Expectation& expectation, const Sqe& sqe, uint64_t piece) {
  const std::vector<Span> data = joined(sqe.data());
  const bool isCopy = sqe.fd == BOUNCE_FD;
  const bool isFirst = isCopy == (expectation.kind == Kind::Write);
  if (isFirst != (expectation.bounced == 0)) return false;
  const uint64_t length = isFirst ? piece : expectation.bounced;
  const uint64_t block = uint64_t{device.directMask} + 1;
  // Of a long one only the core knows what its operations are.
  const bool isOfLong = isFirst && expectation.isLong && lengthOf(data) % block == 0 && lengthOf(data) <= piece;
  if (lengthOf(data) != length && !isOfLong) return false;
  if (isCopy) return isBeginning(expectation.data, data);
  return engine::usesBounceBuffer(sqe) && sqe.offset == expectation.fileOffset &&
         (data[0].start - MEMORY_HOST - WORKER_PTR - WORKER_BOUNCE) % BOUNCE_SIZE == 0;
}

bool isTransfer(const Expectation& expectation, const Sqe& sqe) {
  const bool isBounced = sqe.fd == BOUNCE_FD || engine::usesBounceBuffer(sqe);
  const uint64_t piece = expectation.bouncePiece();
  if (isBounced) return (expectation.bounced > 0 || piece > 0) && isBounce(expectation, sqe, piece);
  if (expectation.bounced > 0) return false;
  if (!expectation.isLong && (piece > 0 || (sqe.fd == FILE_FD) != expectation.isDirectable())) return false;
  return sqe.offset == expectation.fileOffset && isFirstPart(expectation, joined(sqe.data()));
}

/** Stable as the driver wants it; but for copies, and for one that was tried so in vain. */
bool isAsStable(const Expectation& expectation, const Sqe& sqe) {
  if (expectation.kind != Kind::Write || sqe.fd == BOUNCE_FD) return sqe.opFlags == 0;
  return sqe.opFlags == (device.isWriteThrough && !expectation.isSyncDoubted ? RWF_DSYNC : 0);
}

bool isExpected(const Expectation& expectation, const Sqe& sqe) {
  const bool isRead = sqe.opcode == IORING_OP_READ || sqe.opcode == IORING_OP_READV;
  const bool isWrite = sqe.opcode == IORING_OP_WRITE || sqe.opcode == IORING_OP_WRITEV;
  switch (expectation.kind) {
    case Kind::Read:
    case Kind::Write:
      return (expectation.kind == Kind::Read ? isRead : isWrite) && isTransfer(expectation, sqe) &&
             isAsStable(expectation, sqe);
    case Kind::Flush:
      return sqe.opcode == IORING_OP_FSYNC;
    case Kind::Ranges:
      return isRangeOperation(expectation, sqe);
    case Kind::Chain:
      return sqe.opcode == OP_CHAIN && static_cast<uint32_t>(sqe.fd) == expectation.queue && sqe.opFlags == 0 &&
             sqe.offset == expectation.readableCount && isSame(sqe.data(), expectation.data);
    default:
      return false;
  }
}

}  // namespace

void Queue::begin() {
  taken.clear();
  isStarted = true;
  isStopping = isBroken = isSuspended = false;
  refusedAt_ = 0;
  credit = (kindFlags & QUEUE_F_CREDIT) != 0 ? 0 : CREDIT_UNLIMITED;
  usedSeen_ = ring.isPacked ? 0 : memory::load<uint16_t>(ring.device + USED_IDX);
}

std::vector<Span> Queue::deviceParts() const {
  if (ring.isPacked) return {{ring.desc, ring.size * PACKED_DESC_SIZE}, {ring.device, EVENT_SUPPRESS_SIZE}};
  return {{ring.device, ring.size * USED_ELEM_SIZE + USED_FIXED_SIZE - (ring.hasEventIdx ? 0 : 2)}};
}

std::vector<Span> Queue::parts() const {
  std::vector<Span> all = deviceParts();
  if (ring.isPacked) {
    all.push_back({ring.driver, EVENT_SUPPRESS_SIZE});
  } else {
    all.push_back({ring.desc, ring.size * DESC_SIZE});
    all.push_back({ring.driver, ring.size * AVAIL_RING_ENTRY_SIZE + AVAIL_FIXED_SIZE - (ring.hasEventIdx ? 0 : 2)});
  }
  return all;
}

void Queue::foresee() {
  foreseen_.clear();
  base_ = core::queueBase(index);
  if (isStopping || isBroken) return;
  if (ring.isPacked) foreseePacked();
  else foreseeSplit();
  if (readsStale()) isFollowed = false;
}

/** The guest has written since the core was lent a copy to read the next chain from. */
bool Queue::readsStale() const {
  const std::vector<Span> stale = guest::staleRanges();
  if (foreseen_.empty() || stale.empty()) return false;
  const Chain& next = foreseen_.front();
  return std::any_of(next.sources.begin(), next.sources.end(), [&](const Span& part) { return touches(stale, part); }) ||
         std::any_of(next.buffers.begin(), next.buffers.end(), [&](const Buffer& buffer) {
           return !buffer.isWritable && touches(stale, {buffer.gpa, buffer.length});
         });
}

void Queue::foreseeSplit() {
  const uint16_t next = static_cast<uint16_t>(base_);
  const uint16_t ahead = static_cast<uint16_t>(memory::load<uint16_t>(ring.driver + AVAIL_IDX) - next);
  if (ahead > ring.size) return;
  for (uint16_t i = 0; i < ahead; i++) {
    const uint32_t slot = static_cast<uint16_t>(next + i) % ring.size;
    foreseen_.push_back(walk(ring, memory::load<uint16_t>(ring.driver + AVAIL_RING + 2 * slot)));
    if (foreseen_.back().isBroken) return;
  }
}

void Queue::foreseePacked() {
  uint32_t slot = base_ & SLOT_MASK;
  bool wrap = (base_ & WRAP) != 0;
  uint32_t seen = 0;
  for (const Taken& one : taken) seen += one.chain.count;
  while (seen <= ring.size) {
    const uint16_t flags = memory::load<uint16_t>(ring.desc + slot * PACKED_DESC_SIZE + PACKED_DESC_FLAGS);
    if (((flags & VIRTQ_DESC_F_AVAIL) != 0) != wrap || ((flags & VIRTQ_DESC_F_USED) != 0) == wrap) return;
    foreseen_.push_back(walk(ring, slot));
    seen += foreseen_.back().count;
    // A driver that overruns its ring: what is given back in this step lies over what is taken in it.
    if (seen > ring.size) isFollowed = false;
    if (foreseen_.back().isBroken) return;
    slot += foreseen_.back().count;
    if (slot >= ring.size) {
      slot -= ring.size;
      wrap = !wrap;
    }
  }
}

/** How far the position of a base has moved, in heads or in slots. */
uint32_t Queue::positionsBetween(uint32_t from, uint32_t to) const {
  if (!ring.isPacked) return static_cast<uint16_t>(to - from);
  const uint32_t distance = (to & SLOT_MASK) + ((from ^ to) & WRAP ? ring.size : 0) - (from & SLOT_MASK);
  return distance;
}

bool Queue::hasMoved() const {
  const uint32_t mask = ring.isPacked ? SLOT_MASK | WRAP : 0xffff;
  return ((base_ ^ core::queueBase(index)) & mask) != 0;
}

void Queue::checkTaken() {
  loseTrackIfOverwritten();
  if (!isFollowed) return;
  uint32_t moved = positionsBetween(base_, core::queueBase(index));
  size_t count = 0;
  while (moved > 0) {
    if (count == foreseen_.size()) fail("queue %u: took a chain that isn't available", index);
    const Chain& chain = foreseen_[count++];
    if (chain.isBroken) fail("queue %u: took a chain that is broken, id %u", index, chain.id);
    moved -= ring.isPacked ? std::min(moved, chain.count) : 1;
  }
  take(count);
}

void Queue::spendCredit(size_t count) {
  if (credit == CREDIT_UNLIMITED) return;
  if (count > credit) fail("queue %u: took %zu chains, with credit for %u", index, count, credit);
  credit -= static_cast<uint32_t>(count);
}

void Queue::take(size_t count) {
  spendCredit(count);
  for (size_t i = 0; i < count; i++) {
    limits::take(index, isOfChains() ? Charge{} : chargeOf(foreseen_[i]));
    taken.push_back({foreseen_[i], isOfChains() ? expectChain(foreseen_[i], index, isTracked) : expect(foreseen_[i]), -1});
    trace("queue %u took chain %u: %u descriptors, %zu buffers, type %u, status %d", index, foreseen_[i].id,
          foreseen_[i].count, foreseen_[i].buffers.size(), taken.back().expectation.type, taken.back().expectation.status);
    for (const Buffer& buffer : foreseen_[i].buffers) {
      trace("  %s 0x%lx, length 0x%x", buffer.isWritable ? "writable" : "readable", buffer.gpa, buffer.length);
    }
  }
  foreseen_.erase(foreseen_.begin(), foreseen_.begin() + static_cast<long>(count));
}

/** What the core wrote in this step may have changed chains behind it, or what it said in the ring. */
void Queue::loseTrackIfOverwritten() {
  const std::vector<Span> ringParts = parts();
  for (const GuestStore& store : core::stores) {
    const Span range = gpaSpan(store);
    if (store.isData && isHeld(ringParts, store.offset, 1)) isFollowed = false;
    for (const Chain& chain : foreseen_) {
      if (touches(chain.sources, range)) isFollowed = false;
      for (const Buffer& buffer : chain.buffers) {
        if (!buffer.isWritable && Span{buffer.gpa, buffer.length}.overlaps(range)) isFollowed = false;
      }
    }
  }
}

bool Queue::allows(const Span& store) const {
  // Of a chain that is an operation the core writes nothing.
  if (!isStarted || isOfChains()) return false;
  if (!isFollowed) return true;
  const auto isAllowed = [&](const Chain& chain) { return isWritable(chain, store); };
  // An ID is written while its chain is read, before it is known to be whole.
  return std::any_of(foreseen_.begin(), foreseen_.end(), isAllowed) ||
         std::any_of(taken.begin(), taken.end(), [&](const Taken& one) { return isAllowed(one.chain); });
}

Taken* Queue::served(uint32_t slot) {
  for (Taken& one : taken) {
    if (one.slot == static_cast<int>(slot) && !one.expectation.isParked) return &one;
  }
  return nullptr;
}

Taken* Queue::asking(const Sqe& sqe) {
  for (Taken& one : taken) {
    if (one.slot < 0 && !one.expectation.isParked && isExpected(one.expectation, sqe)) return &one;
  }
  return nullptr;
}

void Queue::checkAllSubmitted() const {
  for (const Taken& one : taken) {
    if (one.slot >= 0 || one.expectation.kind == Kind::Nothing) continue;
    fail("queue %u, chain %u: taken, and nothing submitted for it", index, one.chain.id);
  }
}

void Queue::checkIdle(bool isThrottled) const {
  if (!isStarted || isStopping || isBroken || !isFollowed || foreseen_.empty() || credit == 0) return;
  if (isThrottled && isHeldBack()) return;
  fail("queue %u: the core sleeps while a chain is available", index);
}

Charge Queue::nextCharge() const {
  if (!isStarted || isStopping || isBroken || isOfChains() || foreseen_.empty() || foreseen_.front().isBroken) return {};
  return chargeOf(foreseen_.front());
}

bool Queue::isRefused() const { return limits::waitFor(nextCharge()) != 0; }

bool Queue::isHeldBack() const { return refusedAt_ != 0 && limits::now - refusedAt_ < HOLD_MAX_NS; }

bool Queue::isDue() const { return refused_.isLimited && nextCharge() == refused_ && !isRefused(); }

void Queue::noteRefusal() {
  const Charge refused = isRefused() ? nextCharge() : Charge{};
  if (!(refused == refused_)) refusedSince_ = limits::now;
  refused_ = refused;
  if (refused_.isLimited) refusedAt_ = limits::now;
}

void Queue::checkWait(uint32_t throttleUs) const {
  // A hold that began for another chain lasts as long as that wanted.
  const bool isSame = nextCharge() == refused_ && limits::now - refusedSince_ >= HOLD_MAX_NS;
  if (!isRefused() || !isSame) return;
  const uint64_t wait = limits::waitFor(nextCharge());
  const uint64_t most = std::min(std::max(wait, HOLD_MIN_NS), HOLD_MAX_NS);
  if (uint64_t{throttleUs} * 1000 >= most + 1000) {
    fail("queue %u: a wait of %u us, where the next chain may be taken in %lu ns", index, throttleUs, wait);
  }
}

bool Queue::waitsLong() const {
  return isStarted && !isOfChains() && !foreseen_.empty() && foreseen_.front().buffers.size() > IOVECS_MAX;
}

void Queue::checkUsed() {
  if (sharesIds({})) isFollowed = false;
  if (!isFollowed) return;
  if (ring.isPacked) checkUsedPacked(core::queueBase(index));
  else checkUsedSplit();
}

void Queue::checkUsedSplit() {
  const auto isIndex = [&](const GuestStore& store) {
    return !store.isData && isHeld({{ring.device + USED_IDX, 2}}, store.offset, store.length);
  };
  if (std::none_of(core::stores.begin(), core::stores.end(), isIndex)) return;
  const uint16_t idx = memory::load<uint16_t>(ring.device + USED_IDX);
  const uint16_t count = static_cast<uint16_t>(idx - usedSeen_);
  if (count > taken.size()) fail("queue %u: used more chains than were taken", index);
  // A driver that reuses heads too early: in one step the ring was gone round.
  if (count > ring.size) isFollowed = false;
  if (!isFollowed) return;
  for (; usedSeen_ != idx; usedSeen_++) {
    const uint32_t element = ring.device + USED_RING + (usedSeen_ % ring.size) * USED_ELEM_SIZE;
    giveBack(static_cast<uint16_t>(memory::load<uint32_t>(element)), memory::load<uint32_t>(element + USED_ELEM_LEN));
  }
}

/** A hostile driver's: nobody knows which of the chains in flight is given back. */
bool Queue::sharesIds(const std::vector<Chain>& others) const {
  std::set<uint16_t> ids;
  for (const Taken& one : taken) ids.insert(one.chain.id);
  for (const Chain& chain : others) ids.insert(chain.id);
  return ids.size() < taken.size() + others.size();
}

void Queue::checkUsedPacked(uint32_t base) {
  uint32_t slot = (base_ >> 16) & SLOT_MASK;
  bool wrap = (base_ >> 31) != 0;
  uint32_t left = positionsBetween(base_ >> 16, base >> 16);
  while (left > 0) {
    const uint32_t desc = ring.desc + slot * PACKED_DESC_SIZE;
    const uint16_t flags = memory::load<uint16_t>(desc + PACKED_DESC_FLAGS);
    const uint16_t lap = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
    if ((flags & lap) != (wrap ? lap : 0)) fail("queue %u: slot %u is not marked as used", index, slot);
    const uint32_t length = (flags & VIRTQ_DESC_F_WRITE) != 0 ? memory::load<uint32_t>(desc + PACKED_DESC_LEN) : 0;
    const uint32_t count = giveBack(memory::load<uint16_t>(desc + PACKED_DESC_ID), length);
    if (count > left) fail("queue %u: used chain %u has fewer slots than it had", index, slot);
    left -= count;
    slot += count;
    if (slot >= ring.size) {
      slot -= ring.size;
      wrap = !wrap;
    }
  }
}

std::vector<Taken>::iterator Queue::findOwed(uint16_t id, uint32_t length) {
  return std::find_if(taken.begin(), taken.end(), [&](const Taken& one) {
    if (one.chain.id != id || one.expectation.isParked) return false;
    if (one.slot >= 0 && engine::isPending(TAG_REQUEST, one.slot)) return false;
    if (one.expectation.kind == Kind::Ranges) return length == 1;
    return one.expectation.status != STATUS_UNKNOWN && length == one.expectation.usedLength();
  });
}

void Queue::checkStatus(const Taken& one) const {
  const Expectation& expectation = one.expectation;
  if (expectation.status < 0) return;
  int status = memory::load<uint8_t>(guest::wholePtr(expectation.statusGpa));
  uint32_t writes = 0;
  for (const GuestStore& store : core::stores) {
    if (!gpaSpan(store).overlaps({expectation.statusGpa, 1})) continue;
    writes++;
    if (store.status >= 0) status = store.status;
  }
  if (writes == 0) fail("queue %u, chain %u: used without a status", index, one.chain.id);
  if (writes == 1 && status != expectation.status) {
    fail("queue %u, chain %u: status %u, and not %d", index, one.chain.id, status, expectation.status);
  }
}

uint32_t Queue::giveBack(uint16_t id, uint32_t length) {
  const auto found = findOwed(id, length);
  if (found == taken.end()) fail("queue %u: used id %u with length %u, which isn't owed", index, id, length);
  checkStatus(*found);
  const uint32_t count = found->chain.count;
  taken.erase(found);
  return count;
}

/** Ids from where the driver has looked last up to where it finds no more. */
std::vector<uint16_t> Queue::usedUnseen() const {
  std::vector<uint16_t> ids;
  if (!ring.isPacked) {
    const uint16_t idx = memory::load<uint16_t>(ring.device + USED_IDX);
    for (uint16_t at = usedSeen_; at != idx && ids.size() < ring.size; at++) {
      ids.push_back(memory::load<uint16_t>(ring.device + USED_RING + (at % ring.size) * USED_ELEM_SIZE));
    }
    return ids;
  }
  uint32_t slot = (base_ >> 16) & SLOT_MASK;
  bool wrap = (base_ >> 31) != 0;
  while (ids.size() < ring.size) {
    const uint32_t desc = ring.desc + slot * PACKED_DESC_SIZE;
    const uint16_t flags = memory::load<uint16_t>(desc + PACKED_DESC_FLAGS);
    const uint16_t lap = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
    const uint16_t id = memory::load<uint16_t>(desc + PACKED_DESC_ID);
    const Chain* chain = find(id);
    if ((flags & lap) != (wrap ? lap : 0) || chain == nullptr) return ids;
    ids.push_back(id);
    slot += chain->count;
    if (slot < ring.size) continue;
    slot -= ring.size;
    wrap = !wrap;
  }
  return ids;
}

/** The chain of this id, taken before this step or in it. */
const Chain* Queue::find(uint16_t id) const {
  for (const Taken& one : taken) {
    if (one.chain.id == id) return &one.chain;
  }
  for (const Chain& chain : foreseen_) {
    if (chain.id == id) return &chain;
  }
  return nullptr;
}

void Queue::lookForUsed() { hadUsed_ = !usedUnseen().empty(); }

void Queue::checkUsedLogged() {
  loseTrackIfOverwritten();
  // What the driver could see before the step, it has written into its own ring; and of two chains of one id nobody knows which has ended.
  if (!isFollowed || isOfChains() || hadUsed_ || sharesIds(foreseen_)) return;
  for (uint16_t id : usedUnseen()) {
    const Chain* chain = find(id);
    if (chain == nullptr) return;
    const Expectation expectation = expect(*chain);
    if (expectation.status != STATUS_NONE && !dirtylog::hasPage(expectation.statusGpa)) {
      fail("queue %u, chain %u: the driver can see its end, and its status is not logged", index, id);
    }
    for (const Taken& one : taken) {
      if (one.chain.id != id || one.slot < 0 || dirtylog::hasCompletions(one.slot)) continue;
      fail("queue %u, chain %u: the driver can see its end, and its data are not logged", index, id);
    }
  }
}

void Queue::checkFault() {
  const int fault = core::queueFault(index);
  if (fault == 0 || isBroken) return;
  isBroken = true;
  const bool isOfChain = fault <= FAULT_HEAD_PAST_QUEUE && fault >= FAULT_ADDRESS;
  if (!isFollowed || !isOfChain) return;
  if (foreseen_.empty() || !foreseen_.front().isBroken) fail("queue %u: fault %d for a chain that is whole", index, fault);
}

namespace oracle {

namespace {

void checkStores(const std::vector<Queue>& queues) {
  for (const GuestStore& store : core::stores) {
    const auto isOfRing = [&](const Queue& queue) {
      return queue.isStarted && isHeld(queue.deviceParts(), store.offset, store.length);
    };
    const auto isOfChain = [&](const Queue& queue) { return store.isData && queue.allows(gpaSpan(store)); };
    if (std::any_of(queues.begin(), queues.end(), isOfRing)) continue;
    if (std::any_of(queues.begin(), queues.end(), isOfChain)) continue;
    fail("store of %u bytes at guest address 0x%lx, which no chain offers", store.length,
         guest::gpaOfOffset(store.offset));
  }
}

bool areFollowed(const std::vector<Queue>& queues) {
  return std::all_of(queues.begin(), queues.end(),
                     [](const Queue& queue) { return !queue.isStarted || queue.isFollowed; });
}

void loseTrack(std::vector<Queue>& queues) {
  for (Queue& queue : queues) queue.isFollowed = false;
}

Taken* findServed(std::vector<Queue>& queues, const Sqe& sqe) {
  for (Queue& queue : queues) {
    if (Taken* one = queue.served(sqe.index())) return one;
  }
  return nullptr;
}

/** Gives a request to the chain that asks for its SQE. Two queues may ask for the same: then nobody knows. */
void assign(std::vector<Queue>& queues, const Sqe& sqe) {
  Taken* found = nullptr;
  for (Queue& queue : queues) {
    Taken* one = queue.asking(sqe);
    if (one != nullptr && found != nullptr) return loseTrack(queues);
    if (one != nullptr) found = one;
  }
  if (found == nullptr) fail("an SQE of request %u, offset 0x%lx, which no chain asks for", sqe.index(), sqe.offset);
  found->slot = static_cast<int>(sqe.index());
}

void checkSubmitted(std::vector<Queue>& queues, const std::vector<Sqe>& sqes) {
  for (const Sqe& sqe : sqes) {
    if (sqe.tag() != TAG_REQUEST) continue;
    Taken* one = findServed(queues, sqe);
    if (one == nullptr) assign(queues, sqe);
    else if (one->expectation.status != STATUS_UNKNOWN || !isExpected(one->expectation, sqe)) {
      fail("chain %u: opcode %u at offset 0x%lx doesn't go on with it", one->chain.id, sqe.opcode, sqe.offset);
    }
    if (!areFollowed(queues)) return;
    if (one == nullptr) one = findServed(queues, sqe);
    if (sqe.fd != BOUNCE_FD) one->expectation.isSyncAsked = (sqe.opFlags & RWF_DSYNC) != 0 && sqe.opcode != IORING_OP_FSYNC;
  }
  for (const Queue& queue : queues) queue.checkAllSubmitted();
}

/** Rings over each other change each other. */
bool areApart(const std::vector<Queue>& queues) {
  std::vector<Span> all;
  for (const Queue& queue : queues) {
    if (!queue.isStarted) continue;
    for (const Span& part : queue.parts()) {
      if (touches(all, part)) return false;
    }
    for (const Span& part : queue.parts()) all.push_back(part);
  }
  return true;
}

/** Before the step, whether the core said that no flush can be believed. */
bool hadSyncFailed;

void checkSync(const std::vector<Queue>& queues, uint32_t outcome) {
  const bool hasFailed = coreSaysSyncFailed();
  const bool isTold = (outcome & STEP_SYNC_FAILED) != 0;
  if (hasFailed < hadSyncFailed || isTold != (hasFailed && !hadSyncFailed)) fail("a failed flush told wrongly, or forgotten");
  if (!areFollowed(queues)) device.hasSyncFailed = hasFailed;
  else if (hasFailed && !device.hasSyncFailed) fail("no flush has failed, and none is believed");
  else if (device.hasSyncFailed && !hasFailed && !engine::hasUnseen()) fail("a failed flush was forgotten");
}

}  // namespace

void beginQueue(const std::vector<Queue>& queues, Queue& queue) {
  // Nobody has followed what the others' flushes came to.
  const auto isStarted = [](const Queue& other) { return other.isStarted; };
  if (std::none_of(queues.begin(), queues.end(), isStarted)) device.hasSyncFailed = coreSaysSyncFailed();
  queue.begin();
}

void checkLimits(const std::vector<Queue>& queues) {
  const auto hasMoved = [](const Queue& queue) { return queue.isStarted && queue.hasMoved(); };
  if (areFollowed(queues)) limits::checkStep();
  else limits::resync(std::any_of(queues.begin(), queues.end(), hasMoved));
}

bool isEngineIdle() {
  const auto isRequest = [](const Sqe& sqe) { return sqe.tag() == TAG_REQUEST; };
  return !engine::hasUnseen() && std::none_of(engine::pending.begin(), engine::pending.end(), isRequest);
}

/**
 * Once the wait is over that a step has asked for, a queue that was held back goes on: it takes a chain, or finds a ring that is
 * broken. Whose wait it was only the core knows, so that is said where each of them has a chain that no limit refuses any more.
 */
bool isLate(const std::vector<Queue>& queues, uint32_t outcome) {
  const bool hasGoneOn = limits::takenCount() != 0 || (outcome & STEP_BROKEN) != 0;
  if (!limits::isWaitOver() || hasGoneOn || !isEngineIdle()) return false;
  const auto isHeld = [](const Queue& queue) { return queue.isHeldBack(); };
  const auto isDue = [](const Queue& queue) { return !queue.isHeldBack() || queue.isDue(); };
  return std::any_of(queues.begin(), queues.end(), isHeld) && std::all_of(queues.begin(), queues.end(), isDue);
}

void checkWaits(std::vector<Queue>& queues, uint32_t outcome) {
  const bool isThrottled = (outcome & STEP_THROTTLED) != 0;
  const uint32_t throttleUs = isThrottled ? core::throttleUs() : 0;
  if (isThrottled && (outcome & STEP_WAIT) != 0 && areFollowed(queues) && limits::areSettled()) {
    for (const Queue& queue : queues) queue.checkWait(throttleUs);
    if (isLate(queues, outcome)) fail("a wait for a limit is over, and nothing is taken");
  }
  for (Queue& queue : queues) queue.noteRefusal();
  limits::checkWait(isThrottled, throttleUs);
}

void beforeStep(std::vector<Queue>& queues, bool isRaced) {
  limits::beforeStep();
  std::vector<Span> ringParts;
  for (const Queue& queue : queues) {
    if (!queue.isStarted) continue;
    const std::vector<Span> parts = queue.deviceParts();
    ringParts.insert(ringParts.end(), parts.begin(), parts.end());
  }
  dirtylog::beforeStep(ringParts);
  hadSyncFailed = coreSaysSyncFailed();
  if (isRaced || engine::isForged || !areFollowed(queues) || !areApart(queues)) loseTrack(queues);
  for (Queue& queue : queues) {
    if (!queue.isStarted) continue;
    queue.foresee();
    queue.lookForUsed();
  }
}

void afterStep(std::vector<Queue>& queues, uint32_t outcome) {
  for (Queue& queue : queues) {
    if (queue.isStarted) queue.checkTaken();
  }
  if (!areFollowed(queues)) loseTrack(queues);
  checkLimits(queues);
  dirtylog::afterStep();
  checkStores(queues);
  for (Queue& queue : queues) {
    if (!queue.isStarted) continue;
    queue.checkUsed();
    queue.checkFault();
  }
  const std::vector<Sqe> sqes = engine::take(outcome & STEP_SUBMIT_MASK);
  checkWaits(queues, outcome);
  if (areFollowed(queues)) checkSubmitted(queues, sqes);
  checkSync(queues, outcome);
}

void afterCrash(std::vector<Queue>& queues) {
  limits::resync(true);
  if (!dirtylog::canTell() || !areFollowed(queues)) return;
  for (Queue& queue : queues) {
    if (queue.isStarted) queue.checkUsedLogged();
  }
}

void advance(std::vector<Queue>& queues, const Sqe& sqe, int32_t result) {
  for (Queue& queue : queues) {
    if (Taken* one = queue.served(sqe.index())) one->expectation.advance(sqe, result);
  }
}

}  // namespace oracle
