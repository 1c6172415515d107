// A virtqueue, in either ring format: whoever uses a ring does it through this file. Chains are taken, given back and shown to the
// driver in the order in which the inflight region must record it; kicks and calls are asked for. Knows nothing of requests.
//
// A chain's way: takeChain() records it before anything is done for it, else a crash would do it never, or twice. pushUsed()
// records that the chain is about to be given back. publishUsed() shows it to the driver; only then the record is cleared. A chain
// is never recorded between pushUsed() and publishUsed(): that would commit the batch that is under way as well.

import { CREDIT_UNLIMITED, QUEUE_F_CREDIT } from "../abi/queue.ts";
import { EVENT_SUPPRESS_SIZE, PACKED_DESC_SIZE, USED_ELEM_SIZE, USED_FIXED_SIZE } from "../spec/virtqueue.ts";
import { logWritten } from "./dirty-log.ts";
import * as leftovers from "./leftovers.ts";
import * as packed from "./packed.ts";
import * as packedInflight from "./packed-inflight.ts";
import * as split from "./split.ts";
import * as splitInflight from "./split-inflight.ts";
import { Chain, NO_EVENT, Virtqueue } from "./state.ts";

// --- A ring's life --------------------------------------------------------------------------------------------------

/** Makes a stopped queue's ring ready; `base` is that of VHOST_USER_SET_VRING_BASE. */
export function startRing(
  queue: Virtqueue,
  size: u32,
  flags: u32,
  desc: usize,
  driver: usize,
  device: usize,
  base: u32,
): void {
  queue.size = size;
  queue.flags = flags;
  queue.desc = desc;
  queue.driver = driver;
  queue.device = device;
  queue.inFlight = 0;
  queue.descriptorsInFlight = 0;
  queue.staged = 0;
  queue.stagedChains = 0;
  queue.sinceCall = 0;
  queue.credit = (flags & QUEUE_F_CREDIT) !== 0 ? 0 : <u32>CREDIT_UNLIMITED;
  queue.kickEvent = NO_EVENT;
  queue.kicksEnabled = 0;
  queue.suspends = 0;
  if (queue.isPacked) packed.start(queue, base);
  else split.start(queue, base);
  // May know better than the base where to go on.
  queue.fault = leftovers.recover(queue);
}

/** Where the ring stands, as VHOST_USER_GET_VRING_BASE replies it. */
export function ringBase(queue: Virtqueue): u32 {
  return queue.isPacked ? packed.base(queue) : split.base(queue);
}

/** Where the ring's parts lie for the guest: the descriptors, and what the device writes. */
export function placeRingParts(queue: Virtqueue, descGpa: u64, deviceGpa: u64): void {
  queue.descGpa = descGpa;
  queue.deviceGpa = deviceGpa;
}

/** Logs all that may have been written of the ring since it was logged last. */
export function logRing(queue: Virtqueue): void {
  if (queue.isPacked) {
    logWritten(queue.descGpa, <u64>queue.size * PACKED_DESC_SIZE);
    logWritten(queue.deviceGpa, EVENT_SUPPRESS_SIZE);
  } else {
    logWritten(queue.deviceGpa, USED_FIXED_SIZE + <u64>queue.size * USED_ELEM_SIZE);
  }
}

// --- Taking chains --------------------------------------------------------------------------------------------------

/** Whether the device has asked for a chain, or for all that come. */
export function hasCredit(queue: Virtqueue): bool {
  return queue.credit !== 0;
}

export function addQueueCredit(queue: Virtqueue, count: u32): void {
  const sum = queue.credit + count;
  queue.credit = sum < count ? <u32>CREDIT_UNLIMITED : sum;
}

/** Whether the driver has made something available: AVAILABLE, EMPTY or a FAULT. */
export function lookForChain(queue: Virtqueue): i32 {
  return queue.isPacked ? packed.lookForChain(queue) : split.lookForChain(queue);
}

/** Whether the next leftover was parked. Only if there is one. */
export function isNextParked(queue: Virtqueue): bool {
  return leftovers.isNextParked(queue);
}

/** Before a chain is read: where chains are recorded, what was pushed is published first. */
export function prepareToTake(queue: Virtqueue): void {
  if (queue.isTracked) publishUsed(queue);
}

