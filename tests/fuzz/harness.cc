// One input: a disk, a guest, up to two rings, and a script of what driver, kernel, front-end and fate do to them.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "core.h"
#include "device.h"
#include "dirty-log.h"
#include "driver.h"
#include "engine.h"
#include "input.h"
#include "limits.h"
#include "oracle.h"

namespace {

constexpr uint32_t QUEUES = 2;
constexpr uint32_t ACTIONS_MAX = 200;
/** Steps within which every queue stops, once the kernel has answered everything: all that is in flight, and windows. */
constexpr uint32_t STOP_STEPS_MAX = 2000;

constexpr uint32_t SQ_SIZES[] = {64, 8, 2, 1};
constexpr uint32_t REQUESTS[] = {8, 2, 1, 32};
constexpr int32_t ERRNOS[] = {-5, -EINTR, -EAGAIN, -EINVAL, -EOPNOTSUPP, -ECANCELED, -28, INT32_MIN, INT32_MAX,
                              CHAIN_PARKED};
/** A block device; or chains, by what becomes of leftovers, and of a device that asks for them. */
constexpr uint32_t KIND_FLAGS[] = {QUEUE_F_CHAINS, QUEUE_F_CHAINS | QUEUE_F_RECOVER_FAIL, QUEUE_F_CHAINS | QUEUE_F_RECOVER_FORGET,
                                   QUEUE_F_CHAINS | QUEUE_F_CREDIT};

/** What the operations of a queue may be flagged with, as bits by value; none if they are no chains. */
uint32_t allowedChainFlags(const Queue& queue) {
  if (!queue.isOfChains()) return 0;
  if ((queue.kindFlags & QUEUE_F_RECOVER_FORGET) != 0) return 1;
  const bool mustFail = (queue.kindFlags & QUEUE_F_RECOVER_FAIL) != 0;
  return 1 | 1u << (mustFail ? CHAIN_F_LEFTOVER | CHAIN_F_FAIL : CHAIN_F_LEFTOVER);
}

class Run {
 public:
  explicit Run(Input& input) : input_(input), queues_(QUEUES), drivers_(QUEUES) {}

  void run();

 private:
  Input& input_;
  std::vector<Queue> queues_;
  std::vector<Driver> drivers_;
  uint32_t requests_ = 0;
  uint32_t sqEntries_ = 0;
  uint32_t entries_[QUEUES] = {};
  uint32_t startBase_[QUEUES] = {};

