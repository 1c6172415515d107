// From a descriptor chain to a request: header, I/O vectors, ranges and the place of the status byte (virtio 1.4, 5.2.6).

import {
  DEVICE_ID,
  DEVICE_MAX_RANGES,
  DEVICE_PTR,
  FAULT_ADDRESS,
  FAULT_READABLE_AFTER_WRITABLE,
} from "../abi/layout.ts";
import { clearVectors } from "../io/vectors.ts";
import {
  BLK_HEADER_SIZE,
  RANGE_SIZE,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "../spec/virtio-blk.ts";
import {
  BUFFER,
  beginChain,
  beginLeftover,
  bufferGpa,
  bufferIsWritable,
  bufferLength,
  CHAIN_END,
  chainCount,
  chainId,
  nextBuffer,
} from "../virtqueue/chain.ts";
import {
  copyFromGuest,
  copyToGuest,
  DEFERRED,
  hasRoomForWrites,
  PRESENT,
  PUT_OFF,
  regionSpan,
  spanTarget,
} from "../virtqueue/guest-memory.ts";
import { Virtqueue } from "../virtqueue/state.ts";
import { addData } from "./places.ts";
import { hasHeader, isRanges, Request, SYNC_NONE } from "./request.ts";

/**
 * Reads the chain that is next in the ring into `request`. Nothing else changes, so it may be called again after a
 * miss. PRESENT, MISSED, PUT_OFF or a FAULT.
 */
export function parseRequest(request: Request, queue: Virtqueue): i32 {
  beginChain(queue);
  return parse(request, queue);
}

/** The same for a request that a predecessor left. */
export function parseLeftover(request: Request, queue: Virtqueue): i32 {
  beginLeftover(queue);
  return parse(request, queue);
}

function parse(request: Request, queue: Virtqueue): i32 {
  request.queue = queue;
  request.headerBytes = 0;
  request.outBytes = 0;
  request.inBytes = 0;
  request.writtenBytes = 0;
  request.retries = 0;
  request.isIdDeferred = 0;
  clearVectors(request);
  request.overflowBytes = 0;
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
    if (isData) addData(request, spanTarget, span);
    gpa += span;
    byteLength -= span;
  }
  return PRESENT;
}

/** The ID goes out while the chain is read; should its last byte be the status, that is written over it later. */
function writeId(request: Request, gpa: u64, byteLength: u32): i32 {
  const written = <u32>request.writtenBytes;
  const part = min<u32>(byteLength, VIRTIO_BLK_ID_BYTES - written);
  request.writtenBytes = written + part;
  if (!hasRoomForWrites(part)) return PUT_OFF;
  const result = copyToGuest(gpa, DEVICE_PTR + DEVICE_ID + written, part);
  if (result !== PRESENT && result !== DEFERRED) return result;
  if (result === DEFERRED) request.isIdDeferred = 1;
  return addSegments(request, gpa, byteLength, false);
}

function addRanges(request: Request, before: u64, gpa: u64, byteLength: u32): i32 {
  const room = <u64>load<u32>(DEVICE_PTR, DEVICE_MAX_RANGES) * RANGE_SIZE;
  // More than fits is refused as a whole later (rangesStatus), so its bytes don't matter.
  if (before + byteLength > room) return addSegments(request, gpa, byteLength, false);
  return copyFromGuest(request.table + <usize>before, gpa, byteLength);
}

function headerPtr(request: Request): usize {
  return changetype<usize>(request) + offsetof<Request>("type");
}
