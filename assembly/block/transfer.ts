// Reads, writes and flushes: one operation at a time, until all has moved.

import { memoryHostAddress } from "../io/host.ts";
import { pushSqe } from "../io/uring.ts";
import { dropLastByte, skipMoved } from "../io/vectors.ts";
import {
  IORING_FSYNC_DATASYNC,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  IOVEC_BASE,
  IOVEC_LEN,
  IOVEC_SIZE,
} from "../spec/io-uring.ts";
import {
  SECTOR_SHIFT,
  SECTOR_SIZE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "../spec/virtio-blk.ts";
import { SUBMITTED } from "../virtqueue/results.ts";
import { canBounce, endCopy, hasMoved, submitBounce, submitCopy, submitMove } from "./bounce.ts";
import { directMask, imageFd, isInDisk, isPartOfBlock, unalignedFd } from "./disk.ts";
import { countMoved, Request, STAGE_FLUSH, STAGE_TRANSFER } from "./request.ts";
import { beginSync, doubtSync, statusOfSync, syncFlags } from "./stability.ts";

export function startRead(request: Request): i32 {
  // That is where the status goes.
  dropLastByte(request);
  return startTransfer(request, request.inBytes - 1);
}

export function startTransfer(request: Request, byteLength: u64): i32 {
  if (request.overflowBytes !== 0 || byteLength % SECTOR_SIZE !== 0) return VIRTIO_BLK_S_IOERR;
  if (!isInDisk(request.sector, byteLength >> SECTOR_SHIFT)) return VIRTIO_BLK_S_IOERR;
  if (byteLength === 0) return VIRTIO_BLK_S_OK;
  request.fileOffset = request.sector << SECTOR_SHIFT;
  request.remaining = byteLength;
  if (isPartOfBlock(request.fileOffset | byteLength)) return VIRTIO_BLK_S_IOERR;
  return submitTransfer(request);
}

export function submitTransfer(request: Request): i32 {
  const isWrite = request.type === VIRTIO_BLK_T_OUT;
  const isDirect = isDirectable(request);
  if (!isDirect && canBounce(request)) return submitBounce(request);
  const fd = isDirect ? imageFd() : unalignedFd();
  const opFlags: u32 = isWrite ? syncFlags(request) : 0;
  request.stage = STAGE_TRANSFER;
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

/** Whether O_DIRECT takes this transfer: guests may use any address (firmware does), the kernel may not. */
function isDirectable(request: Request): bool {
  const mask = directMask();
  if (mask === 0) return true;
  let bits = request.fileOffset;
  const end = request.vector + <usize>request.vectorCount * IOVEC_SIZE;
  for (let vector = request.vector; vector < end; vector += IOVEC_SIZE) {
    bits |= load<u64>(vector, IOVEC_BASE) | load<u64>(vector, IOVEC_LEN);
  }
  return (bits & mask) === 0;
}

export function submitFlush(request: Request): i32 {
  request.stage = STAGE_FLUSH;
  beginSync(request);
  pushSqe(IORING_OP_FSYNC, imageFd(), 0, 0, 0, IORING_FSYNC_DATASYNC, request.userData);
  return SUBMITTED;
}

export function afterTransfer(request: Request, result: i32): i32 {
  if (result < 0 && doubtSync(request)) return submitTransfer(request);
  if (!countMoved(request, result)) return VIRTIO_BLK_S_IOERR;
  const isDone = request.remaining === 0;
  // The operation at hand may have been for less than all that is left.
  if ((!isDone || request.place !== request.lastPlace) && !skipMoved(request, result))
    return VIRTIO_BLK_S_IOERR;
  if (!isDone) return submitTransfer(request);
  if (request.type === VIRTIO_BLK_T_IN) request.writtenBytes = request.inBytes - 1;
  return statusOfSync(request);
}

/** A copy between the guest's buffers and the bounce buffer has ended: a read is done then, a write goes on to the disk. */
export function afterBounceCopy(request: Request, result: i32): i32 {
  if (!endCopy(request, result)) return VIRTIO_BLK_S_IOERR;
  return request.type === VIRTIO_BLK_T_OUT ? submitMove(request) : afterTransfer(request, result);
}

export function afterBounceMove(request: Request, result: i32): i32 {
  if (result < 0 && doubtSync(request)) return submitMove(request);
  if (!hasMoved(request, result)) return VIRTIO_BLK_S_IOERR;
  if (request.type === VIRTIO_BLK_T_OUT) return afterTransfer(request, result);
  // Should the bytes end within a block, what is left begins there, and no bounce buffer is of use to it.
  request.bounceLength = result;
  return submitCopy(request);
}
