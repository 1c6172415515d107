#include "dirty-log.h"

#include <algorithm>
#include <deque>

#include "device.h"
#include "guest.h"

namespace dirtylog {

bool isOn;

namespace {

/** Pages of guest memory, as bits by their place in all of it. */
using Pages = uint32_t;
static_assert(GUEST_REGIONS * REGION_PAGES <= 32);

/** What an operation has written, that was completed and that the core has not seen. */
struct Completion {
  uint32_t request;
  Pages pages;
};

/** What the step must log before it ends, and the next one. */
Pages owed;
Pages owedNext;
std::deque<Completion> completions;
/** Completions that the core has seen, as the ring counts. */
uint32_t seen;
uint32_t loadsUntilTaken;
uint32_t updatesUntilTaken;
bool wasTaken;
std::vector<uint32_t> storedWords;

constexpr uint64_t LOG_PAGES = uint64_t{DIRTY_LOG_SIZE} * 8;

Pages pagesOf(uint32_t offset, uint64_t length) {
  Pages pages = 0;
  if (length == 0) return pages;
  for (uint64_t page = offset / GUEST_PAGE; page <= (offset + length - 1) / GUEST_PAGE; page++) pages |= Pages{1} << page;
  return pages;
}

Pages pagesAt(Span span) {
  Pages pages = 0;
  for (size_t i = 0; i < guest::regions.size(); i++) {
    const Region& region = guest::regions[i];
    const uint64_t start = std::max(span.start, region.hostAddress);
    const uint64_t end = std::min(span.start + span.length, region.hostAddress + region.length);
    if (start < end) pages |= pagesOf(i * REGION_SIZE + static_cast<uint32_t>(start - region.hostAddress), end - start);
  }
  return pages;
}

/** Where the bit of a page is, or false if it lies past the log. */
bool placeOf(uint32_t page, uint32_t& ptr, uint8_t& bit) {
  const uint64_t number = guest::gpaOfOffset(page * GUEST_PAGE) / DIRTY_LOG_PAGE;
  if (number >= LOG_PAGES) return false;
  ptr = DIRTY_LOG_PTR + static_cast<uint32_t>(number / 8);
  bit = static_cast<uint8_t>(1 << number % 8);
  return true;
}

/** Pages whose bits are set. Those past the log have none, and are not looked for. */
Pages logged() {
  Pages pages = 0;
  uint32_t ptr;
  uint8_t bit;
  for (uint32_t page = 0; page < guest::regions.size() * REGION_PAGES; page++) {
    if (!placeOf(page, ptr, bit) || (memory::load<uint8_t>(ptr) & bit) != 0) pages |= Pages{1} << page;
  }
  return pages;
}

/** What is set stands for guest memory. */
void checkWord(uint32_t ptr) {
  const uint32_t word = memory::load<uint32_t>(ptr);
  for (uint32_t bit = 0; bit < 32; bit++) {
    const uint64_t gpa = ((uint64_t{ptr} - DIRTY_LOG_PTR) * 8 + bit) * DIRTY_LOG_PAGE;
    if ((word >> bit & 1) != 0 && guest::regionOf(gpa) < 0) fail("guest address 0x%lx is logged, which is no guest memory", gpa);
  }
}

}  // namespace

void setUp() {
  isOn = false;
  boot();
}

void boot() {
  owed = owedNext = 0;
  completions.clear();
  seen = 0;
  loadsUntilTaken = updatesUntilTaken = 0;
  wasTaken = false;
  storedWords.clear();
}

void setOn(bool on) {
  if (isOn) take();
  isOn = on;
  owed = owedNext = 0;
  for (Completion& completion : completions) completion.pages = 0;
}

void take() {
  const Pages copied = logged();
  uint32_t ptr;
  uint8_t bit;
  for (uint32_t page = 0; page < guest::regions.size() * REGION_PAGES; page++) {
    if (placeOf(page, ptr, bit)) memory::store<uint8_t>(ptr, memory::load<uint8_t>(ptr) & ~bit);
  }
  owed &= ~copied;
  owedNext &= ~copied;
  for (Completion& completion : completions) completion.pages &= ~copied;
  wasTaken = true;
}

void takeAfter(uint32_t loads) { loadsUntilTaken = loads; }

void takeAfterUpdate(uint32_t updates) { updatesUntilTaken = updates; }

bool holds(const Span& access) { return isOn && Span{DIRTY_LOG_PTR, DIRTY_LOG_SIZE}.holds(access); }

/** Before a load, and not before a store: an update of the log is one access, of which the store is the second half. */
void beforeLoad() {
  if (!isOn || loadsUntilTaken == 0 || --loadsUntilTaken != 0) return;
  trace("the front-end takes the log");
  take();
}

void beforeStore(uint32_t ptr) {
  if (!holds({ptr, 1})) return;
  storedWords.push_back(ptr);
  if (updatesUntilTaken != 0 && --updatesUntilTaken == 0) loadsUntilTaken = 1;
}

void wrote(uint32_t offset, uint32_t length) {
  if (isOn) owed |= pagesOf(offset, length);
}

void wroteForCore(uint32_t offset, uint32_t length) {
  if (isOn) owedNext |= pagesOf(offset, length);
}

void completed(const Sqe& sqe, int32_t result) {
  const bool isRead = sqe.opcode == IORING_OP_READ || sqe.opcode == IORING_OP_READV;
  const bool isChain = sqe.opcode == OP_CHAIN;
  // What was taken back has written nothing, and of a forged one nobody knows what it stands for.
  const bool hasWritten = sqe.tag() == TAG_REQUEST && (isRead || isChain) && result != -ECANCELED && result != -EINTR &&
                          (isChain || result != -EAGAIN) && !engine::isForged;
  Pages pages = 0;
  if (isOn && hasWritten) {
    const std::vector<Span> spans = sqe.data();
    for (size_t i = isChain ? sqe.offset : 0; i < spans.size(); i++) pages |= pagesAt(spans[i]);
  }
  completions.push_back({sqe.index(), pages});
}

void completedNothing() { completions.push_back({UINT32_MAX, 0}); }

void beforeStep(const std::vector<Span>& ringParts) {
  wasTaken = false;
  storedWords.clear();
  if (!isOn) return;
  for (const Span& part : ringParts) owed |= pagesOf(static_cast<uint32_t>(guest::offsetOf(part.start, 1, true)), part.length);
}

void afterStep() {
  const Pages present = logged();
  for (const uint32_t head = memory::load<uint32_t>(CQ_HEAD); seen != head; seen++) {
    owed |= completions.front().pages;
    completions.pop_front();
  }
  loadsUntilTaken = updatesUntilTaken = 0;
  if (!isOn) return;
  const Pages missing = owed & ~present;
  for (uint32_t page = 0; page < 32; page++) {
    if ((missing >> page & 1) != 0) fail("page 0x%lx was written, and is not logged", guest::gpaOfOffset(page * GUEST_PAGE));
  }
  owed = owedNext;
  owedNext = 0;
  for (uint32_t ptr : storedWords) checkWord(ptr);
}

bool canTell() { return isOn && !wasTaken && !engine::isForged; }

bool hasPage(uint64_t gpa) { return (pagesOf(guest::offsetOfGpa(gpa), 1) & ~logged()) == 0; }

bool hasCompletions(uint32_t request) {
  const Pages present = logged();
  return std::none_of(completions.begin(), completions.end(), [&](const Completion& completion) {
    return completion.request == request && (completion.pages & ~present) != 0;
  });
}

}  // namespace dirtylog