  void boot();
  void setLogging(bool isOn);
  void act();
  void step(uint32_t crashAt, const Race& race);
  void stepAwake();
  void writeForCore(uint32_t outcome);
  void settle(uint32_t outcome);
  void crash();
  void start(Queue& queue);
  void startAt(Queue& queue, uint32_t base);
  void declareParts();
  void stop(Queue& queue);
  void completeOne();
  void answer(size_t at, int32_t result);
  void cancel(size_t at, bool isInTime);
  void kick(Queue& queue);
  void forge();
  void poke();
  void pokeInflight();
  void changeSettings();
  void changeCredit(Queue& queue);
  void changeLog();
  void giveCredit(Queue& queue, uint32_t count);
  void stopAll();
  void answerAll();
  Race readRace();
  uint32_t partOf(const Queue& queue) const { return INFLIGHT_PTR + queue.index * INFLIGHT_PART; }
};

void Run::run() {
  memory::reset();
  setUpDevice(input_);
  guest::setUp(input_);
  sqEntries_ = input_.pick(SQ_SIZES);
  requests_ = input_.pick(REQUESTS);
  device.requestCount = requests_;
  boot();
  setLogging(device.isMoved);
  for (uint32_t i = 0; i < QUEUES; i++) {
    Queue& queue = queues_[i];
    queue.index = i;
    if (!drivers_[i].layOut(input_, i, queue.ring)) return;
    const uint8_t tracking = input_.byte();
    entries_[i] = (tracking & 1) != 0 ? queue.ring.size + (tracking >> 1) % 4 : 0;
    if ((tracking & 8) != 0) queue.kindFlags = KIND_FLAGS[(tracking >> 4) & 3];
    if ((tracking & 0xc0) == 0xc0) pokeInflight();
    if (i == 0 || input_.flag()) start(queue);
  }
  for (uint32_t i = 0; i < ACTIONS_MAX && !input_.isEmpty(); i++) act();
  stopAll();
}

void Run::boot() {
  engine::setUp(sqEntries_, requests_, QUEUES);
  core::ringParts.clear();
  core::inflightParts.clear();
  resetDevice();
  core::boot(QUEUES, requests_, sqEntries_, CONTROL_FD);
  guest::resetWindows();
  dirtylog::boot();
}

void Run::setLogging(bool isOn) {
  dirtylog::setOn(isOn);
  core::setLogging(isOn);
}

void Run::act() {
  const uint8_t action = input_.byte();
  Queue& queue = queues_[(action >> 5) % QUEUES];
  Driver& driver = drivers_[queue.index];
  trace("action %u, queue %u", action % 20, queue.index);
  switch (action % 20) {
    case 0:
    case 1:
    case 2:
      return driver.addRequest(input_, queue.ring);
    case 3:
      return step(0, {});
    case 4:
      limits::sleep();
      return step(0, {});
    case 5:
      return stepAwake();
    case 6:
    case 7:
    case 8:
      return completeOne();
    case 9:
      giveCredit(queue, 1);
      return kick(queue);
    case 10:
      return driver.writeDescriptor(input_, queue.ring);
    case 11:
      return driver.publish(input_, queue.ring);
    case 12:
      return driver.writeWish(input_, queue.ring);
    case 13:
      return poke();
    case 14:
      return step(0, readRace());
    case 15:
      return step(1 + input_.u16() % 1024, {});
    case 16:
      return stop(queue);
    case 17:
      return start(queue);
    case 18:
      return forge();
    default:
      return changeSettings();
  }
}

void Run::step(uint32_t crashAt, const Race& race) {
  oracle::beforeStep(queues_, race.loads != 0);
  uint32_t outcome = 0;
  if (!core::step(outcome, false, crashAt, race)) return crash();
  trace("step: outcome 0x%x", outcome);
  writeForCore(outcome);
  oracle::afterStep(queues_, outcome);
  settle(outcome);
}

/**
 * A host that polls: it steps again as long as there is news. What the core can do nothing about must be none, or the
 * host would never enter the engine. A queue that writes over its own rings may have some after each step, for a while.
 */
void Run::stepAwake() {
  uint32_t outcome = 0;
  for (uint32_t steps = 0; steps == 0 || ((outcome & STEP_WAIT) != 0 && core::news() != NEWS_NONE); steps++) {
    if (steps == STOP_STEPS_MAX) fail("nothing to do, and yet there is news");
    oracle::beforeStep(queues_, false);
    core::step(outcome, true, 0, {});
    trace("step, awake: outcome 0x%x", outcome);
    writeForCore(outcome);
    oracle::afterStep(queues_, outcome);
    settle(outcome);
  }
}

/** The core has asked for these stores in this step; a status counts for the step that gives its chain back, too. */
void Run::writeForCore(uint32_t outcome) {
  if ((outcome & STEP_GUEST_WRITES) == 0) return;
  for (const HostWrite& write : guest::writeForCore()) {
    const GuestStore store{guest::offsetOfGpa(write.gpa), write.length, true, write.status};
    dirtylog::wroteForCore(store.offset, store.length);
    core::stores.push_back(store);
    if (write.status >= 0) core::storesOfHost.push_back(store);
  }
}

void Run::settle(uint32_t outcome) {
  if ((outcome & STEP_WINDOW_MISS) != 0) guest::show(core::missedGpa());
  if ((outcome & STEP_WAIT) != 0) {
    uint32_t inFlight = 0;
    for (const Sqe& sqe : engine::pending) inFlight += sqe.tag() == TAG_REQUEST;
    // A completion that the kernel still keeps holds its request.
    if (inFlight < requests_ && !engine::hasUnseen()) {
      // A long one waits for more than one request to end, and keeps the others from what becomes free.
      const bool isLong = queues_[0].waitsLong() || queues_[1].waitsLong();
      for (const Queue& queue : queues_) {
        // One that has chains may leave a free request to one that has none.
        const bool isHeldBack = (queue.kindFlags & QUEUE_F_CREDIT) != 0 && requests_ - inFlight < QUEUES;
        if (!isHeldBack && (!isLong || inFlight == 0)) queue.checkIdle((outcome & STEP_THROTTLED) != 0);
      }
    }
  }
  for (Queue& queue : queues_) {
    if (!queue.isStopping || !core::isStopped(queue.index)) continue;
    const bool isIdle = std::all_of(queue.taken.begin(), queue.taken.end(),
                                    [](const Taken& one) { return one.expectation.isParked; });
    if (queue.isFollowed && !isIdle) fail("queue %u: stopped with chains in flight", queue.index);
    queue.isStarted = queue.isStopping = false;
    queue.taken.clear();
    declareParts();
  }
  engine::flush();
}

/** The process dies, and with it all that the kernel had; a successor goes on, told what a front-end would tell it. */
void Run::crash() {
  oracle::afterCrash(queues_);
  bool wasStarted[QUEUES];
  for (Queue& queue : queues_) {
    wasStarted[queue.index] = queue.isStarted;
    queue.isStarted = false;
  }
  boot();
  core::setLogging(dirtylog::isOn);
  for (Queue& queue : queues_) {
    if (!wasStarted[queue.index]) continue;
    // After a crash QEMU sends used.idx for a split ring, and for a packed one the base of long ago.
    const uint32_t used = memory::load<uint16_t>(queue.ring.device + USED_IDX);
    startAt(queue, queue.ring.isPacked ? startBase_[queue.index] : used);
  }
}

/** A driver that begins anew, or goes on where it was. */
void Run::start(Queue& queue) {
  if (queue.isStarted) return;
  const bool goesOn = input_.flag();
  const uint32_t base = goesOn ? core::queueBase(queue.index) : drivers_[queue.index].start(input_, queue.ring);
  startAt(queue, base);
}

void Run::startAt(Queue& queue, uint32_t base) {
  const uint32_t entries = entries_[queue.index];
  const uint32_t part = entries == 0 ? 0 : partOf(queue);
  const bool isFresh = entries == 0 || memory::load<uint16_t>(part + INFLIGHT_REGION_VERSION) == 0;
  // As the host checks it: SET_VRING_BASE.
  const uint32_t slotMask = 0x7fff;
  const bool isBase = queue.ring.isPacked
                          ? (base & slotMask) < queue.ring.size && ((base >> 16) & slotMask) < queue.ring.size
                          : base <= 0xffff;
  if (!isBase) base = queue.ring.isPacked ? 0x80008000 : 0;
  startBase_[queue.index] = base;
  queue.isTracked = entries != 0;
  engine::chainFlags[queue.index] = allowedChainFlags(queue);
  oracle::beginQueue(queues_, queue);
  queue.isFollowed = isFresh;
  declareParts();
  trace("start queue %u: %s, size %u, base 0x%x, %u entries", queue.index, queue.ring.isPacked ? "packed" : "split",
        queue.ring.size, base, entries);
  const uint32_t flags = (queue.ring.isPacked ? QUEUE_F_PACKED : 0) | (queue.ring.hasEventIdx ? QUEUE_F_EVENT_IDX : 0) |
                         queue.kindFlags;
  core::placeRing(queue.index, gpaOfRing(queue.ring.desc), gpaOfRing(queue.ring.device));
  core::trackInflight(queue.index, part, entries);
  core::startQueue(queue.index, queue.ring.size, flags, queue.ring.desc, queue.ring.driver, queue.ring.device, base,
                   KICK_FD + static_cast<int>(queue.index), CALL_FD + static_cast<int>(queue.index));
}

void Run::declareParts() {
  core::ringParts.clear();
  core::inflightParts.clear();
  for (const Queue& queue : queues_) {
    if (!queue.isStarted) continue;
    for (const Span& part : queue.parts()) core::ringParts.push_back(part);
    const uint32_t entries = entries_[queue.index];
    if (entries == 0) continue;
    const uint32_t length = queue.ring.isPacked ? PACKED_ENTRIES + entries * PACKED_ENTRY_SIZE
                                                : SPLIT_ENTRIES + entries * SPLIT_ENTRY_SIZE;
    core::inflightParts.push_back({partOf(queue), length});
  }
}

void Run::stop(Queue& queue) {
  if (!queue.isStarted || queue.isStopping) return;
  queue.isStopping = true;
  if (input_.below(3) != 0) return core::stopQueue(queue.index);
  if (entries_[queue.index] != 0) queue.isFollowed = false;
  core::suspendQueue(queue.index);
}

void Run::completeOne() {
  if (engine::pending.empty()) return;
  const size_t at = input_.byte() % engine::pending.size();
  const Sqe& sqe = engine::pending[at];
  if (sqe.tag() == TAG_CANCEL) return cancel(at, input_.flag());
  const bool isTransfer = sqe.tag() == TAG_REQUEST && sqe.opcode != IORING_OP_FSYNC && sqe.opcode != IORING_OP_FALLOCATE;
  uint64_t whole = sqe.tag() == TAG_REQUEST ? 0 : 8;
  if (isTransfer) {
    for (const Span& span : sqe.data()) whole += span.length;
  }
  const uint8_t kind = input_.byte();
  if (kind < 0xa0) return answer(at, static_cast<int32_t>(whole));
  if (kind < 0xd0) return answer(at, static_cast<int32_t>(whole == 0 ? 1 : 1 + input_.u16() % whole));
  if (kind < 0xf8) return answer(at, input_.pick(ERRNOS));
  answer(at, static_cast<int32_t>(input_.u32()));
}

void Run::answer(size_t at, int32_t result) {
  const Sqe sqe = engine::complete(at, result);
  if (sqe.tag() == TAG_REQUEST) oracle::advance(queues_, sqe, result);
}

/** The kernel cancels the first of that user_data that it finds; an operation on the disk may have gone too far. */
void Run::cancel(size_t at, bool isInTime) {
  const Sqe sqe = engine::pending[at];
  for (size_t i = 0; i < engine::pending.size(); i++) {
    if (engine::pending[i].userData != sqe.address || engine::pending[i].tag() == TAG_CANCEL) continue;
    if (!isInTime && engine::pending[i].tag() == TAG_REQUEST) break;
    answer(i, -ECANCELED);
    if (i < at) at--;
    break;
  }
  engine::complete(at, 0);
}

void Run::kick(Queue& queue) {
  for (size_t i = 0; i < engine::pending.size(); i++) {
    if (engine::pending[i].tag() != TAG_KICK || engine::pending[i].index() != queue.index) continue;
    return answer(i, 8);
  }
}

void Run::forge() {
  const uint8_t kind = input_.byte();
  const uint64_t userData = kind < 0x80 ? (uint64_t{kind} % 6) << 32 | input_.below(34) : input_.u64();
  engine::forge(userData, input_.flag() ? 512 : input_.pick(ERRNOS));
}

void Run::poke() {
  const uint64_t gpa = guest::pickGpa(input_);
  const uint64_t value = input_.u64();
  guest::write(gpa, &value, 1u << input_.below(4));
}

/** A region that someone else has written: by chance, with a head that looks right, or with a batch whose list leaves the entries. */
void Run::pokeInflight() {
  Queue& queue = queues_[input_.below(QUEUES)];
  const uint32_t part = partOf(queue);
  const uint32_t count = input_.below(32);
  if (count == 0 && queue.isStarted) {
    const auto used = memory::load<uint16_t>(queue.ring.device + USED_IDX);
    memory::store<uint16_t>(part + SPLIT_USED_IDX, static_cast<uint16_t>(used - 1));
    memory::store<uint16_t>(part + SPLIT_LAST_BATCH_HEAD, static_cast<uint16_t>(entries_[queue.index]));
  }
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t at = part + input_.byte() * 2;
    memory::store<uint16_t>(at, input_.flag() ? static_cast<uint16_t>(input_.byte() - 128) : input_.u16());
  }
  if (input_.flag()) return;
  memory::store<uint16_t>(part + INFLIGHT_REGION_VERSION, INFLIGHT_VERSION);
  memory::store<uint16_t>(part + INFLIGHT_DESC_NUM, static_cast<uint16_t>(entries_[queue.index]));
}

