// Limits of the disk: what the host says of them, the clock that it tells, and an account that the core's is held to.
#pragma once
#include "input.h"
#include "model.h"

/** A hold on a queue lasts no longer than this, and none is shorter than a thousandth of a second: ABI.md, "Limits". */
constexpr uint64_t HOLD_MAX_NS = 50'000'000;
constexpr uint64_t HOLD_MIN_NS = 1'000'000;

namespace limits {

extern bool isOn;
/** The clock that all workers share, in nanoseconds. */
extern uint64_t now;

/** A new disk: none. */
void setUp();
/** The host sets others, takes them away, or time passes. */
void change(Input& input);
/** So long a wait as the core has asked for. */
void sleep();

/** What of the device block the core may store to. */
bool isAccount(const Span& access);

void beforeStep();
/** A chain was taken in this step, from this queue. */
void take(uint32_t queue, const Charge& charge);
/** Chains taken in this step, whatever they are. */
uint32_t takenCount();
/** Nobody has followed what was taken; and if no ring's position moved, that was nothing, or leftovers. */
void resync(bool hasMoved);
/** What was taken is no more than the limits allow, and the core has kept account of it. */
void checkStep();
/** For how many nanoseconds it is not to be taken: 0 if it is. */
uint64_t waitFor(const Charge& charge);

/** What a step has told, and the wait that goes with it. */
void checkWait(bool isThrottled, uint32_t throttleUs);
/** No limit has changed since a hold may have begun. */
bool areSettled();
/** The wait that the core has asked for is over, as of this step. */
bool isWaitOver();

}  // namespace limits
