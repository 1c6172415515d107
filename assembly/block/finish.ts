// A request's end: its status byte, what the driver is told was written, and how it is counted.

import {
  KIND_DISCARD,
  KIND_FLUSH,
  KIND_ID,
  KIND_READ,
  KIND_WRITE,
  KIND_WRITE_ZEROES,
} from "../abi/layout.ts";
import { recordLatency } from "../io/latency.ts";
import { DONE, WAITS_FOR_HOST } from "../io/slots.ts";
import {
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../spec/virtio-blk.ts";
import { copyToGuest, DEFERRED, PRESENT } from "../virtqueue/guest-memory.ts";
import { NO_STATUS, Request } from "./request.ts";

/** Ends a request: DONE, or WAITS_FOR_HOST where the host writes its status byte or, before that, its ID. */
export function finishRequest(request: Request, status: i32): i32 {
  request.status = status;
  // The status says that all else is there.
  const written = request.isIdDeferred !== 0 ? DEFERRED : writeStatus(request);
  if (written === DEFERRED) return WAITS_FOR_HOST;
  return close(request, written === PRESENT ? usedLength(request) : 0);
}

/** The host has written what the request waited for. */
export function finishAfterHost(request: Request): i32 {
  if (request.isIdDeferred === 0) return close(request, usedLength(request));
  request.isIdDeferred = 0;
  return finishRequest(request, request.status);
}

function close(request: Request, usedBytes: u32): i32 {
  request.usedBytes = usedBytes;
  count(request);
  return DONE;
}

/** As copyToGuest(). FAULT_ADDRESS: its memory was taken away while it was in flight, and nobody is there to read it. */
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