/** Counts a chain, just read from the ring, as taken. */
export function takeChain(queue: Virtqueue, chain: Chain): void {
  if (queue.isPacked) {
    if (queue.isTracked) packedInflight.begin(queue, chain);
    packed.skipAvailable(queue, chain.count);
  } else {
    if (queue.isTracked) splitInflight.begin(queue, chain);
    queue.nextAvail++;
  }
  countTaken(queue, chain);
}

/** Counts the next leftover, just read, as taken once more. The ring has gone past it long ago, and its record is there. */
export function takeLeftover(queue: Virtqueue, chain: Chain): void {
  chain.firstEntry = leftovers.popLeftover(queue);
  if (queue.isPacked) chain.lastEntry = packedInflight.lastOf(queue, chain.firstEntry);
  countTaken(queue, chain);
}

function countTaken(queue: Virtqueue, chain: Chain): void {
  if (!ASC_NO_ASSERT) {
    assert(chain.isTaken === 0, "a chain is taken where one is held");
    assert(queue.credit !== 0 && queue.inFlight < queue.size, "a chain is taken that the queue may not take");
    chain.isTaken = 1;
  }
  if (queue.credit !== <u32>CREDIT_UNLIMITED) queue.credit--;
  queue.inFlight++;
  queue.descriptorsInFlight += chain.count;
}

// --- Giving chains back ---------------------------------------------------------------------------------------------

/** Lets go of a chain that stays recorded as in flight. */
export function leaveChain(queue: Virtqueue, chain: Chain): void {
  if (!ASC_NO_ASSERT) {
    assert(chain.isTaken !== 0, "a chain is given back that is not taken");
    assert(
      queue.inFlight !== 0 && queue.descriptorsInFlight >= chain.count,
      "more is given back than was taken",
    );
    chain.isTaken = 0;
  }
  queue.inFlight--;
  queue.descriptorsInFlight -= chain.count;
}

/** Lets go of a chain that was not begun, for the next start of the ring. Only where chains are recorded. */
export function parkChain(queue: Virtqueue, chain: Chain): void {
  leftovers.markParked(queue, chain.firstEntry);
  leaveChain(queue, chain);
}

/** Gives a chain back. The driver sees it at the next publishUsed(). */
export function pushUsed(queue: Virtqueue, chain: Chain, byteLength: u32): void {
  leaveChain(queue, chain);
  queue.stagedChains++;
  if (queue.isPacked) {
    if (queue.isTracked) packedInflight.stage(queue, chain);
    packed.pushUsed(queue, <u16>chain.id, chain.count, byteLength);
  } else {
    if (queue.isTracked) splitInflight.stage(queue, chain);
    split.pushUsed(queue, <u16>chain.id, byteLength);
  }
}

/** Shows the driver all that was pushed, at one stroke. */
export function publishUsed(queue: Virtqueue): void {
  if (queue.staged === 0) return;
  if (queue.isPacked) {
    packed.publishUsed(queue);
    if (queue.isTracked) packedInflight.commit(queue);
  } else {
    split.publishUsed(queue);
    if (queue.isTracked) splitInflight.commit(queue);
  }
  queue.sinceCall += queue.staged;
  queue.staged = 0;
  queue.stagedChains = 0;
}

// --- Who wants to be told -------------------------------------------------------------------------------------------

/** Whether the driver wants to hear of what was published since its wish was last taken. */
export function takeCallWish(queue: Virtqueue): bool {
  if (queue.sinceCall === 0) return false;
  const wantsCall = queue.isPacked ? packed.wantsCall(queue) : split.wantsCall(queue);
  queue.sinceCall = 0;
  return wantsCall;
}

/** Asks for a kick at the next available chain. Look at lookForChain() again afterwards: one may have come before. */
export function enableKicks(queue: Virtqueue): void {
  if (queue.isPacked) packed.enableKicks(queue);
  else split.enableKicks(queue);
}

/** Tells the driver that a kick would be wasted. */
export function disableKicks(queue: Virtqueue): void {
  // With an event index there is nothing to do: the driver has passed it and kicks no more.
  if (queue.hasEventIdx || !queue.kicksEnabled) return;
  queue.kicksEnabled = 0;
  if (queue.isPacked) packed.disableKicks(queue);
  else split.disableKicks(queue);
}
