// A chain as one operation, for devices that the core knows nothing of: its buffers by host address, the result its length.

import {
  CHAIN_F_FAIL,
  CHAIN_F_LEFTOVER,
  CHAIN_FAILED,
  CHAIN_FAILED_LIMIT,
  CHAIN_PARKED,
  KIND_CHAIN,
  OP_CHAIN,
} from "./abi/chain.ts";
import { FAULT_ADDRESS, FAULT_READABLE_AFTER_WRITABLE } from "./abi/faults.ts";
import { QUEUE_F_RECOVER_FAIL, QUEUE_F_RECOVER_FORGET } from "./abi/queue.ts";
import { IOVECS_MAX, REQUEST_STRIDE } from "./abi/worker.ts";
import { memoryHostAddress } from "./io/host.ts";
import { Slot } from "./io/slots.ts";
import { recordLatency } from "./io/statistics.ts";
import { pushSqe } from "./io/uring.ts";
import { clearVectors, extendLast, logVectors, pushVector } from "./io/vectors.ts";
import {
  bufferGpa,
  bufferIsWritable,
  bufferLength,
  chainCount,
  chainId,
  nextBuffer,
} from "./virtqueue/chain.ts";
import { isLogging } from "./virtqueue/dirty-log.ts";
import { regionSpan, spanTarget } from "./virtqueue/guest-memory.ts";
import { isNextParked } from "./virtqueue/queue.ts";
import { BUFFER, CHAIN_END, DONE, PARKED, PRESENT, SUBMITTED } from "./virtqueue/results.ts";
import { Virtqueue } from "./virtqueue/state.ts";

@unmanaged
export class ChainOperation extends Slot {
  /** Of its vectors, those that the device may read: they come first. */
  readableCount: u32;
  /** CHAIN_F_*. */
  flags: u32;
  readableBytes: u64;
  writableBytes: u64;
}
if (<i32>offsetof<ChainOperation>() > REQUEST_STRIDE) ERROR("ChainOperation");

/** Of a chain that a predecessor had taken. What was parked was not begun. */
function leftoverFlags(queue: Virtqueue): u32 {
  if ((queue.flags & QUEUE_F_RECOVER_FORGET) !== 0 || isNextParked(queue)) return 0;
  const mustFail = (queue.flags & QUEUE_F_RECOVER_FAIL) !== 0;
  return mustFail ? CHAIN_F_LEFTOVER | CHAIN_F_FAIL : CHAIN_F_LEFTOVER;
}

/** Reads the chain at hand, and changes nothing else. PRESENT, MISSED or a FAULT. */
export function parseChain(operation: ChainOperation, queue: Virtqueue, isLeftover: bool): i32 {
  operation.queue = queue;
  operation.flags = isLeftover ? leftoverFlags(queue) : 0;
  operation.readableCount = 0;
  operation.readableBytes = 0;
  operation.writableBytes = 0;
  clearVectors(operation);
  while (true) {
    const found = nextBuffer();
    if (found === CHAIN_END) break;
    if (found !== BUFFER) return found;
    const result = addBuffer(operation, bufferGpa, bufferLength, bufferIsWritable);
    if (result !== PRESENT) return result;
  }
  if (operation.writableBytes === 0) operation.readableCount = operation.vectorCount;
  operation.id = chainId;
  operation.count = chainCount;
  return PRESENT;
}

/** Those that the device may write come last (2.7.4.2). One of no length is left out. */
function addBuffer(operation: ChainOperation, gpa: u64, byteLength: u64, isWritable: bool): i32 {
  if (!isWritable && operation.writableBytes !== 0) return FAULT_READABLE_AFTER_WRITABLE;
  if (byteLength === 0) return PRESENT;
  if (!isWritable) {
    operation.readableBytes += byteLength;
  } else {
    if (operation.writableBytes === 0) operation.readableCount = operation.vectorCount;
    operation.writableBytes += byteLength;
  }
  while (byteLength > 0) {
    const span = regionSpan(gpa, byteLength);
    if (span === 0) return FAULT_ADDRESS;
    addSpan(operation, spanTarget, span);
    gpa += span;
    byteLength -= span;
  }
  return PRESENT;
}

/** Data that follow each other are one vector, but never across the border between readable and writable. */
function addSpan(operation: ChainOperation, hostAddress: u64, byteLength: u64): void {
  const isFirst = operation.vectorCount === operation.readableCount;
  if (!isFirst && extendLast(operation, hostAddress, byteLength)) return;
  if (operation.vectorCount < <u32>IOVECS_MAX) pushVector(operation, hostAddress, byteLength);
  else operation.overflowBytes += byteLength;
}

/** SUBMITTED, or DONE at once: what has more buffers than the kernel takes is used unserved. */
export function startChain(operation: ChainOperation): i32 {
  if (operation.overflowBytes !== 0) return fail(operation, 0);
  const table = memoryHostAddress() + operation.table;
  pushSqe(
    OP_CHAIN,
    operation.queue.index,
    operation.readableCount,
    table,
    operation.vectorCount,
    operation.flags,
    operation.userData,
  );
  return SUBMITTED;
}

/** Takes the operation's result: DONE or PARKED. Without a record a chain that nobody answers would be lost. */
export function endChain(operation: ChainOperation, result: i32): i32 {
  // Whatever it says: it has had all of that to write.
  if (isLogging) logVectors(operation, operation.readableCount);
  if (result === CHAIN_PARKED && operation.queue.isTracked) return PARKED;
  if (result < 0) return fail(operation, toldBytes(result));
  operation.usedBytes = usedBytes(operation, result);
  operation.queue.countDone(KIND_CHAIN, operation.usedBytes, operation.readableBytes);
  recordLatency(operation, KIND_CHAIN);
  return DONE;
}

function fail(operation: ChainOperation, byteLength: i32): i32 {
  operation.usedBytes = usedBytes(operation, byteLength);
  operation.queue.failures++;
  return DONE;
}

/** What the device has written of its failure. An errno says nothing to the driver. */
function toldBytes(result: i32): i32 {
  const byteLength = result - CHAIN_FAILED;
  return byteLength < CHAIN_FAILED_LIMIT ? byteLength : 0;
}

function usedBytes(operation: ChainOperation, byteLength: i32): u32 {
  return <u32>min<u64>(byteLength, operation.writableBytes);
}
