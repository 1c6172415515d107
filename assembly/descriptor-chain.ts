// Walks one descriptor chain, buffer by buffer, in either ring format. Reads each descriptor once, checks, uses the copy.
import { copyFromGuest, gpaToPtr, PRESENT } from "./guest-memory.ts";
import { slotPtr } from "./packed-ring.ts";
import {
  FAULT_CHAIN_TOO_LONG,
  FAULT_HEAD_PAST_QUEUE,
  FAULT_INDIRECT_LENGTH,
  FAULT_NESTED_INDIRECT,
  FAULT_NEXT_PAST_TABLE,
  IOVECS_MAX,
} from "./spec/layout.ts";
import {
  DESC_ADDR,
  DESC_FLAGS,
  DESC_LEN,
  DESC_NEXT,
  DESC_SIZE,
  PACKED_DESC_FLAGS,
  PACKED_DESC_ID,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "./spec/virtqueue.ts";
import { nextHead } from "./split-ring.ts";
import { Virtqueue } from "./virtqueue.ts";

/** nextBuffer(): the chain has ended. Otherwise BUFFER, MISSED (guest-memory.ts) or a FAULT. */
export const CHAIN_END = 0;
export const BUFFER = 2;

/** The longest chain: header, status and as many buffers as one request can pass on. */
const CHAIN_MAX: u32 = IOVECS_MAX + 2;

/** The buffer that nextBuffer() found. */
export let bufferGpa: u64 = 0;
export let bufferLength: u32 = 0;
export let bufferIsWritable: bool = false;

/** What names the chain to the driver: the head, or the packed buffer id (valid at CHAIN_END). */
export let chainId: u16 = 0;
/** Descriptors of the ring that the chain holds (valid at CHAIN_END). */
export let chainCount: u32 = 0;

let queue: Virtqueue = changetype<Virtqueue>(0);
let scratch: usize = 0;
let position: u32 = 0;
let walked: u32 = 0;
let hasMore: bool = false;

let inTable: bool = false;
let tableGpa: u64 = 0;
let tableCount: u32 = 0;

/** A descriptor that straddles two windows is put together at `ptr`. */
export function useScratch(ptr: usize): void {
  scratch = ptr;
}

/** Begins at the chain that is next in the ring. Only after hasAvailable(). */
export function beginChain(source: Virtqueue): void {
  queue = source;
  position = source.isPacked ? source.nextAvail : nextHead(source);
  chainId = <u16>position;
  chainCount = 0;
  walked = 0;
  inTable = false;
  hasMore = true;
}

export function nextBuffer(): i32 {
  if (!hasMore) return CHAIN_END;
  return inTable ? nextInTable() : nextInRing();
}

function nextInRing(): i32 {
  // A chain that is longer than the ring runs in a circle (2.7.5.2, 2.8.8).
  if (chainCount >= queue.size) return FAULT_CHAIN_TOO_LONG;
  if (position >= queue.size) return chainCount === 0 ? FAULT_HEAD_PAST_QUEUE : FAULT_NEXT_PAST_TABLE;
  const desc = slotPtr(queue, position);
  chainCount++;
  return queue.isPacked ? readPacked(desc) : readSplit(desc);
}

function readSplit(desc: usize): i32 {
  const flags = <u32>load<u16>(desc, DESC_FLAGS);
  if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) return enterTable(desc, flags);
  followNext(desc, flags);
  return takeBuffer(desc, flags);
}

function readPacked(desc: usize): i32 {
  const flags = <u32>load<u16>(desc, PACKED_DESC_FLAGS);
  // The id is that of the last descriptor (2.8.5).
  chainId = load<u16>(desc, PACKED_DESC_ID);
  if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) return enterTable(desc, flags);
  hasMore = (flags & VIRTQ_DESC_F_NEXT) !== 0;
  if (++position === queue.size) position = 0;
  return takeBuffer(desc, flags);
}

function followNext(desc: usize, flags: u32): void {
  hasMore = (flags & VIRTQ_DESC_F_NEXT) !== 0;
  position = load<u16>(desc, DESC_NEXT);
}

/** DESC_ADDR and DESC_LEN are the same in both formats. */
function takeBuffer(desc: usize, flags: u32): i32 {
  if (++walked > CHAIN_MAX) return FAULT_CHAIN_TOO_LONG;
  bufferGpa = load<u64>(desc, DESC_ADDR);
  bufferLength = load<u32>(desc, DESC_LEN);
  bufferIsWritable = (flags & VIRTQ_DESC_F_WRITE) !== 0;
  return BUFFER;
}

/** A table may end a chain but not stand within it, nor in another table (2.7.5.3.1, 2.8.19). */
function enterTable(desc: usize, flags: u32): i32 {
  if ((flags & VIRTQ_DESC_F_NEXT) !== 0) return FAULT_NESTED_INDIRECT;
  if (queue.isPacked && chainCount > 1) return FAULT_NESTED_INDIRECT;
  const byteLength = load<u32>(desc, DESC_LEN);
  if (byteLength === 0 || byteLength % DESC_SIZE !== 0) return FAULT_INDIRECT_LENGTH;
  tableGpa = load<u64>(desc, DESC_ADDR);
  tableCount = byteLength / DESC_SIZE;
  position = 0;
  inTable = true;
  return nextInTable();
}

function nextInTable(): i32 {
  if (position >= tableCount) return FAULT_NEXT_PAST_TABLE;
  const gpa = tableGpa + <u64>position * DESC_SIZE;
  let desc = gpaToPtr(gpa, DESC_SIZE);
  if (desc === 0) {
    const result = copyFromGuest(scratch, gpa, DESC_SIZE);
    if (result !== PRESENT) return result;
    desc = scratch;
  }
  return queue.isPacked ? readPackedInTable(desc) : readSplitInTable(desc);
}

function readSplitInTable(desc: usize): i32 {
  const flags = <u32>load<u16>(desc, DESC_FLAGS);
  if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) return FAULT_NESTED_INDIRECT;
  followNext(desc, flags);
  return takeBuffer(desc, flags);
}

/** A packed table is read in order to its end; only VIRTQ_DESC_F_WRITE means anything there (2.8.7). */
function readPackedInTable(desc: usize): i32 {
  hasMore = ++position < tableCount;
  return takeBuffer(desc, <u32>load<u16>(desc, PACKED_DESC_FLAGS));
}
