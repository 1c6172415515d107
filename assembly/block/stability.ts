// What is told to be stable: flushes and writes through, and what becomes of them once one has failed.

import { DEVICE_SYNC_PERIOD, DEVICE_SYNCS } from "../abi/device-block.ts";
import { DEVICE_PTR } from "../abi/memory.ts";
import { STEP_SYNC_FAILED } from "../abi/step.ts";
import { tellHost } from "../io/host.ts";
import { RWF_DSYNC } from "../spec/io-uring.ts";
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from "../spec/virtio-blk.ts";
import { areSyncsKept, areSyncsShared, directMask, failSync, hasSyncFailed, isWriteThrough } from "./disk.ts";
import { Request, STAGE_FLUSH, SYNC_ASKED, SYNC_DOUBTED, SYNC_NONE } from "./request.ts";

/** Requests that have ended well and wait for the syncs that are in flight: one of these may hear that data were lost. */
export let heldCount: u32 = 0;

export function forgetHeld(): void {
  heldCount = 0;
}

/** Flags of a write that is about to be submitted. */
export function syncFlags(request: Request): u32 {
  if (request.sync !== SYNC_DOUBTED) request.sync = isWriteThrough() ? SYNC_ASKED : SYNC_NONE;
  if (request.sync !== SYNC_NONE) beginSync(request);
  return request.sync === SYNC_ASKED ? RWF_DSYNC : 0;
}

/**
 * A transfer has failed. True if it was to be stable: then it is submitted once more without that. Should it succeed, the
 * data could be written but not made stable, which is a failed flush; should it fail, this write alone has failed.
 */
export function doubtSync(request: Request): bool {
  if (request.sync !== SYNC_ASKED || !areSyncsKept()) return false;
  request.sync = SYNC_DOUBTED;
  return true;
}

/** The status of a request whose data have all moved. */
export function statusOfSync(request: Request): i32 {
  if (request.sync === SYNC_NONE) return VIRTIO_BLK_S_OK;
  if (request.sync === SYNC_DOUBTED) fail();
  return hasSyncFailed() ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

export function afterFlush(result: i32): i32 {
  if (result !== 0) fail();
  return result === 0 && !hasSyncFailed() ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

/** Holds a request that ends well, if others must end before it is answered. False if it need not wait. */
export function holdSync(request: Request, status: i32): bool {
  if (status !== VIRTIO_BLK_S_OK || !isTold(request) || areAllEnded()) return false;
  request.isHeld = 1;
  request.heldSince = currentPeriod();
  heldCount++;
  return true;
}

/** Lets go of a request that was held, if what it waits for has ended. False if it goes on to wait. */
export function endHold(request: Request): bool {
  if (!haveEnded(request.heldSince)) return false;
  if (!ASC_NO_ASSERT) assert(heldCount !== 0, "a request is let go of that was not held");
  request.isHeld = 0;
  heldCount--;
  return true;
}

/** The status of a request that was held. */
export function statusOfHeld(): i32 {
  return hasSyncFailed() ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

/**
 * Whether the request's answer says that data are stable, and the kernel may have told another sync that they are not. A direct
 * write's own result says what became of it.
 */
function isTold(request: Request): bool {
  if (request.stage === STAGE_FLUSH) return true;
  return request.sync !== SYNC_NONE && directMask() === 0;
}

function fail(): void {
  // Of all workers, the first tells.
  if (failSync()) tellHost(STEP_SYNC_FAILED);
}

// --- Syncs that overlap ---------------------------------------------------------------------------------------------
//
// Flushes and writes through that overlap, of all workers. The kernel tells an open file of lost pages once (fsync(2)):
// of two that overlap one hears of it, and the other, which covers the same pages, ends well. So what has ended well is
// believed once all that was in flight then has ended, too.
//
// Time is cut into periods. A sync is counted in the period that it begins in: in one of two counts, by whether that is odd. A
// period ends only when nothing of the one before it is in flight; so once three have ended, all has that began before them.

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
  if (count === NO_COUNT) return;
  const before = atomic.sub<u32>(countPtr(count - 1), 1);
  if (!ASC_NO_ASSERT) assert(before !== 0, "a sync ends that did not begin");
}

/** Whether none is in flight. */
function areAllEnded(): bool {
  return inFlight(0) === 0 && inFlight(1) === 0;
}

/** From when on haveEnded() waits. */
function currentPeriod(): u32 {
  return atomic.load<u32>(DEVICE_PTR, DEVICE_SYNC_PERIOD);
}

/** Whether all have ended that were in flight when currentPeriod() was this. Those that began later keep nobody waiting. */
function haveEnded(period: u32): bool {
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
