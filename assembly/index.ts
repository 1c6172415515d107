// The exports of the core, and nothing else. It imports env.memory alone; ABI.md says how a host drives it.

import { ABI_VERSION } from "./abi/memory.ts";
import { QUEUE_BROKEN, QUEUE_RUNNING, QUEUE_STOPPED, QUEUE_STOPPING } from "./abi/queue.ts";
import { throttleUs } from "./io/throttle.ts";
import { attachRings } from "./io/uring.ts";
import { news, openWorker, step, stepAwake } from "./turn.ts";
import { switchLogging } from "./virtqueue/dirty-log.ts";
import { addQueueCredit, placeRingParts, ringBase, startRing } from "./virtqueue/queue.ts";
import { EVENT_IDLE, openQueue, queueAt } from "./virtqueue/state.ts";
import { wantedGpa } from "./virtqueue/window-claims.ts";

export { attachRings, news, openWorker, step, stepAwake, throttleUs };

/** The version of the ABI (ABI.md, "Versions"). The only export that no later version changes. */
export function abiVersion(): u32 {
  return ABI_VERSION;
}

/** Starts a stopped queue. `base` is that of VHOST_USER_SET_VRING_BASE; a descriptor of -1 is none. */
export function startQueue(
  index: u32,
  size: u32,
  flags: u32,
  desc: usize,
  driver: usize,
  device: usize,
  base: u32,
  kickFd: i32,
  callFd: i32,
): void {
  const queue = openQueue(index);
  if (!ASC_NO_ASSERT) assert(queue.state === QUEUE_STOPPED, "a queue is started that has not stopped");
  startRing(queue, size, flags, desc, driver, device, base);
  queue.kickFd = kickFd;
  queue.callFd = callFd;
  queue.kickState = EVENT_IDLE;
  queue.callState = EVENT_IDLE;
  queue.throttledSince = 0;
  queue.throttledUntil = 0;
  // A predecessor may have published without coming to the call. One too many does no harm.
  queue.callWanted = queue.isTracked ? 1 : 0;
  queue.state = QUEUE_RUNNING;
}

/**
 * Keeps a stopped queue's requests in the inflight region at `region`, with room for `entries` descriptors, from its next
 * start on, and goes on with those that a predecessor left there. 0: no longer.
 */
export function trackInflight(index: u32, region: usize, entries: u32): void {
  const queue = queueAt(index);
  queue.inflight = region;
  queue.inflightEntries = entries;
}

/** Takes no more from the queue. It has stopped, at some later step, when isStopped() says so. */
export function stopQueue(index: u32): void {
  const queue = queueAt(index);
  if (queue.state === QUEUE_RUNNING || queue.state === QUEUE_BROKEN) queue.state = QUEUE_STOPPING;
}

/**
 * The same, but requests that can be cancelled stay recorded in the inflight region instead of completing
 * (VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT). Without a region it is the same.
 */
export function suspendQueue(index: u32): void {
  stopQueue(index);
  queueAt(index).suspends = queueAt(index).isTracked ? 1 : 0;
}

/**
 * Where a stopped queue's ring lies for the guest, from its next start on: guest physical addresses of its descriptors, and of what the device
 * writes. Only the dirty log needs them.
 */
export function placeRing(index: u32, descGpa: u64, deviceGpa: u64): void {
  placeRingParts(queueAt(index), descGpa, deviceGpa);
}

/** From now on what this worker writes to guest memory is logged at DIRTY_LOG_PTR, or no longer. */
export function setLogging(isOn: bool): void {
  switchLogging(isOn);
}

export function isStopped(index: u32): bool {
  return queueAt(index).state === QUEUE_STOPPED;
}

/** Where the queue stands, as VHOST_USER_GET_VRING_BASE replies it. */
export function queueBase(index: u32): u32 {
  return ringBase(queueAt(index));
}

/** From now on the queue takes so many chains, and no more; CREDIT_UNLIMITED: all that come. */
export function setCredit(index: u32, count: u32): void {
  queueAt(index).credit = count;
}

/** Lets the queue take so many chains more. */
export function addCredit(index: u32, count: u32): void {
  addQueueCredit(queueAt(index), count);
}

export function setCallFd(index: u32, callFd: i32): void {
  queueAt(index).callFd = callFd;
}

/** The FAULT_* that broke the queue, or 0. */
export function queueFault(index: u32): i32 {
  return queueAt(index).state === QUEUE_BROKEN ? queueAt(index).fault : 0;
}

/** After STEP_WINDOW_MISS: the guest physical address that no window or copy shows. */
export function missedGpa(): u64 {
  return wantedGpa;
}
