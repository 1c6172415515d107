// A request's life, from its chain to its status byte: what it starts, what results mean, how it ends, and how that is counted.

import { KIND_DISCARD, KIND_FLUSH, KIND_ID, KIND_READ, KIND_WRITE, KIND_WRITE_ZEROES } from "../abi/block.ts";
import { STEP_STARVED } from "../abi/step.ts";
import { tellHost } from "../io/host.ts";
import { recordFailure, recordLatency } from "../io/statistics.ts";
import { logVectors } from "../io/vectors.ts";
import { EAGAIN, ECANCELED, EINTR } from "../spec/io-uring.ts";
import {
  SECTOR_SHIFT,
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
import { isLogging } from "../virtqueue/dirty-log.ts";
import { copyToGuest } from "../virtqueue/guest-memory.ts";
import { DEFERRED, DONE, NO_STATUS, PRESENT, SUBMITTED, WAITS_FOR_HOST } from "../virtqueue/results.ts";
import { submitCopy, submitMove } from "./bounce.ts";
import { isReadOnly, noteFlush } from "./disk.ts";
import { afterRange, afterZeroes, startRanges, submitRange, submitZeroes } from "./ranges.ts";
import {
  hasHeader,
  Request,
  STAGE_BOUNCE_COPY,
  STAGE_BOUNCE_MOVE,
  STAGE_FLUSH,
  STAGE_RANGE,
  STAGE_TRANSFER,
} from "./request.ts";
import { afterFlush, endHold, endSync, holdSync, statusOfHeld, takeSync } from "./stability.ts";
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

/** After so many retries in a row the engine lacks something that it needs, such as threads of the kernel. */
const RETRIES_OF_CHANCE: u32 = 8;

/** Starts a parsed request: SUBMITTED, DONE or WAITS_FOR_HOST. */
export function startRequest(request: Request, isLeftover: bool): i32 {
  return goOn(request, start(request, isLeftover));
}

/** Takes the result of the operation in flight: SUBMITTED, DONE or WAITS_FOR_HOST. */
export function resumeRequest(request: Request, result: i32): i32 {
  // Before the vectors go past what was moved. One that has failed may have written some of it.
  if (isLogging && writesGuest(request)) logVectors(request, 0);
  const sync = takeSync(request);
  const status = resume(request, result);
  endSync(sync);
  if (status === VIRTIO_BLK_S_IOERR)
    recordFailure(failedKind(request), result, request.fileOffset >> SECTOR_SHIFT);
  return sync !== 0 && holdSync(request, status) ? WAITS_FOR_HOST : goOn(request, status);
}

/** What it waited for may have come about: DONE or WAITS_FOR_HOST. */
export function resumeWaiting(request: Request): i32 {
  if (request.isHeld === 0) return finishAfterHost(request);
  return endHold(request) ? finish(request, statusOfHeld()) : WAITS_FOR_HOST;
}

/** The request was taken back from the engine. */
export function leaveRequest(request: Request): void {
  endSync(takeSync(request));
}

function goOn(request: Request, status: i32): i32 {
  return status === SUBMITTED ? SUBMITTED : finish(request, status);
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
  // ECANCELED comes here only where the core has asked for no cancellation: io_uring ends an operation so when it can't make a
  // thread for it.
  if (error === EINTR || error === EAGAIN || error === ECANCELED) {
    if (++request.retries > RETRIES_MAX) return VIRTIO_BLK_S_IOERR;
    if (error !== EINTR && request.retries > RETRIES_OF_CHANCE) tellHost(STEP_STARVED);
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

/** Whether the operation that has ended was to write into the guest's buffers. */
function writesGuest(request: Request): bool {
  const isMove = request.stage === STAGE_TRANSFER || request.stage === STAGE_BOUNCE_COPY;
  return request.type === VIRTIO_BLK_T_IN && isMove;
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

// --- A request's end --------------------------------------------------------------------------------------------------

/** Ends a request: DONE, or WAITS_FOR_HOST where the host writes its status byte or, before that, its ID. */
function finish(request: Request, status: i32): i32 {
  request.status = status;
  // The driver takes the rest of the answer as written once it sees the status: an ID comes first.
  const written = request.isIdDeferred !== 0 ? DEFERRED : writeStatus(request);
  if (written === DEFERRED) return WAITS_FOR_HOST;
  return close(request, written === PRESENT ? usedLength(request) : 0);
}

/** The host has written what the request waited for. */
function finishAfterHost(request: Request): i32 {
  if (request.isIdDeferred === 0) return close(request, usedLength(request));
  request.isIdDeferred = 0;
  return finish(request, request.status);
}

function close(request: Request, usedBytes: u32): i32 {
  request.usedBytes = usedBytes;
  count(request);
  return DONE;
}

/** As copyToGuest(). FAULT_ADDRESS: the front-end took that memory away while the request was in flight, so nobody reads it. */
function writeStatus(request: Request): i32 {
  if (request.status === NO_STATUS) return PRESENT;
  return copyToGuest(request.statusGpa, changetype<usize>(request) + offsetof<Request>("status"), 1);
}

/** Bytes written into the chain, the status included. */
function usedLength(request: Request): u32 {
  if (request.status === NO_STATUS) return 0;
  return request.status === VIRTIO_BLK_S_OK ? <u32>request.writtenBytes + 1 : 1;
}

function count(request: Request): void {
  const queue = request.queue;
  if (request.status !== VIRTIO_BLK_S_OK) {
    queue.failures++;
    return;
  }
  switch (request.type) {
    case VIRTIO_BLK_T_IN:
      queue.countDone(KIND_READ, request.inBytes - 1, 0);
      recordLatency(request, KIND_READ);
      break;
    case VIRTIO_BLK_T_OUT:
      queue.countDone(KIND_WRITE, 0, request.outBytes);
      recordLatency(request, KIND_WRITE);
      break;
    case VIRTIO_BLK_T_FLUSH:
      queue.countDone(KIND_FLUSH, 0, 0);
      recordLatency(request, KIND_FLUSH);
      break;
    case VIRTIO_BLK_T_DISCARD:
      queue.countDone(KIND_DISCARD, 0, 0);
      recordLatency(request, KIND_DISCARD);
      break;
    case VIRTIO_BLK_T_WRITE_ZEROES:
      queue.countDone(KIND_WRITE_ZEROES, 0, 0);
      recordLatency(request, KIND_WRITE_ZEROES);
      break;
    default:
      queue.countDone(KIND_ID, 0, 0);
  }
}

/** The kind of the operation that failed, not that of its request: with write-through, a discard ends with a flush. */
function failedKind(request: Request): u32 {
  return request.stage === STAGE_FLUSH ? KIND_FLUSH : kindOf(request.type);
}

function kindOf(type: u32): u32 {
  switch (type) {
    case VIRTIO_BLK_T_IN:
      return KIND_READ;
    case VIRTIO_BLK_T_OUT:
      return KIND_WRITE;
    case VIRTIO_BLK_T_FLUSH:
      return KIND_FLUSH;
    case VIRTIO_BLK_T_DISCARD:
      return KIND_DISCARD;
    case VIRTIO_BLK_T_WRITE_ZEROES:
      return KIND_WRITE_ZEROES;
    default:
      return KIND_ID;
  }
}
