// Discard and write zeroes: range by range, by fallocate(2), or by writing zeroes where a file can't do that.

import { ZEROES_PTR, ZEROES_SIZE } from "../abi/memory.ts";
import { IOVECS_MAX } from "../abi/worker.ts";
import { memoryHostAddress } from "../io/host.ts";
import { pushSqe } from "../io/uring.ts";
import {
  EINVAL,
  EOPNOTSUPP,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_NO_HIDE_STALE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  IORING_OP_FALLOCATE,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  IOVEC_BASE,
  IOVEC_LEN,
  IOVEC_SIZE,
} from "../spec/io-uring.ts";
import {
  RANGE_FLAGS,
  RANGE_NUM_SECTORS,
  RANGE_SECTOR,
  RANGE_SIZE,
  SECTOR_SHIFT,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from "../spec/virtio-blk.ts";
import { SUBMITTED } from "../virtqueue/results.ts";
import {
  areDiscardsMarked,
  directMask,
  imageFd,
  isInDisk,
  isPartOfBlock,
  isWriteThrough,
  maxRangeSectors,
  maxRanges,
  mayUnmap,
  unalignedFd,
} from "./disk.ts";
import { countMoved, Request, STAGE_RANGE, STAGE_ZEROES } from "./request.ts";
import { submitFlush } from "./transfer.ts";

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

export function startRanges(request: Request): i32 {
  const status = rangesStatus(request);
  if (status !== VIRTIO_BLK_S_OK) return status;
  request.rangeIndex = 0;
  if (request.type === VIRTIO_BLK_T_DISCARD && !mayUnmap()) return VIRTIO_BLK_S_OK;
  return submitRange(request);
}

/** All ranges are checked before the first is touched. The order of the checks is QEMU's, which its tests assert. */
function rangesStatus(request: Request): i32 {
  const room = <u64>maxRanges() * RANGE_SIZE;
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
  const sectorCount = load<u32>(range, RANGE_NUM_SECTORS);
  if (sectorCount > maxRangeSectors(isDiscard)) return VIRTIO_BLK_S_IOERR;
  const sector = load<u64>(range, RANGE_SECTOR);
  if (!isInDisk(sector, sectorCount)) return VIRTIO_BLK_S_IOERR;
  if (isPartOfBlock((sector | <u64>sectorCount) << SECTOR_SHIFT)) return VIRTIO_BLK_S_IOERR;
  const known: u32 = isDiscard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
  return (load<u32>(range, RANGE_FLAGS) & ~known) === 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_UNSUPP;
}

function rangePtr(request: Request): usize {
  return request.table + <usize>request.rangeIndex * RANGE_SIZE;
}

/** Submits the range that is next, or what comes after the last. */
export function submitRange(request: Request): i32 {
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
  const hole: u32 = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  const isDiscard = request.type === VIRTIO_BLK_T_DISCARD;
  if (isDiscard && areDiscardsMarked()) return hole | FALLOC_FL_NO_HIDE_STALE;
  const wantsUnmap =
    isDiscard || (load<u32>(rangePtr(request), RANGE_FLAGS) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) !== 0;
  if (wantsUnmap && mayUnmap()) return hole;
  return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
}

/** Writes zeroes by hand, for files that can't zero a range. */
export function submitZeroes(request: Request): i32 {
  request.stage = STAGE_ZEROES;
  const fd = ((request.fileOffset | request.remaining) & directMask()) === 0 ? imageFd() : unalignedFd();
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

function nextRange(request: Request): i32 {
  request.rangeIndex++;
  return submitRange(request);
}

export function afterRange(request: Request, result: i32): i32 {
  if (result === 0) return nextRange(request);
  // EINVAL: a block device whose blocks are larger than the range's alignment.
  if (result !== -EOPNOTSUPP && result !== -EINVAL) return VIRTIO_BLK_S_IOERR;
  // A discard may do nothing (5.2.6.2); a write-zeroes must leave zeroes.
  return request.type === VIRTIO_BLK_T_DISCARD ? nextRange(request) : submitZeroes(request);
}

export function afterZeroes(request: Request, result: i32): i32 {
  if (!countMoved(request, result)) return VIRTIO_BLK_S_IOERR;
  return request.remaining > 0 ? submitZeroes(request) : nextRange(request);
}
