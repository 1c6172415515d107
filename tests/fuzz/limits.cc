#include "limits.h"

#include <algorithm>

#include "memory.h"

namespace limits {

bool isOn;
uint64_t now;

namespace {

/** One of a bucket's two rates. */
struct Rate {
  double price = 0;
  uint64_t room = 0;
  uint64_t paidUntil = 0;
};

/** The average, and a burst's. Without an average there is no limit. */
struct Bucket {
  Rate average;
  Rate burst;
};

struct Charged {
  uint32_t queue;
  Charge charge;
};

constexpr double COST_MAX = 1e18;
constexpr uint64_t PAID_MAX = uint64_t{1} << 62;
constexpr uint64_t START_NS = 1'000'000'000;
/** 36 years: no sum of times and costs comes near PAID_MAX. */
constexpr uint64_t LATEST_NS = uint64_t{1} << 60;
/** What a step takes. */
constexpr uint64_t STEP_NS = 1000;

constexpr double PRICES[] = {1000, 1, 1e6, 0.3, 20e6, 1e9, 1e17, 0};
constexpr uint64_t ROOMS[] = {10'000'000, 0, 1'000'000'000, 1, 100'000'000, 1'000'000'000'000'000'000};
constexpr uint32_t REQUEST_BYTES[] = {0, 512, 4096, 1};
constexpr uint64_t TIMES[] = {1'000'000, 50'000'000, 999, 1'000'000'000, 0, uint64_t{1} << 58};

Bucket buckets[LIMITS];
uint32_t requestBytes;
std::vector<Charged> charged;
uint32_t taken;
uint64_t changedAt;
/** When the wait that was asked for last ends; 0: none was. */
uint64_t waitEnd;

uint32_t ptrOf(uint32_t index) { return DEVICE_PTR + DEVICE_LIMITS + index * LIMIT_STRIDE; }

void write(uint32_t index, const Bucket& bucket) {
  const uint32_t at = ptrOf(index);
  memory::store<uint64_t>(at + LIMIT_PAID_UNTIL, bucket.average.paidUntil);
  memory::store<uint64_t>(at + LIMIT_BURST_PAID_UNTIL, bucket.burst.paidUntil);
  memory::store<uint64_t>(at + LIMIT_ROOM, bucket.average.room);
  memory::store<uint64_t>(at + LIMIT_BURST_ROOM, bucket.burst.room);
  memory::store<double>(at + LIMIT_BURST_PRICE, bucket.burst.price);
  memory::store<double>(at + LIMIT_PRICE, bucket.average.price);
}

/** As the host does it: what was owed is forgotten. */
void set(Input& input, uint32_t which) {
  isOn = false;
  for (uint32_t i = 0; i < LIMITS; i++) {
    buckets[i] = {};
    if ((which >> i & 1) != 0) {
      buckets[i].average = {input.pick(PRICES), input.pick(ROOMS), 0};
      if (input.flag()) buckets[i].burst = {input.pick(PRICES), input.pick(ROOMS), 0};
    }
    write(i, buckets[i]);
    isOn = isOn || buckets[i].average.price > 0;
  }
  requestBytes = input.pick(REQUEST_BYTES);
  memory::store<uint32_t>(DEVICE_PTR + DEVICE_LIMIT_REQUEST_BYTES, requestBytes);
  memory::store<uint32_t>(DEVICE_PTR + DEVICE_LIMITED, isOn);
  changedAt = now;
  waitEnd = 0;
}

bool isCounted(uint32_t index, const Charge& charge) {
  if (!charge.isLimited || buckets[index].average.price == 0) return false;
  switch (index) {
    case LIMIT_READ_BYTES:
    case LIMIT_READS:
      return charge.isRead;
    case LIMIT_WRITTEN_BYTES:
    case LIMIT_WRITES:
      return !charge.isRead;
    default:
      return true;
  }
}

double unitsOf(uint32_t index, const Charge& charge) {
  const double bytes = static_cast<double>(charge.bytes);
  if (index == LIMIT_BYTES || index == LIMIT_READ_BYTES || index == LIMIT_WRITTEN_BYTES) return bytes;
  return requestBytes == 0 ? 1 : std::max(bytes / requestBytes, 1.0);
}

uint64_t costOf(uint32_t index, const Charge& charge, const Rate& rate) {
  return static_cast<uint64_t>(std::min(unitsOf(index, charge) * rate.price, COST_MAX));
}

uint64_t excess(const Rate& rate, uint64_t paidUntil) {
  return paidUntil > now + rate.room ? paidUntil - now - rate.room : 0;
}

/**
 * Charges what was taken in this step. The order is known of each queue alone, so that one of the queues' last must have been taken
 * while there was room; all before it had more.
 */
void chargeRate(uint32_t index, Rate& rate) {
  if (rate.price == 0) return;
  uint64_t total = 0;
  uint32_t count = 0;
  for (const Charged& one : charged) {
    if (!isCounted(index, one.charge)) continue;
    total = std::min(total + costOf(index, one.charge, rate), PAID_MAX);
    count++;
  }
  if (count == 0) return;
  const uint64_t start = std::max(rate.paidUntil, now);
  const uint64_t first = count == 1 ? rate.paidUntil : start;
  bool isAllowed = false;
  std::vector<uint32_t> seen;
  for (size_t i = charged.size(); i-- > 0;) {
    const Charged& one = charged[i];
    if (!isCounted(index, one.charge) || std::find(seen.begin(), seen.end(), one.queue) != seen.end()) continue;
    seen.push_back(one.queue);
    isAllowed = isAllowed || excess(rate, first + total - costOf(index, one.charge, rate)) == 0;
  }
  if (!isAllowed) fail("limit %u: %u chains were taken, which is more than it allows", index, count);
  rate.paidUntil = std::min(start + total, PAID_MAX);
}

void checkAccount(uint32_t index, const Rate& rate, uint32_t field) {
  const uint64_t kept = memory::load<uint64_t>(ptrOf(index) + field);
  if (kept != rate.paidUntil) fail("limit %u: paid until %lu, and not %lu", index, kept, rate.paidUntil);
}

}  // namespace

void setUp() {
  isOn = false;
  now = START_NS;
  changedAt = 0;
  waitEnd = 0;
  requestBytes = 0;
  for (Bucket& bucket : buckets) bucket = {};
}

void change(Input& input) {
  const uint8_t kind = input.byte();
  if (kind < 0x50) {
    now += input.pick(TIMES);
    trace("time passes: %lu ns", now);
  } else {
    set(input, kind < 0x60 ? 0 : kind < 0x80 ? input.byte() : 1u << kind % LIMITS);
    trace("limits: %s", isOn ? "on" : "off");
  }
}

void sleep() {
  now = std::max(now, waitEnd);
}

bool isAccount(const Span& access) {
  for (uint32_t i = 0; isOn && i < LIMITS; i++) {
    if (Span{ptrOf(i) + LIMIT_PAID_UNTIL, 2 * sizeof(uint64_t)}.holds(access)) return true;
  }
  return false;
}

void beforeStep() {
  charged.clear();
  taken = 0;
  // The core reads it as a double, which late times don't fit exactly.
  const double told = static_cast<double>(std::min(now + STEP_NS, LATEST_NS));
  now = static_cast<uint64_t>(told);
  if (isOn) memory::store<double>(WORKER_PTR + WORKER_NOW, told);
}

void take(uint32_t queue, const Charge& charge) {
  taken++;
  if (isOn && charge.isLimited) charged.push_back({queue, charge});
}

uint32_t takenCount() { return taken; }

void resync(bool hasMoved) {
  for (uint32_t i = 0; isOn && i < LIMITS; i++) {
    Bucket& bucket = buckets[i];
    if (!hasMoved) {
      checkAccount(i, bucket.average, LIMIT_PAID_UNTIL);
      checkAccount(i, bucket.burst, LIMIT_BURST_PAID_UNTIL);
    }
    bucket.average.paidUntil = memory::load<uint64_t>(ptrOf(i) + LIMIT_PAID_UNTIL);
    bucket.burst.paidUntil = memory::load<uint64_t>(ptrOf(i) + LIMIT_BURST_PAID_UNTIL);
  }
}

void checkStep() {
  for (uint32_t i = 0; isOn && i < LIMITS; i++) {
    Bucket& bucket = buckets[i];
    if (bucket.average.price == 0) continue;
    chargeRate(i, bucket.average);
    chargeRate(i, bucket.burst);
    checkAccount(i, bucket.average, LIMIT_PAID_UNTIL);
    checkAccount(i, bucket.burst, LIMIT_BURST_PAID_UNTIL);
  }
}

uint64_t waitFor(const Charge& charge) {
  uint64_t wait = 0;
  for (uint32_t i = 0; isOn && i < LIMITS; i++) {
    if (!isCounted(i, charge)) continue;
    wait = std::max(wait, excess(buckets[i].average, buckets[i].average.paidUntil));
    if (buckets[i].burst.price != 0) wait = std::max(wait, excess(buckets[i].burst, buckets[i].burst.paidUntil));
  }
  return wait;
}

void checkWait(bool isThrottled, uint32_t throttleUs) {
  waitEnd = 0;
  if (!isThrottled) return;
  if (!isOn) fail("queues are held back, and there are no limits");
  if (throttleUs == 0 || throttleUs > HOLD_MAX_NS / 1000) fail("a wait of %u us for a limit", throttleUs);
  waitEnd = now + uint64_t{throttleUs} * 1000;
}

bool areSettled() { return now - changedAt >= HOLD_MAX_NS; }

bool isWaitOver() { return waitEnd != 0 && now >= waitEnd; }

}  // namespace limits
