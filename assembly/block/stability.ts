// What is told to be stable: flushes and writes through, and what becomes of them once one has failed.

import { STEP_SYNC_FAILED } from "../abi/layout.ts";
import { RWF_DSYNC } from "../spec/io-uring.ts";
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from "../spec/virtio-blk.ts";
import { areSyncsKept, directMask, failSync, hasSyncFailed, isWriteThrough } from "./disk.ts";
import { tellOfDisk } from "./failures.ts";
import { areAllEnded, beginSync, currentPeriod, haveEnded } from "./overlaps.ts";
import { Request, STAGE_FLUSH, SYNC_ASKED, SYNC_DOUBTED, SYNC_NONE } from "./request.ts";

/** Requests whose data are stable, unless a sync that is still in flight hears otherwise. */
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

/** Whether a request that ends well must wait until others have ended: then it waits from now on. */
export function holdSync(request: Request, status: i32): bool {
  if (status !== VIRTIO_BLK_S_OK || !isTold(request) || areAllEnded()) return false;
  request.isHeld = 1;
  request.heldSince = currentPeriod();
  heldCount++;
  return true;
}

/** Whether a request that was held goes on to be so. */
export function isStillHeld(request: Request): bool {
  if (!haveEnded(request.heldSince)) return true;
  request.isHeld = 0;
  heldCount--;
  return false;
}

/** The status of a request that was held. */
export function statusOfHeld(): i32 {
  return hasSyncFailed() ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

/** Whether its driver is told that data are stable, and the kernel may have told another. Direct writes hear of themselves. */
function isTold(request: Request): bool {
  if (request.stage === STAGE_FLUSH) return true;
  return request.sync !== SYNC_NONE && directMask() === 0;
}

function fail(): void {
  // Of all workers, the first tells.
  if (failSync()) tellOfDisk(STEP_SYNC_FAILED);
}
