// Syncs (flushes and writes through) that overlap, of all workers. The kernel tells an open file of lost pages once (fsync(2)):
// of two that overlap one hears of it, and the other, which covers the same pages, ends well. So what has ended well is
// believed once all that was in flight then has ended, too.
//
// Time is cut into periods. A sync is counted in the period that it begins in: in one of two counts, by whether that is odd. A
// period ends only when nothing of the one before it is in flight; so once three have ended, all has that began before them.

import { DEVICE_PTR, DEVICE_SYNC_PERIOD, DEVICE_SYNCS } from "../abi/layout.ts";
import { areSyncsShared } from "./disk.ts";
import { Request } from "./request.ts";

/**
 * Two would do, but that another worker may have looked at the count of the period before just ahead of us: one that began
 * with an old look at the period may have joined that count since.
 */
const PERIODS: u32 = 3;

/** In place of a count's number: the operation in flight is no sync. */
const NO_COUNT: u32 = 0;

/** A sync of the request's is about to be submitted. */
export function beginSync(request: Request): void {
  if (!areSyncsShared()) return;
  const count = atomic.load<u32>(DEVICE_PTR, DEVICE_SYNC_PERIOD) & 1;
  atomic.add<u32>(countPtr(count), 1);
  request.syncCount = count + 1;
}

/** The request's operation has ended: what endSync() is to be told once it is known what came of it. */
export function takeSync(request: Request): u32 {
  const count = request.syncCount;
  request.syncCount = NO_COUNT;
  return count;
}

/** Whoever sees from now on that it has ended sees also that it has failed. */
export function endSync(count: u32): void {
  if (count !== NO_COUNT) atomic.sub<u32>(countPtr(count - 1), 1);
}

/** Whether none is in flight. */
export function areAllEnded(): bool {
  return inFlight(0) === 0 && inFlight(1) === 0;
}

/** From when on haveEnded() waits. */
export function currentPeriod(): u32 {
  return atomic.load<u32>(DEVICE_PTR, DEVICE_SYNC_PERIOD);
}

/** Whether all have ended that were in flight when currentPeriod() was this. Those that began later keep nobody waiting. */
export function haveEnded(period: u32): bool {
  for (let now = currentPeriod(); now - period < PERIODS; now = currentPeriod()) {
    if (inFlight(now + 1) !== 0) return false;
    atomic.cmpxchg<u32>(DEVICE_PTR + DEVICE_SYNC_PERIOD, now, now + 1);
  }
  return true;
}

function inFlight(period: u32): u32 {
  return atomic.load<u32>(countPtr(period));
}

function countPtr(period: u32): usize {
  return <usize>(DEVICE_PTR + DEVICE_SYNCS) + ((<usize>(period & 1)) << 2);
}
