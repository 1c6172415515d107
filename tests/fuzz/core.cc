#include "core.h"

#include <algorithm>
#include <csetjmp>
#include <map>

#include "core.wasm.h"
#include "device.h"
#include "dirty-log.h"
#include "limits.h"

namespace core {

std::vector<GuestStore> stores;
std::vector<GuestStore> storesOfHost;
std::vector<Span> ringParts;
std::vector<Span> inflightParts;
uint64_t fuelUsedMax;

namespace {

Z_core_instance_t instance;
wasm_rt_memory_t linearMemory;
uint64_t fuel;
uint32_t storesUntilCrash;
jmp_buf crash;
Race pendingRace;

bool isWithin(const std::vector<Span>& parts, const Span& access) {
  return std::any_of(parts.begin(), parts.end(), [&](const Span& part) { return part.holds(access); });
}

bool isWithin(uint32_t start, uint32_t length, const Span& access) {
  return Span{start, length}.holds(access);
}

/** What lies in linear memory below guest memory. */
bool isOwn(const Span& access, bool isStore) {
  if (isWithin(WORKER_PTR, WORKER_STRIDE, access)) {
    if (Span{WORKER_PTR + WORKER_BOUNCE, BOUNCE_TOTAL}.overlaps(access)) return false;
    if (isWithin(WORKER_PTR + WORKER_WINDOW_TABLE, WINDOWS_MAX * TABLE_ENTRY_SIZE, access)) return !isStore;
    if (isWithin(WORKER_PTR + WORKER_COPIES + TABLE_ENTRY_SIZE, (COPIES_MAX - 1) * TABLE_ENTRY_SIZE, access)) return !isStore;
    if (isWithin(WORKER_PTR + WORKER_CLOCK, sizeof(double), access)) return !isStore;
    if (isWithin(WORKER_PTR + WORKER_NOW, sizeof(double), access)) return !isStore;
    if (!isWithin(WORKER_PTR + WORKER_RINGS, WORKER_REQUESTS - WORKER_RINGS, access)) return true;
    return !isStore || access.start == SQ_TAIL || access.start == CQ_HEAD;
  }
  if (isWithin(INFLIGHT_PTR, INFLIGHT_SIZE_MAX, access)) return isWithin(inflightParts, access);
  if (dirtylog::holds(access)) return true;
  if (isStore) {
    const bool isSyncState = device.keepsSync && isWithin(DEVICE_PTR + DEVICE_SYNC_STATE, 4, access);
    return isSyncState || isWithin(DEVICE_PTR + DEVICE_FLUSHED, 4, access) || limits::isAccount(access);
  }
  return isWithin(DEVICE_PTR, DEVICE_SIZE, access) || isWithin(REGION_TABLE_PTR, REGIONS_MAX * TABLE_ENTRY_SIZE, access);
}

/** Where an access to guest memory lands, or -1 if it isn't one. */
int64_t checkAccess(uint32_t ptr, uint32_t length, bool isStore) {
  const Span access{ptr, length};
  if (ptr < GUEST_PTR) {
    if (isOwn(access, isStore)) return -1;
    fail("%s of %u bytes at 0x%x, which isn't the core's", isStore ? "store" : "load", length, ptr);
  }
  if (ptr >= COPIES_PTR && !isStore && guest::isCopy(ptr, length)) return -1;
  const int64_t offset = guest::offsetOf(ptr, length, isWithin(ringParts, access));
  if (offset < 0) fail("%s of %u bytes at 0x%x, where nothing is mapped", isStore ? "store" : "load", length, ptr);
  return offset;
}

void burn(uint64_t amount) {
  if (fuel < amount) fail("a call did not end within %lu accesses and turns of loops", FUEL);
  fuel -= amount;
}

void runRace() {
  if (pendingRace.loads == 0 || --pendingRace.loads != 0) return;
  guest::write(pendingRace.gpa, pendingRace.bytes, pendingRace.length);
}

void beforeLoad(uint32_t ptr, uint32_t length) {
  burn(1);
  dirtylog::beforeLoad();
  if (checkAccess(ptr, length, false) >= 0) runRace();
}

void beforeStore(uint32_t ptr, uint32_t length, bool isData) {
  burn(1);
  if (storesUntilCrash != 0 && --storesUntilCrash == 0) longjmp(crash, 1);
  const int64_t offset = checkAccess(ptr, length, true);
  memory::markDirty(ptr, length);
  dirtylog::beforeStore(ptr);
  if (offset < 0) return;
  dirtylog::wrote(static_cast<uint32_t>(offset), length);
  memory::markDirty(WHOLE_PTR + (offset / REGION_SIZE) * WHOLE_STRIDE + offset % REGION_SIZE, length);
  stores.push_back({static_cast<uint32_t>(offset), length, isData, -1});
}

/** The worker's steps so far, by which its host's clock goes. It passes unevenly, is at times set back, and at times there is none. */
uint32_t stepCount;

void tellTime() {
  constexpr double CLOCKS[] = {0, 0.001, 3e9, -1, 1e300};
  const uint32_t n = stepCount++;
  const double clock = n % 16 < 12 ? n * 0.37 : CLOCKS[n / 16 % 5];
  memory::store<double>(WORKER_PTR + WORKER_CLOCK, clock);
}

/** Notes at the end of a call how much it took. */
struct Bound {
  Bound() { fuel = FUEL; }
  ~Bound() { fuelUsedMax = std::max(fuelUsedMax, FUEL - fuel); }
};

/** What an instance and its worker know when they are new. Making them takes longer than the rest of most inputs. */
struct Birth {
  Z_core_instance_t instance;
  std::vector<std::pair<uint32_t, std::vector<uint8_t>>> pages;
};
std::map<std::pair<uint32_t, uint32_t>, Birth> births;

void restore(const Birth& birth) {
  instance = birth.instance;
  for (const auto& [ptr, bytes] : birth.pages) {
    memory::markDirty(ptr, GUEST_PAGE);
    memcpy(memory::base + ptr, bytes.data(), GUEST_PAGE);
  }
}

Birth capture() {
  Birth birth{instance, {}};
  for (uint32_t ptr : memory::workerPages()) {
    const uint8_t* page = memory::base + ptr;
    birth.pages.push_back({ptr, {page, page + GUEST_PAGE}});
  }
  return birth;
}

template <typename Call>
auto bounded(Call call) {
  Bound bound;
  return call();
}

}  // namespace

void open() {
  memory::open();
  linearMemory.data = memory::base;
  linearMemory.pages = linearMemory.max_pages = MEMORY_PAGES;
  linearMemory.size = UINT32_MAX;
  Z_core_init_module();
}

void boot(uint32_t queues, uint32_t requests, uint32_t sqEntries, int controlFd) {
  storesUntilCrash = 0;
  pendingRace = {};
  stepCount = 0;
  stores.clear();
  storesOfHost.clear();
  memory::resetWorker();
  const auto known = births.find({requests, sqEntries});
  if (known != births.end()) return restore(known->second);
  Z_core_instantiate(&instance, nullptr, nullptr);
  bounded([&] {
    Z_coreZ_attachRings(&instance, SQ_HEAD, SQ_TAIL, SQ_FLAGS, SQES, sqEntries, CQ_HEAD, CQ_TAIL, CQES, 2 * sqEntries);
    Z_coreZ_openWorker(&instance, 0, queues, requests, controlFd);
  });
  births[{requests, sqEntries}] = capture();
}

bool step(uint32_t& outcome, bool isAwake, uint32_t crashAt, const Race& race) {
  stores.swap(storesOfHost);
  storesOfHost.clear();
  storesUntilCrash = crashAt;
  pendingRace = race;
  tellTime();
  if (setjmp(crash) != 0) return false;
  bounded([&] { outcome = isAwake ? Z_coreZ_stepAwake(&instance) : Z_coreZ_step(&instance); });
  storesUntilCrash = 0;
  pendingRace = {};
  return true;
}

void startQueue(uint32_t index, uint32_t size, uint32_t flags, uint32_t desc, uint32_t driver, uint32_t device,
                uint32_t base, int kickFd, int callFd) {
  bounded([&] {
    Z_coreZ_startQueue(&instance, index, size, flags, desc, driver, device, base, kickFd, callFd);
  });
}

void trackInflight(uint32_t index, uint32_t region, uint32_t entries) {
  bounded([&] { Z_coreZ_trackInflight(&instance, index, region, entries); });
}

void stopQueue(uint32_t index) {
  bounded([&] { Z_coreZ_stopQueue(&instance, index); });
}

void suspendQueue(uint32_t index) {
  bounded([&] { Z_coreZ_suspendQueue(&instance, index); });
}

bool isStopped(uint32_t index) {
  return bounded([&] { return Z_coreZ_isStopped(&instance, index); }) != 0;
}

uint32_t queueBase(uint32_t index) {
  return bounded([&] { return Z_coreZ_queueBase(&instance, index); });
}

void setCallFd(uint32_t index, int fd) {
  bounded([&] { Z_coreZ_setCallFd(&instance, index, fd); });
}

void placeRing(uint32_t index, uint64_t descGpa, uint64_t deviceGpa) {
  bounded([&] { Z_coreZ_placeRing(&instance, index, descGpa, deviceGpa); });
}

void setLogging(bool isOn) {
  bounded([&] { Z_coreZ_setLogging(&instance, isOn); });
}

uint32_t throttleUs() {
  return bounded([&] { return Z_coreZ_throttleUs(&instance); });
}

void setCredit(uint32_t index, uint32_t count) {
  bounded([&] { Z_coreZ_setCredit(&instance, index, count); });
}

void addCredit(uint32_t index, uint32_t count) {
  bounded([&] { Z_coreZ_addCredit(&instance, index, count); });
}

int queueFault(uint32_t index) {
  return static_cast<int>(bounded([&] { return Z_coreZ_queueFault(&instance, index); }));
}

uint32_t news() {
  return bounded([&] { return Z_coreZ_news(&instance); });
}

void allowStray() {
  bounded([&] { Z_coreZ_allowStray(&instance); });
}

uint64_t missedGpa() {
  return bounded([&] { return Z_coreZ_missedGpa(&instance); });
}

}  // namespace core

