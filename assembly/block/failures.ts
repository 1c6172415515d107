// What the engine failed, for the host to tell: counts by kind of request and errno, and where it began.

import {
  FAILURE_COUNT,
  FAILURE_ERRNOS,
  FAILURE_SECTOR,
  FAILURE_SEEN,
  FAILURE_STRIDE,
  KIND_DISCARD,
  KIND_FLUSH,
  KIND_READ,
  KIND_WRITE,
  KIND_WRITE_ZEROES,
  STEP_FAILED,
  WORKER_FAILURES,
} from "../abi/layout.ts";
import { SECTOR_SHIFT, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_OUT } from "../spec/virtio-blk.ts";
import { isRanges, Request, STAGE_FLUSH } from "./request.ts";

let failures: usize = 0;

/** What this turn is to tell the host of the disk: STEP_FAILED, STEP_STARVED, STEP_SYNC_FAILED. */
export let diskNews: u32 = 0;

export function forgetDiskNews(): void {
  diskNews = 0;
}

export function tellOfDisk(news: u32): void {
  diskNews |= news;
}

export function useFailures(workerPtr: usize): void {
  failures = workerPtr + WORKER_FAILURES;
}

/** `result`: of the operation that failed the request. Not for what the guest asked wrongly, which no engine has seen. */
export function recordFailure(request: Request, result: i32): void {
  const errno: u32 = result < 0 && -result < FAILURE_ERRNOS ? -result : 0;
  const failure = failures + <usize>(kindOf(request) * FAILURE_ERRNOS + errno) * FAILURE_STRIDE;
  const count = load<u64>(failure, FAILURE_COUNT);
  if (count === load<u64>(failure, FAILURE_SEEN)) {
    store<u64>(failure, request.fileOffset >> SECTOR_SHIFT, FAILURE_SECTOR);
  }
  store<u64>(failure, count + 1, FAILURE_COUNT);
  tellOfDisk(STEP_FAILED);
}

/** By the operation rather than by the request: with write-through, ranges end with a flush. */
function kindOf(request: Request): u32 {
  if (request.stage === STAGE_FLUSH) return KIND_FLUSH;
  if (isRanges(request)) {
    return request.type === VIRTIO_BLK_T_DISCARD ? KIND_DISCARD : KIND_WRITE_ZEROES;
  }
  return request.type === VIRTIO_BLK_T_OUT ? KIND_WRITE : KIND_READ;
}
