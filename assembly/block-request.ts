// One virtio-blk request: from a descriptor chain to file operations, and from their results to a status byte.
import {
  BUFFER,
  beginChain,
  bufferGpa,
  bufferIsWritable,
  bufferLength,
  CHAIN_END,
  chainCount,
  chainId,
  nextBuffer,
} from "./descriptor-chain.ts";
import { copyFromGuest, copyToGuest, PRESENT, regionSpan, spanTarget } from "./guest-memory.ts";
import {
  EAGAIN,
  EINTR,
  EINVAL,
  EOPNOTSUPP,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  IORING_FSYNC_DATASYNC,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  IOVEC_BASE,
  IOVEC_LEN,
  IOVEC_SIZE,
  RWF_DSYNC,
} from "./spec/io-uring.ts";
import {
  DEVICE_BLOCK_SECTORS,
  DEVICE_CAPACITY_SECTORS,
  DEVICE_DIRECT_MASK,
  DEVICE_DISCARD_UNMAPS,
  DEVICE_FILE_FD,
  DEVICE_ID,
  DEVICE_MAX_DISCARD_SECTORS,
  DEVICE_MAX_RANGES,
  DEVICE_MAX_WRITE_ZEROES_SECTORS,
  DEVICE_MEMORY_HOST_ADDRESS,
  DEVICE_PTR,
  DEVICE_READ_ONLY,
  DEVICE_UNALIGNED_FD,
  DEVICE_WRITE_THROUGH,
  FAULT_ADDRESS,
  FAULT_READABLE_AFTER_WRITABLE,
  IOVECS_MAX,
  REQUEST_STRIDE,
  ZEROES_PTR,
  ZEROES_SIZE,
} from "./spec/layout.ts";
import {
  BLK_HEADER_SIZE,
  RANGE_FLAGS,
  RANGE_NUM_SECTORS,
  RANGE_SECTOR,
  RANGE_SIZE,
  SECTOR_SHIFT,
  SECTOR_SIZE,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from "./spec/virtio-blk.ts";
import { pushSqe } from "./uring.ts";
import { Virtqueue } from "./virtqueue.ts";

/** The request goes on: its next operation has been submitted. Other results are status bytes. */
export const SUBMITTED = -1;
/** The chain has no place for a header or a status byte: it is used with length 0. */
export const NO_STATUS = -2;

/** What the operation that is in flight does. */
const STAGE_TRANSFER: u32 = 1;
const STAGE_FLUSH: u32 = 2;
const STAGE_RANGE: u32 = 3;
const STAGE_ZEROES: u32 = 4;

/** How often the kernel may ask for a retry in a row before that is an error. */
const RETRIES_MAX: u32 = 64;

/** Most of what one operation moves: MAX_RW_COUNT of the kernel. */
const TRANSFER_MAX: u64 = 0x7ffff000;

@unmanaged
export class Request {
  /** struct virtio_blk_req up to its data, copied from the guest. */
  type: u32;
  reserved: u32;
  sector: u64;

  queue: Virtqueue;
  /** The next free request, while this one is free. */
  nextFree: Request;
  isFree: u32;
  userData: u64;

  /** Names the chain to the driver; descriptors of the ring that it holds. */
  id: u32;
  count: u32;

  headerBytes: u32;
  /** Device-readable bytes behind the header; device-writable bytes, the status included. */
  outBytes: u64;
  inBytes: u64;
  statusGpa: u64;
  /** What the driver is told was written, beside the status. */
  writtenBytes: u64;

  stage: u32;
  retries: u32;
  fileOffset: u64;
  remaining: u64;

  /** I/O vectors of a transfer, or the ranges of a discard or write zeroes. */
  table: usize;
  /** The first vector with something left, and how many there are from there. */
  vector: usize;
  vectorCount: u32;
  /** Data that found no vector. */
  overflowBytes: u64;
  rangeIndex: u32;
  rangeCount: u32;
}
if (<i32>offsetof<Request>() > REQUEST_STRIDE) ERROR("Request");

/** A worker's constant table of vectors that all point to zeroes. */
let zeroVectors: usize = 0;

export function useZeroVectors(table: usize): void {
  zeroVectors = table;
  const zeroes = memoryHostAddress() + ZEROES_PTR;
  for (let i = 0; i < IOVECS_MAX; i++) {
    const vector = table + <usize>i * IOVEC_SIZE;
    store<u64>(vector, zeroes, IOVEC_BASE);
    store<u64>(vector, ZEROES_SIZE, IOVEC_LEN);
  }
}

function memoryHostAddress(): u64 {
  return load<u64>(DEVICE_PTR, DEVICE_MEMORY_HOST_ADDRESS);
}

// --- From the chain -------------------------------------------------------------------------------------------------

/**
 * Reads the chain that is next in the ring into `request`. Nothing else changes, so it may be called again after a
 * miss. PRESENT, MISSED or a FAULT.
 */
export function parseRequest(request: Request, queue: Virtqueue): i32 {
  request.queue = queue;
  request.headerBytes = 0;
  request.outBytes = 0;
  request.inBytes = 0;
  request.writtenBytes = 0;
  request.retries = 0;
  request.vector = request.table;
  request.vectorCount = 0;
  request.overflowBytes = 0;

  beginChain(queue);
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

function hasHeader(request: Request): bool {
  return request.headerBytes === BLK_HEADER_SIZE;
}

/** Framing is free: the header may be cut anywhere, and data may follow it in its buffer (2.7.4). */
function addReadable(request: Request, gpa: u64, byteLength: u32): i32 {
  if (request.inBytes !== 0) return FAULT_READABLE_AFTER_WRITABLE;
  if (!hasHeader(request)) {
    const part = min<u32>(byteLength, BLK_HEADER_SIZE - request.headerBytes);
    const result = copyFromGuest(changetype<usize>(request) + request.headerBytes, gpa, part);
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
    if (isData) addVector(request, spanTarget, span);
    gpa += span;
    byteLength -= span;
  }
  return PRESENT;
}

function addVector(request: Request, hostAddress: u64, byteLength: u64): void {
  const count = request.vectorCount;
  if (count > 0) {
    const last = request.table + <usize>(count - 1) * IOVEC_SIZE;
    const length = load<u64>(last, IOVEC_LEN);
    const touches = load<u64>(last, IOVEC_BASE) + length === hostAddress;
    if (touches && length + byteLength <= TRANSFER_MAX) {
      store<u64>(last, length + byteLength, IOVEC_LEN);
      return;
    }
  }
  if (count === IOVECS_MAX) {
    request.overflowBytes += byteLength;
    return;
  }
  const vector = request.table + <usize>count * IOVEC_SIZE;
  store<u64>(vector, hostAddress, IOVEC_BASE);
  store<u64>(vector, byteLength, IOVEC_LEN);
  request.vectorCount = count + 1;
}

/** The ID goes out while the chain is read; should its last byte be the status, that is written over it later. */
function writeId(request: Request, gpa: u64, byteLength: u32): i32 {
  const written = <u32>request.writtenBytes;
  const part = min<u32>(byteLength, VIRTIO_BLK_ID_BYTES - written);
  request.writtenBytes = written + part;
  const result = copyToGuest(gpa, DEVICE_PTR + DEVICE_ID + written, part);
  return result === PRESENT ? addSegments(request, gpa, byteLength, false) : result;
}

function isRanges(request: Request): bool {
  return request.type === VIRTIO_BLK_T_DISCARD || request.type === VIRTIO_BLK_T_WRITE_ZEROES;
}

function addRanges(request: Request, before: u64, gpa: u64, byteLength: u32): i32 {
  const room = <u64>load<u32>(DEVICE_PTR, DEVICE_MAX_RANGES) * RANGE_SIZE;
  // More than fits is refused as a whole later (rangesStatus), so its bytes don't matter.
  if (before + byteLength > room) return addSegments(request, gpa, byteLength, false);
  return copyFromGuest(request.table + <usize>before, gpa, byteLength);
}

// --- To file operations ---------------------------------------------------------------------------------------------

/** Checks a parsed request and submits its first operation: SUBMITTED, NO_STATUS, or the status it ends with at once. */
export function startRequest(request: Request): i32 {
  if (!hasHeader(request) || request.inBytes === 0) return NO_STATUS;
  switch (request.type) {
    case VIRTIO_BLK_T_IN:
      return startRead(request);
    case VIRTIO_BLK_T_OUT:
      return isReadOnly() ? VIRTIO_BLK_S_IOERR : startTransfer(request, request.outBytes);
    case VIRTIO_BLK_T_FLUSH:
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

function isReadOnly(): bool {
  return load<u32>(DEVICE_PTR, DEVICE_READ_ONLY) !== 0;
}

function isWriteThrough(): bool {
  // The driver may change its mind at any time (5.2.5, writeback).
  return atomic.load<u32>(DEVICE_PTR, DEVICE_WRITE_THROUGH) !== 0;
}

function isInDisk(sector: u64, sectorCount: u64): bool {
  if (sector % load<u32>(DEVICE_PTR, DEVICE_BLOCK_SECTORS) !== 0) return false;
  const capacity = load<u64>(DEVICE_PTR, DEVICE_CAPACITY_SECTORS);
  return sector <= capacity && sectorCount <= capacity - sector;
}

function startRead(request: Request): i32 {
  // The last byte is the status's, not data's.
  if (request.overflowBytes > 0) {
    request.overflowBytes--;
  } else if (request.vectorCount > 0) {
    const last = request.table + <usize>(request.vectorCount - 1) * IOVEC_SIZE;
    const length = load<u64>(last, IOVEC_LEN) - 1;
    store<u64>(last, length, IOVEC_LEN);
    if (length === 0) request.vectorCount--;
  }
  return startTransfer(request, request.inBytes - 1);
}

function startTransfer(request: Request, byteLength: u64): i32 {
  if (request.overflowBytes !== 0 || byteLength % SECTOR_SIZE !== 0) return VIRTIO_BLK_S_IOERR;
  if (!isInDisk(request.sector, byteLength >> SECTOR_SHIFT)) return VIRTIO_BLK_S_IOERR;
  if (byteLength === 0) return VIRTIO_BLK_S_OK;
  request.fileOffset = request.sector << SECTOR_SHIFT;
  request.remaining = byteLength;
  return submitTransfer(request);
}

function submitTransfer(request: Request): i32 {
  request.stage = STAGE_TRANSFER;
  const isWrite = request.type === VIRTIO_BLK_T_OUT;
  const opFlags: u32 = isWrite && isWriteThrough() ? RWF_DSYNC : 0;
  const fd = isDirectable(request) ? imageFd() : unalignedFd();
  if (request.vectorCount === 1) {
    const opcode = isWrite ? IORING_OP_WRITE : IORING_OP_READ;
    const address = load<u64>(request.vector, IOVEC_BASE);
    const length = <u32>load<u64>(request.vector, IOVEC_LEN);
    pushSqe(opcode, fd, request.fileOffset, address, length, opFlags, request.userData);
  } else {
    const opcode = isWrite ? IORING_OP_WRITEV : IORING_OP_READV;
    const address = memoryHostAddress() + request.vector;
    pushSqe(opcode, fd, request.fileOffset, address, request.vectorCount, opFlags, request.userData);
  }
  return SUBMITTED;
}

function imageFd(): i32 {
  return load<i32>(DEVICE_PTR, DEVICE_FILE_FD);
}

function unalignedFd(): i32 {
  return load<i32>(DEVICE_PTR, DEVICE_UNALIGNED_FD);
}

/** Whether O_DIRECT takes this transfer: guests may use any address (firmware does), the kernel may not. */
function isDirectable(request: Request): bool {
  const mask = <u64>load<u32>(DEVICE_PTR, DEVICE_DIRECT_MASK);
  if (mask === 0) return true;
  let bits = request.fileOffset;
  const end = request.vector + <usize>request.vectorCount * IOVEC_SIZE;
  for (let vector = request.vector; vector < end; vector += IOVEC_SIZE) {
    bits |= load<u64>(vector, IOVEC_BASE) | load<u64>(vector, IOVEC_LEN);
  }
  return (bits & mask) === 0;
}

function submitFlush(request: Request): i32 {
  request.stage = STAGE_FLUSH;
  pushSqe(IORING_OP_FSYNC, imageFd(), 0, 0, 0, IORING_FSYNC_DATASYNC, request.userData);
  return SUBMITTED;
}

function rangePtr(request: Request): usize {
  return request.table + <usize>request.rangeIndex * RANGE_SIZE;
}

function startRanges(request: Request): i32 {
  const status = rangesStatus(request);
  if (status !== VIRTIO_BLK_S_OK) return status;
  request.rangeIndex = 0;
  if (request.type === VIRTIO_BLK_T_DISCARD && !mayUnmap()) return VIRTIO_BLK_S_OK;
  return submitRange(request);
}

/** All ranges are checked before the first is touched. The order of the checks is QEMU's, which its tests assert. */
function rangesStatus(request: Request): i32 {
  const room = <u64>load<u32>(DEVICE_PTR, DEVICE_MAX_RANGES) * RANGE_SIZE;
  if (request.outBytes > room) return VIRTIO_BLK_S_UNSUPP;
  if (request.outBytes === 0 || request.outBytes % RANGE_SIZE !== 0) return VIRTIO_BLK_S_IOERR;
  request.rangeCount = <u32>(request.outBytes / RANGE_SIZE);
  for (request.rangeIndex = 0; request.rangeIndex < request.rangeCount; request.rangeIndex++) {
    const status = rangeStatus(request);
    if (status !== VIRTIO_BLK_S_OK) return status;
  }
  return VIRTIO_BLK_S_OK;
}

function rangeStatus(request: Request): i32 {
  const range = rangePtr(request);
  const isDiscard = request.type === VIRTIO_BLK_T_DISCARD;
  const limit = isDiscard ? DEVICE_MAX_DISCARD_SECTORS : DEVICE_MAX_WRITE_ZEROES_SECTORS;
  const sectorCount = load<u32>(range, RANGE_NUM_SECTORS);
  if (sectorCount > load<u32>(DEVICE_PTR + limit)) return VIRTIO_BLK_S_IOERR;
  if (!isInDisk(load<u64>(range, RANGE_SECTOR), sectorCount)) return VIRTIO_BLK_S_IOERR;
  const known: u32 = isDiscard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
  return (load<u32>(range, RANGE_FLAGS) & ~known) === 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_UNSUPP;
}

function mayUnmap(): bool {
  return load<u32>(DEVICE_PTR, DEVICE_DISCARD_UNMAPS) !== 0;
}

/** Submits the range that is next, or what comes after the last. */
function submitRange(request: Request): i32 {
  request.stage = STAGE_RANGE;
  while (request.rangeIndex < request.rangeCount) {
    const range = rangePtr(request);
    request.fileOffset = load<u64>(range, RANGE_SECTOR) << SECTOR_SHIFT;
    request.remaining = (<u64>load<u32>(range, RANGE_NUM_SECTORS)) << SECTOR_SHIFT;
    if (request.remaining > 0) {
      // The length of a fallocate travels in addr, its mode in len.
      const mode = fallocateMode(request);
      pushSqe(
        IORING_OP_FALLOCATE,
        imageFd(),
        request.fileOffset,
        request.remaining,
        mode,
        0,
        request.userData,
      );
      return SUBMITTED;
    }
    request.rangeIndex++;
  }
  return isWriteThrough() ? submitFlush(request) : VIRTIO_BLK_S_OK;
}

function fallocateMode(request: Request): u32 {
  const wantsUnmap =
    request.type === VIRTIO_BLK_T_DISCARD ||
    (load<u32>(rangePtr(request), RANGE_FLAGS) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) !== 0;
  if (wantsUnmap && mayUnmap()) return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
}

/** Writes zeroes by hand, for files that can't zero a range. */
function submitZeroes(request: Request): i32 {
  request.stage = STAGE_ZEROES;
  const mask = <u64>load<u32>(DEVICE_PTR, DEVICE_DIRECT_MASK);
  const fd = ((request.fileOffset | request.remaining) & mask) === 0 ? imageFd() : unalignedFd();
  const vectorCount = <u32>min<u64>(request.remaining / ZEROES_SIZE, IOVECS_MAX);
  if (vectorCount > 0) {
    const address = memoryHostAddress() + zeroVectors;
    pushSqe(IORING_OP_WRITEV, fd, request.fileOffset, address, vectorCount, 0, request.userData);
  } else {
    const address = memoryHostAddress() + ZEROES_PTR;
    pushSqe(IORING_OP_WRITE, fd, request.fileOffset, address, <u32>request.remaining, 0, request.userData);
  }
  return SUBMITTED;
}

// --- From their results ---------------------------------------------------------------------------------------------

/** Takes the result of the operation in flight: SUBMITTED if another follows, else the request's status. */
export function resumeRequest(request: Request, result: i32): i32 {
  const error = -result;
  if (error === EINTR || error === EAGAIN) {
    if (++request.retries > RETRIES_MAX) return VIRTIO_BLK_S_IOERR;
    return resubmit(request);
  }
  request.retries = 0;
  if (request.stage === STAGE_FLUSH) return result === 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
  if (request.stage === STAGE_RANGE) return afterRange(request, result);
  // Nothing moved: the image has become shorter than it was.
  if (result <= 0 || <u64>result > request.remaining) return VIRTIO_BLK_S_IOERR;
  request.fileOffset += result;
  request.remaining -= result;
  if (request.stage === STAGE_ZEROES)
    return request.remaining > 0 ? submitZeroes(request) : nextRange(request);
  if (request.remaining > 0) {
    skipMoved(request, result);
    return submitTransfer(request);
  }
  if (request.type === VIRTIO_BLK_T_IN) request.writtenBytes = request.inBytes - 1;
  return VIRTIO_BLK_S_OK;
}

function resubmit(request: Request): i32 {
  switch (request.stage) {
    case STAGE_TRANSFER:
      return submitTransfer(request);
    case STAGE_FLUSH:
      return submitFlush(request);
    case STAGE_RANGE:
      return submitRange(request);
    default:
      return submitZeroes(request);
  }
}

function nextRange(request: Request): i32 {
  request.rangeIndex++;
  return submitRange(request);
}

function afterRange(request: Request, result: i32): i32 {
  if (result === 0) return nextRange(request);
  // EINVAL: a block device whose blocks are larger than the range's alignment.
  if (result !== -EOPNOTSUPP && result !== -EINVAL) return VIRTIO_BLK_S_IOERR;
  // A discard is advice (5.2.6.2); zeroes are owed.
  return request.type === VIRTIO_BLK_T_DISCARD ? nextRange(request) : submitZeroes(request);
}

/** Leaves in the vectors what a short transfer has not moved. */
function skipMoved(request: Request, byteLength: u64): void {
  while (byteLength > 0) {
    const length = load<u64>(request.vector, IOVEC_LEN);
    if (byteLength < length) {
      store<u64>(request.vector, load<u64>(request.vector, IOVEC_BASE) + byteLength, IOVEC_BASE);
      store<u64>(request.vector, length - byteLength, IOVEC_LEN);
      return;
    }
    byteLength -= length;
    request.vector += IOVEC_SIZE;
    request.vectorCount--;
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
      break;
    case VIRTIO_BLK_T_OUT:
      queue.writes++;
      queue.writtenBytes += request.outBytes;
      break;
    case VIRTIO_BLK_T_FLUSH:
      queue.flushes++;
      break;
    case VIRTIO_BLK_T_DISCARD:
      queue.discards++;
      break;
    case VIRTIO_BLK_T_WRITE_ZEROES:
      queue.writeZeroes++;
      break;
    default:
      queue.ids++;
  }
}
