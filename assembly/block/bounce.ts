// Transfers from or to addresses that O_DIRECT refuses: through a buffer of the request's own, piece by piece. The core never
// touches a guest's data, so copying, too, is an operation of the engine's: on the file that lies behind the buffers.
//
// Not through the page cache: a direct write of the same page at the same time throws the cached page away, and with it
// what was written there (open(2), "Applications should avoid mixing O_DIRECT and normal I/O").

import { BOUNCE_SIZE, BOUNCE_TOTAL, WORKER_BOUNCE } from "../abi/worker.ts";
import { memoryHostAddress } from "../io/host.ts";
import { indexOf, pushSqe } from "../io/uring.ts";
import {
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  IOVEC_LEN,
  IOVEC_SIZE,
} from "../spec/io-uring.ts";
import { VIRTIO_BLK_T_OUT } from "../spec/virtio-blk.ts";
import { SUBMITTED } from "../virtqueue/results.ts";
import { bounceFd, directMask, imageFd } from "./disk.ts";
import { Request, STAGE_BOUNCE_COPY, STAGE_BOUNCE_MOVE } from "./request.ts";
import { syncFlags } from "./stability.ts";

let buffers: usize = 0;
let fileOffset: u64 = 0;

export function openBounce(worker: usize, workerIndex: u32): void {
  buffers = worker + WORKER_BOUNCE;
  fileOffset = <u64>workerIndex * BOUNCE_TOTAL;
}

/** Whether there is a buffer, and the transfer's place on the disk is one that O_DIRECT takes. */
export function canBounce(request: Request): bool {
  if (bounceFd() <= 0 || ((request.fileOffset | request.remaining) & directMask()) !== 0) return false;
  return pieceOf(request) > 0;
}

/** What goes at once: whole blocks of the disk, of what the operation at hand has vectors for. */
function pieceOf(request: Request): u32 {
  let length: u64 = 0;
  const end = request.vector + <usize>request.vectorCount * IOVEC_SIZE;
  for (let vector = request.vector; vector < end && length < <u64>BOUNCE_SIZE; vector += IOVEC_SIZE) {
    length += load<u64>(vector, IOVEC_LEN);
  }
  return <u32>(min<u64>(length, BOUNCE_SIZE) & ~directMask());
}

export function submitBounce(request: Request): i32 {
  request.bounceLength = pieceOf(request);
  return request.type === VIRTIO_BLK_T_OUT ? submitCopy(request) : submitMove(request);
}

/** Between the guest's buffers and ours. */
export function submitCopy(request: Request): i32 {
  request.stage = STAGE_BOUNCE_COPY;
  const count = cutVectors(request);
  const opcode = request.type === VIRTIO_BLK_T_OUT ? IORING_OP_WRITEV : IORING_OP_READV;
  const address = memoryHostAddress() + request.vector;
  pushSqe(opcode, bounceFd(), fileOffset + bufferOf(request), address, count, 0, request.userData);
  return SUBMITTED;
}

/** Between our buffer and the disk. */
export function submitMove(request: Request): i32 {
  request.stage = STAGE_BOUNCE_MOVE;
  const isWrite = request.type === VIRTIO_BLK_T_OUT;
  const opcode = isWrite ? IORING_OP_WRITE : IORING_OP_READ;
  const opFlags: u32 = isWrite ? syncFlags(request) : 0;
  const address = memoryHostAddress() + buffers + <usize>bufferOf(request);
  pushSqe(opcode, imageFd(), request.fileOffset, address, request.bounceLength, opFlags, request.userData);
  return SUBMITTED;
}

/** Makes the vector that was cut whole again. False if not all of the piece was copied: the guest's memory has become smaller. */
export function endCopy(request: Request, result: i32): bool {
  if (request.cutVector !== 0) store<u64>(request.cutVector, request.cutLength, IOVEC_LEN);
  request.cutVector = 0;
  return result === <i32>request.bounceLength;
}

/** Whether the disk has taken or given bytes of the piece: `result` of them. */
export function hasMoved(request: Request, result: i32): bool {
  return result > 0 && result <= <i32>request.bounceLength;
}

function bufferOf(request: Request): u64 {
  return <u64>indexOf(request.userData) * BOUNCE_SIZE;
}

/** Makes the first vectors as long as the piece, the last of them by cutting it. Returns how many they are. */
function cutVectors(request: Request): u32 {
  let left: u64 = request.bounceLength;
  let vector = request.vector;
  let count: u32 = 0;
  while (left > 0) {
    const length = load<u64>(vector, IOVEC_LEN);
    if (length > left) {
      request.cutVector = vector;
      request.cutLength = length;
      store<u64>(vector, left, IOVEC_LEN);
    }
    left -= min<u64>(length, left);
    vector += IOVEC_SIZE;
    count++;
  }
  return count;
}
