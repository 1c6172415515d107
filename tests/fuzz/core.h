// One instance of the core as wasm2c made it, and what its accesses are held to.
#pragma once
#include <cstdint>
#include <vector>

#include "guest.h"
#include "memory.h"

/** What the core may do in one call: accesses and turns of loops. Above what the largest chains of a step take. */
constexpr uint64_t FUEL = 8'000'000;

/** A store to guest memory, as an offset into all of it. */
struct GuestStore {
  uint32_t offset;
  uint32_t length;
  /** Copies and single bytes go where descriptors point; all else belongs to the rings. */
  bool isData;
  /** The status that the host wrote for the core: the guest may have written there since. */
  int status = -1;
};

/** What the guest does while the core looks: before the n-th load from guest memory, it writes. */
struct Race {
  uint32_t loads = 0;
  uint64_t gpa = 0;
  uint8_t bytes[8] = {};
  uint32_t length = 0;
};

namespace core {

extern std::vector<GuestStore> stores;
/** Those that the host has made since for the core: they count as the next step's. */
extern std::vector<GuestStore> storesOfHost;
/** Parts of rings, and of the inflight region, that the core may touch: pointers. */
extern std::vector<Span> ringParts;
extern std::vector<Span> inflightParts;
extern uint64_t fuelUsedMax;

/** Once. */
void open();
/** A new process: nothing is known but what lies in shared memory. */
void boot(uint32_t queues, uint32_t requests, uint32_t sqEntries, int controlFd);

/**
 * One step, of a host that sleeps or one that stays awake. False if it was stopped before its `crashAt`-th store
 * (0: never): the instance is gone.
 */
bool step(uint32_t& outcome, bool isAwake, uint32_t crashAt, const Race& race);
uint32_t news();

void startQueue(uint32_t index, uint32_t size, uint32_t flags, uint32_t desc, uint32_t driver, uint32_t device,
                uint32_t base, int kickFd, int callFd);
void trackInflight(uint32_t index, uint32_t region, uint32_t entries);
void stopQueue(uint32_t index);
void suspendQueue(uint32_t index);
bool isStopped(uint32_t index);
uint32_t queueBase(uint32_t index);
void setCallFd(uint32_t index, int fd);
void placeRing(uint32_t index, uint64_t descGpa, uint64_t deviceGpa);
void setLogging(bool isOn);
uint32_t throttleUs();
void setCredit(uint32_t index, uint32_t count);
void addCredit(uint32_t index, uint32_t count);
int queueFault(uint32_t index);
uint64_t missedGpa();
/** One completion more may come that is no request's: the debug build takes it for a fault of the engine's otherwise. */
void allowStray();

}  // namespace core
