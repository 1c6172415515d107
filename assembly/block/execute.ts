// A request's life between its chain and its status byte: what it starts, and what results mean.

import { STEP_STARVED } from "../abi/layout.ts";
import { SUBMITTED, WAITS_FOR_HOST } from "../io/slots.ts";
import { EAGAIN, ECANCELED, EINTR } from "../spec/io-uring.ts";
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../spec/virtio-blk.ts";
import { submitCopy, submitMove } from "./bounce.ts";
import { isReadOnly, noteFlush } from "./disk.ts";
import { recordFailure, tellOfDisk } from "./failures.ts";
import { finishAfterHost, finishRequest } from "./finish.ts";
import { endSync, takeSync } from "./overlaps.ts";
import { afterRange, afterZeroes, startRanges, submitRange, submitZeroes } from "./ranges.ts";
import {
  hasHeader,
  NO_STATUS,
  Request,
  STAGE_BOUNCE_COPY,
  STAGE_BOUNCE_MOVE,
  STAGE_FLUSH,
  STAGE_RANGE,
  STAGE_TRANSFER,
} from "./request.ts";
import { afterFlush, holdSync, isStillHeld, statusOfHeld } from "./stability.ts";
import {
  afterBounceCopy,
  afterBounceMove,
  afterTransfer,
  startRead,
  startTransfer,
  submitFlush,
  submitTransfer,
} from "./transfer.ts";

/** How often the kernel may ask for a retry in a row before that is an error. */
const RETRIES_MAX: u32 = 64;

/** So many retries are no chance any more: the engine lacks what it needs, such as threads of the kernel. */
const RETRIES_OF_CHANCE: u32 = 8;

/** Starts a parsed request: SUBMITTED, DONE or WAITS_FOR_HOST. */
export function startRequest(request: Request, isLeftover: bool): i32 {
  return goOn(request, start(request, isLeftover));
}

/** Takes the result of the operation in flight: SUBMITTED, DONE or WAITS_FOR_HOST. */
export function resumeRequest(request: Request, result: i32): i32 {
  const sync = takeSync(request);
  const status = resume(request, result);
  endSync(sync);
  if (status === VIRTIO_BLK_S_IOERR) recordFailure(request, result);
  return sync !== 0 && holdSync(request, status) ? WAITS_FOR_HOST : goOn(request, status);
}

/** What it waited for may have come about: DONE or WAITS_FOR_HOST. */
export function resumeWaiting(request: Request): i32 {
  if (request.isHeld === 0) return finishAfterHost(request);
  return isStillHeld(request) ? WAITS_FOR_HOST : finishRequest(request, statusOfHeld());
}

/** The request was taken back from the engine. */
export function leaveRequest(request: Request): void {
  endSync(takeSync(request));
}

function goOn(request: Request, status: i32): i32 {
  return status === SUBMITTED ? SUBMITTED : finishRequest(request, status);
}

/**
 * Checks a parsed request and submits its first operation: SUBMITTED, NO_STATUS, or the status it ends with at once. A
 * leftover of a predecessor says nothing of what the driver does now.
 */
function start(request: Request, isLeftover: bool): i32 {
  if (!hasHeader(request) || request.inBytes === 0) return NO_STATUS;
  switch (request.type) {
    case VIRTIO_BLK_T_IN:
      return startRead(request);
    case VIRTIO_BLK_T_OUT:
      return isReadOnly() ? VIRTIO_BLK_S_IOERR : startTransfer(request, request.outBytes);
    case VIRTIO_BLK_T_FLUSH:
      if (!isLeftover) noteFlush();
      return submitFlush(request);
    case VIRTIO_BLK_T_GET_ID:
      // What was written where the status goes doesn't count.
      request.writtenBytes = min<u64>(request.writtenBytes, request.inBytes - 1);
      return VIRTIO_BLK_S_OK;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
      return isReadOnly() ? VIRTIO_BLK_S_IOERR : startRanges(request);
    default:
      return VIRTIO_BLK_S_UNSUPP;
  }
}

/** Takes the result of the operation in flight: SUBMITTED if another follows, else the request's status. */
function resume(request: Request, result: i32): i32 {
  const error = -result;
  // ECANCELED: nobody asked for it here. io_uring gives up so what no thread of the kernel could be made for.
  if (error === EINTR || error === EAGAIN || error === ECANCELED) {
    if (++request.retries > RETRIES_MAX) return VIRTIO_BLK_S_IOERR;
    if (error !== EINTR && request.retries > RETRIES_OF_CHANCE) tellOfDisk(STEP_STARVED);
    return resubmit(request);
  }
  request.retries = 0;
  switch (request.stage) {
    case STAGE_TRANSFER:
      return afterTransfer(request, result);
    case STAGE_FLUSH:
      return afterFlush(result);
    case STAGE_BOUNCE_COPY:
      return afterBounceCopy(request, result);
    case STAGE_BOUNCE_MOVE:
      return afterBounceMove(request, result);
    case STAGE_RANGE:
      return afterRange(request, result);
    default:
      return afterZeroes(request, result);
  }
}

function resubmit(request: Request): i32 {
  switch (request.stage) {
    case STAGE_TRANSFER:
      return submitTransfer(request);
    case STAGE_FLUSH:
      return submitFlush(request);
    case STAGE_BOUNCE_COPY:
      return submitCopy(request);
    case STAGE_BOUNCE_MOVE:
      return submitMove(request);
    case STAGE_RANGE:
      return submitRange(request);
    default:
      return submitZeroes(request);
  }
}
