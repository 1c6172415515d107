// One request: how it is read from its descriptor chain (virtio 1.4, 5.2.6), and how far it has come. Its table holds I/O vectors of
// a transfer, or the ranges of a discard or write zeroes.

import { FAULT_ADDRESS, FAULT_READABLE_AFTER_WRITABLE } from "../abi/faults.ts";
import { REQUEST_STRIDE } from "../abi/worker.ts";
import { Slot } from "../io/slots.ts";
import { addData, clearVectors } from "../io/vectors.ts";
import {
  BLK_HEADER_SECTOR,
  BLK_HEADER_SIZE,
  RANGE_SIZE,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../spec/virtio-blk.ts";
import {
  bufferGpa,
  bufferIsWritable,
  bufferLength,
  chainCount,
  chainId,
  nextBuffer,
} from "../virtqueue/chain.ts";
import {
  copyFromGuest,
  copyToGuest,
  hasRoomForWrites,
  regionSpan,
  spanTarget,
} from "../virtqueue/guest-memory.ts";
import { BUFFER, CHAIN_END, DEFERRED, PRESENT, PUT_OFF } from "../virtqueue/results.ts";
import { Virtqueue } from "../virtqueue/state.ts";
import { blockBytes, idPtr, maxRanges } from "./disk.ts";

/** What the operation that is in flight does. */
export const STAGE_TRANSFER: u32 = 1;
export const STAGE_FLUSH: u32 = 2;
export const STAGE_RANGE: u32 = 3;
export const STAGE_ZEROES: u32 = 4;
export const STAGE_BOUNCE_COPY: u32 = 5;
export const STAGE_BOUNCE_MOVE: u32 = 6;

export const SYNC_NONE: u32 = 0;
export const SYNC_ASKED: u32 = 1;
/** A stable write has failed; the same is written once more without that, to learn what failed. */
export const SYNC_DOUBTED: u32 = 2;

@unmanaged
export class Request extends Slot {
  /** struct virtio_blk_req up to its data, copied from the guest. */
  type: u32;
  reserved: u32;
  sector: u64;

  headerBytes: u32;
  /** Device-readable bytes behind the header; device-writable bytes, the status included. */
  outBytes: u64;
  inBytes: u64;
  statusGpa: u64;
  /** What the driver is told was written, beside the status. */
  writtenBytes: u64;
  /** How it ends, once it has. */
  status: i32;
  /** The host writes the ID, or part of it. */
  isIdDeferred: u32;

  stage: u32;
  retries: u32;
  /** SYNC_*: whether the transfer in flight is to be stable when it completes. */
  sync: u32;
  /** Where the sync in flight is counted (stability.ts), and since when the request waits for others; it does if isHeld. */
  syncCount: u32;
  heldSince: u32;
  isHeld: u32;
  fileOffset: u64;
  remaining: u64;

  /** What of a transfer is in the request's bounce buffer, or on the way there, in bytes. */
  bounceLength: u32;
  /** A vector that was cut short to fit there, or 0, and how long it was. */
  cutVector: usize;
  cutLength: u64;
  rangeIndex: u32;
  rangeCount: u32;
}
if (<i32>offsetof<Request>() > REQUEST_STRIDE) ERROR("Request");
if (offsetof<Request>("sector") !== offsetof<Request>("type") + BLK_HEADER_SECTOR) ERROR("Request.sector");

export function hasHeader(request: Request): bool {
  return request.headerBytes === BLK_HEADER_SIZE;
}

/** A discard or write zeroes: its data are ranges. */
function isRanges(request: Request): bool {
  return request.type === VIRTIO_BLK_T_DISCARD || request.type === VIRTIO_BLK_T_WRITE_ZEROES;
}

/** Counts what an operation has moved. False if that is nothing: the image has become shorter than it was, or full. */
export function countMoved(request: Request, result: i32): bool {
  if (result <= 0 || <u64>result > request.remaining) return false;
  request.fileOffset += result;
  request.remaining -= result;
  return true;
}

// --- From a descriptor chain ----------------------------------------------------------------------------------------

/**
 * Reads the chain at hand into `request`. Nothing else changes, so it may be called again after a miss. PRESENT, MISSED, PUT_OFF or
 * a FAULT.
 */
export function parseRequest(request: Request, queue: Virtqueue): i32 {
  request.queue = queue;
  request.headerBytes = 0;
  request.outBytes = 0;
  request.inBytes = 0;
  request.writtenBytes = 0;
  request.retries = 0;
  request.isIdDeferred = 0;
  clearVectors(request);
  request.sync = SYNC_NONE;
  request.syncCount = 0;
  request.isHeld = 0;
  request.cutVector = 0;
  while (true) {
    const found = nextBuffer();
    if (found === CHAIN_END) break;
    if (found !== BUFFER) return found;
    const result = bufferIsWritable
      ? addWritable(request, bufferGpa, bufferLength)
      : addReadable(request, bufferGpa, bufferLength);
    if (result !== PRESENT) return result;
  }
  request.id = chainId;
  request.count = chainCount;
  return PRESENT;
}

/** Framing is free: the header may be cut anywhere, and data may follow it in its buffer (2.7.4). */
function addReadable(request: Request, gpa: u64, byteLength: u32): i32 {
  if (request.inBytes !== 0) return FAULT_READABLE_AFTER_WRITABLE;
  if (!hasHeader(request)) {
    const part = min<u32>(byteLength, BLK_HEADER_SIZE - request.headerBytes);
    const result = copyFromGuest(headerPtr(request) + request.headerBytes, gpa, part);
    if (result !== PRESENT) return result;
    request.headerBytes += part;
    gpa += part;
    byteLength -= part;
  }
  if (byteLength === 0) return PRESENT;
  const before = request.outBytes;
  request.outBytes = before + byteLength;
  if (isRanges(request)) return addRanges(request, before, gpa, byteLength);
  return addSegments(request, gpa, byteLength, request.type === VIRTIO_BLK_T_OUT);
}

function addWritable(request: Request, gpa: u64, byteLength: u32): i32 {
  if (byteLength === 0) return PRESENT;
  // The status is the last writable byte (5.2.6), in whichever buffer that is.
  request.statusGpa = gpa + byteLength - 1;
  request.inBytes += byteLength;
  if (!hasHeader(request)) return addSegments(request, gpa, byteLength, false);
  if (request.type === VIRTIO_BLK_T_GET_ID) return writeId(request, gpa, byteLength);
  return addSegments(request, gpa, byteLength, request.type === VIRTIO_BLK_T_IN);
}

/** Checks a buffer against guest memory and, if it is data, keeps it as I/O vectors. */
function addSegments(request: Request, gpa: u64, byteLength: u64, isData: bool): i32 {
  while (byteLength > 0) {
    const span = regionSpan(gpa, byteLength);
    if (span === 0) return FAULT_ADDRESS;
    if (isData) addData(request, spanTarget, span, blockBytes());
    gpa += span;
    byteLength -= span;
  }
  return PRESENT;
}

/** Writes the ID while the chain is read. Where its last byte is the place of the status, the status is written over it later. */
function writeId(request: Request, gpa: u64, byteLength: u32): i32 {
  const written = <u32>request.writtenBytes;
  const part = min<u32>(byteLength, VIRTIO_BLK_ID_BYTES - written);
  request.writtenBytes = written + part;
  if (!hasRoomForWrites(part)) return PUT_OFF;
  const result = copyToGuest(gpa, idPtr() + written, part);
  if (result !== PRESENT && result !== DEFERRED) return result;
  if (result === DEFERRED) request.isIdDeferred = 1;
  return addSegments(request, gpa, byteLength, false);
}

function addRanges(request: Request, before: u64, gpa: u64, byteLength: u32): i32 {
  const room = <u64>maxRanges() * RANGE_SIZE;
  // More than fits is refused as a whole later (rangesStatus), so its bytes don't matter.
  if (before + byteLength > room) return addSegments(request, gpa, byteLength, false);
  return copyFromGuest(request.table + <usize>before, gpa, byteLength);
}

function headerPtr(request: Request): usize {
  return changetype<usize>(request) + offsetof<Request>("type");
}