void Run::changeSettings() {
  const uint8_t kind = input_.byte();
  Queue& queue = queues_[(kind >> 4) % QUEUES];
  if (kind % 8 == 5) return changeCredit(queue);
  if (kind % 8 == 7) return limits::change(input_);
  if (kind % 8 == 3) return changeLog();
  if (kind % 4 == 0) return setWriteThrough((kind & 16) != 0);
  if (kind % 4 == 1) return core::setCallFd(queue.index, (kind & 32) != 0 ? -1 : CALL_FD + static_cast<int>(queue.index));
  // The front-end can write the region at any time, and does so while nobody looks.
  for (Queue& other : queues_) other.isFollowed = false;
  pokeInflight();
}

/** The front-end begins to move the guest, gives up, or takes what is in the log: between steps, or while the core is at work. */
void Run::changeLog() {
  const uint8_t kind = input_.byte();
  trace("log: %u", kind);
  if (kind < 0x60 || !dirtylog::isOn) {
    setLogging(true);
  } else if (kind < 0x80) {
    setLogging(false);
  } else if (kind < 0xc0) {
    dirtylog::take();
  } else {
    if (kind < 0xe0) dirtylog::takeAfter(1 + input_.u16() % 512);
    else dirtylog::takeAfterUpdate(1 + kind % 8);
    step(0, {});
  }
}

