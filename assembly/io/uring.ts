// The submission and completion rings of io_uring (io_uring(7)), whoever serves them. Of what they carry it knows whose it is.

import { NEWS_ENTER, NEWS_NONE, NEWS_STEP } from "../abi/step.ts";
import {
  CQE_SIZE,
  IORING_SQ_CQ_OVERFLOW,
  IORING_SQ_TASKRUN,
  SQE_ADDR,
  SQE_LEN,
  SQE_OFF,
  SQE_OP_FLAGS,
  SQE_OPCODE,
  SQE_SIZE,
  SQE_USER_DATA,
} from "../spec/io-uring.ts";

/** Whose an entry is: the high half of user_data, which its completion brings back (io_uring_enter(2)). The low half says which one. */
export const TAG_REQUEST: u32 = 0;
export const TAG_KICK: u32 = 1;
export const TAG_CALL: u32 = 2;
export const TAG_CONTROL: u32 = 3;
export const TAG_CANCEL: u32 = 4;

const TAG_SHIFT: u64 = 32;

export function userDataOf(tag: u32, index: u32): u64 {
  return ((<u64>tag) << TAG_SHIFT) | index;
}

export function tagOf(userData: u64): u32 {
  return <u32>(userData >> TAG_SHIFT);
}

export function indexOf(userData: u64): u32 {
  return <u32>userData;
}

let sqHead: usize = 0;
let sqTail: usize = 0;
let sqFlags: usize = 0;
let sqes: usize = 0;
let sqEntries: u32 = 0;
let nextTail: u32 = 0;

let cqHead: usize = 0;
let cqTail: usize = 0;
let cqes: usize = 0;
let cqMask: u32 = 0;
let nextHead: u32 = 0;

/** Pointers to the four indices, the SQ's flags and both arrays; the numbers of entries are powers of two. */
export function attachRings(
  sqHeadPtr: usize,
  sqTailPtr: usize,
  sqFlagsPtr: usize,
  sqesPtr: usize,
  sqEntryCount: u32,
  cqHeadPtr: usize,
  cqTailPtr: usize,
  cqesPtr: usize,
  cqEntryCount: u32,
): void {
  sqHead = sqHeadPtr;
  sqTail = sqTailPtr;
  sqFlags = sqFlagsPtr;
  sqes = sqesPtr;
  sqEntries = sqEntryCount;
  nextTail = atomic.load<u32>(sqTailPtr);
  cqHead = cqHeadPtr;
  cqTail = cqTailPtr;
  cqes = cqesPtr;
  cqMask = cqEntryCount - 1;
  nextHead = atomic.load<u32>(cqHeadPtr);
}

/** Entries written and not yet taken by the engine. */
export function unsubmitted(): u32 {
  return nextTail - atomic.load<u32>(sqHead);
}

export function hasSqeRoom(): bool {
  return unsubmitted() < sqEntries;
}

/** Writes the next entry. Only after hasSqeRoom(). */
export function pushSqe(
  opcode: u32,
  fd: i32,
  offset: u64,
  address: u64,
  length: u32,
  opFlags: u32,
  userData: u64,
): void {
  if (!ASC_NO_ASSERT) assert(hasSqeRoom(), "an entry without room");
  const sqe = sqes + <usize>(nextTail & (sqEntries - 1)) * SQE_SIZE;
  // opcode, flags and ioprio (both 0), fd. What lies behind user_data is never written and stays 0.
  store<u64>(sqe, <u64>opcode | ((<u64>(<u32>fd)) << 32), SQE_OPCODE);
  store<u64>(sqe, offset, SQE_OFF);
  store<u64>(sqe, address, SQE_ADDR);
  store<u32>(sqe, length, SQE_LEN);
  store<u32>(sqe, opFlags, SQE_OP_FLAGS);
  store<u64>(sqe, userData, SQE_USER_DATA);
  nextTail++;
}

/** Shows the engine all that was pushed. Returns how many entries wait for it. */
export function publishSqes(): u32 {
  // Release: the entries are seen before the tail that counts them.
  atomic.store<u32>(sqTail, nextTail);
  return unsubmitted();
}

/** The next completion, or 0 if there is none. */
export function peekCqe(): usize {
  // Acquire: the entry was written before the tail moved past it.
  if (atomic.load<u32>(cqTail) === nextHead) return 0;
  return cqes + <usize>(nextHead & cqMask) * CQE_SIZE;
}

/** Goes to the next completion. Its place is given back by returnCqes(). */
export function consumeCqe(): void {
  nextHead++;
}

/** Gives back the places of all that was consumed: one store for a batch. */
export function returnCqes(): void {
  atomic.store<u32>(cqHead, nextHead);
}

/** Whether completions have come, here (NEWS_STEP) or in the kernel, which shows them when it is entered (NEWS_ENTER). */
export function completionNews(): u32 {
  if (atomic.load<u32>(cqTail) !== nextHead) return NEWS_STEP;
  const flags = atomic.load<u32>(sqFlags);
  return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) !== 0 ? NEWS_ENTER : NEWS_NONE;
}