// What the core calls.
extern "C" {

wasm_rt_memory_t* Z_envZ_memory(Z_env_instance_t*) { return &core::linearMemory; }

void Z_hookZ_beforeLoad(Z_hook_instance_t*, uint32_t ptr, uint32_t length) { core::beforeLoad(ptr, length); }

void Z_hookZ_beforeStore(Z_hook_instance_t*, uint32_t ptr, uint32_t length) {
  core::beforeStore(ptr, length, length == 1);
}

void Z_hookZ_burnFuel(Z_hook_instance_t*) { core::burn(1); }

void Z_hookZ_copy(Z_hook_instance_t*, uint32_t target, uint32_t source, uint32_t length) {
  if (length == 0) return;
  core::burn(length / 8);
  core::beforeLoad(source, length);
  core::beforeStore(target, length, true);
  memmove(memory::base + target, memory::base + source, length);
}

void Z_hookZ_fill(Z_hook_instance_t*, uint32_t target, uint32_t value, uint32_t length) {
  if (length == 0) return;
  core::burn(length / 8);
  core::beforeStore(target, length, false);
  memset(memory::base + target, static_cast<int>(value), length);
}

void wasm_rt_trap(wasm_rt_trap_t code) { fail("trap %d", static_cast<int>(code)); }

/** There are no tables, so types of functions mean nothing. */
uint32_t wasm_rt_register_func_type(uint32_t, uint32_t, ...) { return 0; }

bool wasm_rt_is_initialized() { return true; }

uint32_t wasm_rt_call_stack_depth;
}