/** The device asks for chains, for fewer or more. A queue that is stopped has no credit to change. */
void Run::changeCredit(Queue& queue) {
  const uint8_t kind = input_.byte();
  if (!queue.isStarted) return;
  const uint32_t count = kind < 0x10 ? CREDIT_UNLIMITED : kind % 16;
  if ((kind & 0x20) != 0) {
    core::addCredit(queue.index, count);
    queue.addCredit(count);
  } else {
    core::setCredit(queue.index, count);
    queue.credit = count;
  }
}

/** With each kick the device asks for a chain more, so that credit is neither rare nor plenty. */
void Run::giveCredit(Queue& queue, uint32_t count) {
  if (!queue.isStarted || (queue.kindFlags & QUEUE_F_CREDIT) == 0) return;
  core::addCredit(queue.index, count);
  queue.addCredit(count);
}

Race Run::readRace() {
  Race race;
  race.loads = 1 + input_.byte();
  race.gpa = guest::pickGpa(input_);
  const uint64_t value = input_.u64();
  memcpy(race.bytes, &value, sizeof value);
  race.length = 1u << input_.below(4);
  return race;
}

/** Whatever happened: once the kernel has answered, every queue stops within a bounded number of steps. */
void Run::stopAll() {
  for (Queue& queue : queues_) {
    if (!queue.isStarted || queue.isStopping) continue;
    queue.isStopping = true;
    core::stopQueue(queue.index);
  }
  for (uint32_t steps = 0; queues_[0].isStarted || queues_[1].isStarted; steps++) {
    if (steps == STOP_STEPS_MAX) fail("a queue does not stop");
    answerAll();
    step(0, {});
  }
}

void Run::answerAll() {
  for (size_t i = engine::pending.size(); i-- > 0;) {
    if (i >= engine::pending.size()) continue;
    const uint32_t tag = engine::pending[i].tag();
    if (tag == TAG_REQUEST) answer(i, -5);
    else if (tag == TAG_CALL) answer(i, 8);
    else if (tag == TAG_CANCEL) cancel(i, true);
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  core::open();
  atexit([] { fprintf(stderr, "fuel: %lu of %lu in the longest call\n", core::fuelUsedMax, FUEL); });
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  Run(input).run();
  return 0;
}
