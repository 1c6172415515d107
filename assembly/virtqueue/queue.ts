// What both ring formats do: start, take chains, give them back, and mind who wants to be told. Knows nothing of requests.
import { CREDIT_UNLIMITED, QUEUE_F_CREDIT } from "../abi/layout.ts";
import * as inflight from "./inflight.ts";
import * as packed from "./packed.ts";
import * as split from "./split.ts";
import { Chain, NO_EVENT, Virtqueue } from "./state.ts";

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
  queue.fault = inflight.recover(queue);
}

/** Where the ring stands, as VHOST_USER_GET_VRING_BASE replies it. */
export function ringBase(queue: Virtqueue): u32 {
  return queue.isPacked ? packed.base(queue) : split.base(queue);
}

/** Whether the driver has made something available; negative: a FAULT. */
export function hasAvailable(queue: Virtqueue): i32 {
  return queue.isPacked ? packed.hasAvailable(queue) : split.hasAvailable(queue);
}

/** Whether the device has asked for a chain, or for all that come. */
export function hasCredit(queue: Virtqueue): bool {
  return queue.credit !== 0;
}

export function setQueueCredit(queue: Virtqueue, count: u32): void {
  queue.credit = count;
}

export function addQueueCredit(queue: Virtqueue, count: u32): void {
  const sum = queue.credit + count;
  queue.credit = sum < count ? <u32>CREDIT_UNLIMITED : sum;
}

function spendCredit(queue: Virtqueue): void {
  if (queue.credit !== <u32>CREDIT_UNLIMITED) queue.credit--;
}

/** Counts a chain, just read from the ring, as taken. */
export function takeChain(queue: Virtqueue, chain: Chain): void {
  spendCredit(queue);
  inflight.begin(queue, chain);
  queue.inFlight++;
  queue.descriptorsInFlight += chain.count;
  if (queue.isPacked) packed.skipAvailable(queue, chain.count);
  else queue.nextAvail++;
}

/** Counts the next leftover, just read, as taken once more. The ring has gone past it long ago. */
export function takeLeftover(queue: Virtqueue, chain: Chain): void {
  spendCredit(queue);
  inflight.resume(queue, chain);
  queue.inFlight++;
  queue.descriptorsInFlight += chain.count;
}

/** Lets go of a chain that stays recorded as in flight. */
export function leaveChain(queue: Virtqueue, chain: Chain): void {
  queue.inFlight--;
  queue.descriptorsInFlight -= chain.count;
}

/** Lets go of a chain that was not begun, for the next start of the ring. Only where chains are recorded. */
export function parkChain(queue: Virtqueue, chain: Chain): void {
  inflight.park(queue, chain);
  leaveChain(queue, chain);
}

/** Gives a chain back. The driver sees it at the next publishUsed(). */
export function pushUsed(queue: Virtqueue, chain: Chain, byteLength: u32): void {
  inflight.stage(queue, chain);
  leaveChain(queue, chain);
  queue.stagedChains++;
  if (queue.isPacked) packed.pushUsed(queue, <u16>chain.id, chain.count, byteLength);
  else split.pushUsed(queue, <u16>chain.id, byteLength);
}

/** Shows the driver all that was pushed, at one stroke. */
export function publishUsed(queue: Virtqueue): void {
  if (queue.staged === 0) return;
  if (queue.isPacked) packed.publishUsed(queue);
  else split.publishUsed(queue);
  inflight.commit(queue);
  queue.sinceCall += queue.staged;
  queue.staged = 0;
  queue.stagedChains = 0;
}

/** Whether the driver wants to hear of what was published since this was last asked. */
export function needsCall(queue: Virtqueue): bool {
  if (queue.sinceCall === 0) return false;
  const needed = queue.isPacked ? packed.needsCall(queue) : split.needsCall(queue);
  queue.sinceCall = 0;
  return needed;
}

/** Asks for a kick at the next available chain. Look at hasAvailable() again afterwards: one may have come before. */
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
