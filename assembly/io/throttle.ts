// Queues that wait until a limit lets them go on. Their next chain stays in the ring, and nobody is asked for a kick meanwhile.

import { STEP_THROTTLED } from "../abi/step.ts";
import { Virtqueue } from "../virtqueue/state.ts";
import { areLimited, tellHost, told } from "./host.ts";
import { nowNs } from "./statistics.ts";

/** Shorter sleeps would cost more than the requests that they part. Every bucket has room for what comes meanwhile. */
const LEAST_NS: u64 = 1_000_000;

/** A limit that is changed meanwhile is to take effect soon. */
const MOST_NS: u64 = 50_000_000;

const NS_PER_US: u64 = 1000;

/** Until the first of the queues that wait goes on, as a turn found that says STEP_THROTTLED. */
let waitNs: u64 = 0;

/** Whether the queue is to be left alone in this turn. */
export function isThrottled(queue: Virtqueue): bool {
  const now = nowNs();
  if (!areLimited || now >= queue.throttledUntil) {
    queue.throttledUntil = 0;
    return false;
  }
  tell(queue.throttledUntil - now);
  return true;
}

/** Its next chain may be asked for again in so many nanoseconds. */
export function throttle(queue: Virtqueue, ns: u64): void {
  const now = nowNs();
  if (queue.throttledSince === 0) queue.throttledSince = now;
  const wait = min<u64>(max<u64>(ns, LEAST_NS), MOST_NS);
  queue.throttledUntil = now + wait;
  tell(wait);
}

/** A chain is taken: one that had to wait has done so until now. */
export function endThrottling(queue: Virtqueue): void {
  const now = nowNs();
  // Without a limit there is no clock any more.
  if (now > queue.throttledSince) queue.waitedNs += now - queue.throttledSince;
  queue.throttledSince = 0;
}

/** After STEP_THROTTLED: how long the host may wait, in microseconds. */
export function throttleUs(): u32 {
  return <u32>((waitNs + NS_PER_US - 1) / NS_PER_US);
}

function tell(ns: u64): void {
  waitNs = (told & STEP_THROTTLED) === 0 ? ns : min<u64>(waitNs, ns);
  tellHost(STEP_THROTTLED);
}
