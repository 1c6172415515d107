// A worker's slots: as many operations as it has in flight at the most, made once. What each is for, its device knows.

import { IOVECS_MAX, REQUEST_STRIDE, REQUESTS_MAX, WORKER_IOVECS, WORKER_REQUESTS } from "../abi/layout.ts";
import { IOVEC_SIZE } from "../spec/io-uring.ts";
import { Chain, Virtqueue } from "../virtqueue/state.ts";
import { TAG_REQUEST, userDataOf } from "./user-data.ts";

/** What has become of a slot: its next operation has been submitted. */
export const SUBMITTED = -0x100;
/** Its chain is to be used, with the length in usedBytes. */
export const DONE = -0x101;
/** The same, once the host has written what it was given to write. */
export const WAITS_FOR_HOST = -0x102;
/** Its chain stays recorded as in flight, without an answer. */
export const PARKED = -0x103;

/** A chain that has been taken, and what is needed to serve it. */
@unmanaged
export class Slot extends Chain {
  queue: Virtqueue;
  /** The next free slot, while this one is free; else the next place that holds vectors of the same chain. */
  nextFree: Slot;
  /** Of the places whose vectors this slot has, its own included: how many, the last, and the one at hand. */
  placeCount: u32;
  lastPlace: Slot;
  place: Slot;
  isFree: u32;
  isCancelled: u32;
  userData: u64;
  /** The host's clock when it was taken, or 0. */
  takenAt: f64;

  /** How many bytes the driver is told were written; and the next of those that wait for the host. */
  usedBytes: u32;
  nextWaiting: Slot;

  /** I/O vectors, or whatever else its device reads of a chain. */
  table: usize;
  /** The first vector with something left, and how many there are from there. */
  vector: usize;
  vectorCount: u32;
  /** How many more vectors it would take than there is room for. */
  overflowVectors: u32;
}

let worker: usize = 0;
let firstFree: usize = 0;

export let slotCount: u32 = 0;
export let freeCount: u32 = 0;

/** Makes `count` slots, all free, in the worker's part of memory. */
export function openSlots(workerPtr: usize, count: u32): void {
  worker = workerPtr;
  slotCount = min<u32>(count, REQUESTS_MAX);
  firstFree = 0;
  freeCount = 0;
  for (let i = slotCount; i-- > 0; ) {
    const slot = slotAt(i);
    slot.userData = userDataOf(TAG_REQUEST, i);
    slot.table = worker + WORKER_IOVECS + <usize>i * IOVECS_MAX * IOVEC_SIZE;
    slot.placeCount = 1;
    slot.lastPlace = slot;
    release(slot);
  }
}

export function slotAt(index: u32): Slot {
  return changetype<Slot>(worker + WORKER_REQUESTS + <usize>index * REQUEST_STRIDE);
}

export function hasFree(): bool {
  return firstFree !== 0;
}

/** The slot that acquire() would take. Only if hasFree(). */
export function nextFree(): Slot {
  return changetype<Slot>(firstFree);
}

/** Takes nextFree(), and those behind it whose places it has filled. No completion or cancellation is theirs. */
export function acquire(slot: Slot): void {
  slot.isFree = 0;
  slot.isCancelled = 0;
  firstFree = changetype<usize>(slot.lastPlace.nextFree);
  slot.lastPlace.nextFree = changetype<Slot>(0);
  freeCount -= slot.placeCount;
}

export function release(slot: Slot): void {
  slot.isFree = 1;
  slot.lastPlace.nextFree = changetype<Slot>(firstFree);
  firstFree = changetype<usize>(slot);
  freeCount += slot.placeCount;
}
