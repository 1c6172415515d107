// What is told to be stable: flushes and writes through, and what becomes of them once one has failed.

import { STEP_SYNC_FAILED } from "../abi/layout.ts";
import { RWF_DSYNC } from "../spec/io-uring.ts";
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from "../spec/virtio-blk.ts";
import { areSyncsKept, failSync, hasSyncFailed, isWriteThrough } from "./disk.ts";
import { tellOfDisk } from "./failures.ts";
import { Request, SYNC_ASKED, SYNC_DOUBTED, SYNC_NONE } from "./request.ts";

/** Flags of a write that is about to be submitted. */
export function syncFlags(request: Request): u32 {
  if (request.sync !== SYNC_DOUBTED) request.sync = isWriteThrough() ? SYNC_ASKED : SYNC_NONE;
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

function fail(): void {
  // Of all workers, the first tells.
  if (failSync()) tellOfDisk(STEP_SYNC_FAILED);
}
