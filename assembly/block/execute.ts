// A request's life between its chain and its status byte: what it starts, what results mean, how it is counted.

import {
  LATENCY_DISCARD,
  LATENCY_FLUSH,
  LATENCY_READ,
  LATENCY_WRITE,
  LATENCY_WRITE_ZEROES,
} from "../abi/layout.ts";
import { recordLatency } from "../io/latency.ts";
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
import { afterFlush } from "./stability.ts";
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

/** Whether an operation goes to the engine again that lacks what it needs. The turn tells the host, and resets it. */
export let isStarved: bool = false;

export function forgetStarvation(): void {
  isStarved = false;
}

/**
 * Checks a parsed request and submits its first operation: SUBMITTED, NO_STATUS, or the status it ends with at once. A
 * leftover of a predecessor says nothing of what the driver does now.
 */
export function startRequest(request: Request, isLeftover: bool): i32 {
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
export function resumeRequest(request: Request, result: i32): i32 {
  const error = -result;
  // ECANCELED: nobody asked for it here. io_uring gives up so what no thread of the kernel could be made for.
  if (error === EINTR || error === EAGAIN || error === ECANCELED) {
    if (++request.retries > RETRIES_MAX) return VIRTIO_BLK_S_IOERR;
    if (error !== EINTR && request.retries > RETRIES_OF_CHANCE) isStarved = true;
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

/** Counts a request that ends with `status` in its queue's statistics. */
export function countRequest(request: Request, status: i32): void {
  const queue = request.queue;
  if (status !== VIRTIO_BLK_S_OK) {
    queue.failures++;
    return;
  }
  switch (request.type) {
    case VIRTIO_BLK_T_IN:
      queue.reads++;
      queue.readBytes += request.inBytes - 1;
      recordLatency(request, LATENCY_READ);
      break;
    case VIRTIO_BLK_T_OUT:
      queue.writes++;
      queue.writtenBytes += request.outBytes;
      recordLatency(request, LATENCY_WRITE);
      break;
    case VIRTIO_BLK_T_FLUSH:
      queue.flushes++;
      recordLatency(request, LATENCY_FLUSH);
      break;
    case VIRTIO_BLK_T_DISCARD:
      queue.discards++;
      recordLatency(request, LATENCY_DISCARD);
      break;
    case VIRTIO_BLK_T_WRITE_ZEROES:
      queue.writeZeroes++;
      recordLatency(request, LATENCY_WRITE_ZEROES);
      break;
    default:
      queue.ids++;
  }
}
