// Walks one descriptor chain, buffer by buffer, in either ring format. Reads each descriptor once, checks, uses the copy.

import {
  FAULT_CHAIN_TOO_LONG,
  FAULT_HEAD_PAST_QUEUE,
  FAULT_INDIRECT_LENGTH,
  FAULT_INFLIGHT_REGION,
  FAULT_NESTED_INDIRECT,
  FAULT_NEXT_PAST_TABLE,
} from "../abi/faults.ts";
import { TABLE_MAX } from "../abi/queue.ts";
import {
  PACKED_ENTRY_ADDR,
  PACKED_ENTRY_FLAGS,
  PACKED_ENTRY_ID,
  PACKED_ENTRY_LEN,
  PACKED_ENTRY_NEXT,
  PACKED_ENTRY_NUM,
} from "../spec/inflight.ts";
import {
  DESC_ADDR,
  DESC_FLAGS,
  DESC_LEN,
  DESC_NEXT,
  DESC_SIZE,
  PACKED_DESC_ADDR,
  PACKED_DESC_FLAGS,
  PACKED_DESC_ID,
  PACKED_DESC_LEN,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../spec/virtqueue.ts";
import { copyFromGuest, gpaToReadPtr } from "./guest-memory.ts";
import { nextLeftover } from "./leftovers.ts";
import { slotPtr } from "./packed.ts";
import { entryPtr, openRecord, record } from "./packed-inflight.ts";
import { BUFFER, CHAIN_END, PRESENT } from "./results.ts";
import { descriptorPtr, nextHead } from "./split.ts";
import { Virtqueue } from "./state.ts";

/** The buffer that nextBuffer() found. */
export let bufferGpa: u64 = 0;
export let bufferLength: u32 = 0;
export let bufferIsWritable: bool = false;

/** The chain's name in the ring: the head, or the packed buffer id (valid at CHAIN_END). */
export let chainId: u16 = 0;
/** Descriptors of the ring that the chain holds (valid at CHAIN_END). */
export let chainCount: u32 = 0;
/** Descriptors of the chain's table that were read. */
export let tableRead: u32 = 0;

let queue: Virtqueue = changetype<Virtqueue>(0);
let scratch: usize = 0;
let position: u32 = 0;
let hasMore: bool = false;

/** Where the chain is read from: the ring, a record of it in the inflight region, or an indirect table. */
const SOURCE_RING: u32 = 0;
const SOURCE_RECORD: u32 = 1;
const SOURCE_TABLE: u32 = 2;
let source: u32 = SOURCE_RING;
let isRecording: bool = false;
let recordLength: u32 = 0;

let tableGpa: u64 = 0;
let tableCount: u32 = 0;

/** A descriptor that straddles two windows is put together at `ptr`. */
export function useScratch(ptr: usize): void {
  scratch = ptr;
}

function begin(from: Virtqueue, at: u32, kind: u32): void {
  queue = from;
  position = at;
  source = kind;
  chainId = <u16>at;
  chainCount = 0;
  tableRead = 0;
  hasMore = true;
  isRecording = false;
}

/** Begins at the chain that is next in the ring. Only after lookForChain(). */
export function beginChain(from: Virtqueue): void {
  begin(from, from.isPacked ? from.nextAvail : nextHead(from), SOURCE_RING);
  if (!from.isPacked || !from.isTracked) return;
  isRecording = true;
  openRecord(from);
}

/** Begins at the next chain that a predecessor had taken: a head, which its driver has not reused, or a packed ring's record. */
export function beginLeftover(from: Virtqueue): void {
  const at = nextLeftover(from);
  begin(from, at, from.isPacked ? SOURCE_RECORD : SOURCE_RING);
  if (from.isPacked) recordLength = load<u16>(entryPtr(from, at), PACKED_ENTRY_NUM);
}

/** BUFFER, CHAIN_END, MISSED or a FAULT. */
export function nextBuffer(): i32 {
  if (!hasMore) return CHAIN_END;
  if (source === SOURCE_TABLE) return nextInTable();
  // A chain that is longer than the ring runs in a circle (2.7.5.2, 2.8.8).
  if (chainCount >= queue.size) return FAULT_CHAIN_TOO_LONG;
  return source === SOURCE_RING ? nextInRing() : nextInRecord();
}

function nextInRing(): i32 {
  if (position >= queue.size) return chainCount === 0 ? FAULT_HEAD_PAST_QUEUE : FAULT_NEXT_PAST_TABLE;
  chainCount++;
  return queue.isPacked ? readPacked(slotPtr(queue, position)) : readSplit(descriptorPtr(queue, position));
}

function readSplit(desc: usize): i32 {
  const flags = <u32>load<u16>(desc, DESC_FLAGS);
  hasMore = (flags & VIRTQ_DESC_F_NEXT) !== 0;
  position = load<u16>(desc, DESC_NEXT);
  return takeDescriptor(load<u64>(desc, DESC_ADDR), load<u32>(desc, DESC_LEN), flags);
}

function readPacked(desc: usize): i32 {
  const flags = <u32>load<u16>(desc, PACKED_DESC_FLAGS);
  const gpa = load<u64>(desc, PACKED_DESC_ADDR);
  const byteLength = load<u32>(desc, PACKED_DESC_LEN);
  // The id is that of the last descriptor (2.8.5).
  chainId = load<u16>(desc, PACKED_DESC_ID);
  if (isRecording && !record(queue, gpa, byteLength, chainId, flags)) return FAULT_INFLIGHT_REGION;
  hasMore = (flags & VIRTQ_DESC_F_NEXT) !== 0;
  if (++position === queue.size) position = 0;
  return takeDescriptor(gpa, byteLength, flags);
}

/** The region may have been written by anyone: it is checked as the ring is. */
function nextInRecord(): i32 {
  if (position >= queue.inflightEntries) return FAULT_INFLIGHT_REGION;
  const entry = entryPtr(queue, position);
  chainCount++;
  chainId = load<u16>(entry, PACKED_ENTRY_ID);
  hasMore = chainCount < recordLength;
  position = load<u16>(entry, PACKED_ENTRY_NEXT);
  const flags = <u32>load<u16>(entry, PACKED_ENTRY_FLAGS);
  return takeDescriptor(load<u64>(entry, PACKED_ENTRY_ADDR), load<u32>(entry, PACKED_ENTRY_LEN), flags);
}

/** A descriptor of the ring: a buffer, or the table that ends the chain. */
function takeDescriptor(gpa: u64, byteLength: u32, flags: u32): i32 {
  return (flags & VIRTQ_DESC_F_INDIRECT) !== 0
    ? enterTable(gpa, byteLength, flags)
    : takeBuffer(gpa, byteLength, flags);
}

function takeBuffer(gpa: u64, byteLength: u32, flags: u32): i32 {
  bufferGpa = gpa;
  bufferLength = byteLength;
  bufferIsWritable = (flags & VIRTQ_DESC_F_WRITE) !== 0;
  return BUFFER;
}

/** A table may end a chain but not stand within it, nor in another table (2.7.5.3.1, 2.8.19). */
function enterTable(gpa: u64, byteLength: u32, flags: u32): i32 {
  if ((flags & VIRTQ_DESC_F_NEXT) !== 0) return FAULT_NESTED_INDIRECT;
  if (queue.isPacked && chainCount > 1) return FAULT_NESTED_INDIRECT;
  if (byteLength === 0 || byteLength % DESC_SIZE !== 0) return FAULT_INDIRECT_LENGTH;
  tableGpa = gpa;
  tableCount = byteLength / DESC_SIZE;
  position = 0;
  source = SOURCE_TABLE;
  hasMore = true;
  return nextInTable();
}

function nextInTable(): i32 {
  if (position >= tableCount) return FAULT_NEXT_PAST_TABLE;
  // More than the table holds: it runs in a circle.
  if (++tableRead > min<u32>(tableCount, TABLE_MAX)) return FAULT_CHAIN_TOO_LONG;
  const gpa = tableGpa + <u64>position * DESC_SIZE;
  let desc = gpaToReadPtr(gpa, DESC_SIZE);
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
  hasMore = (flags & VIRTQ_DESC_F_NEXT) !== 0;
  position = load<u16>(desc, DESC_NEXT);
  return takeBuffer(load<u64>(desc, DESC_ADDR), load<u32>(desc, DESC_LEN), flags);
}

/** A packed table is read in order to its end; only VIRTQ_DESC_F_WRITE means anything there (2.8.7). */
function readPackedInTable(desc: usize): i32 {
  hasMore = ++position < tableCount;
  const flags = <u32>load<u16>(desc, PACKED_DESC_FLAGS);
  return takeBuffer(load<u64>(desc, PACKED_DESC_ADDR), load<u32>(desc, PACKED_DESC_LEN), flags);
}
