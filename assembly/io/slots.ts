// A worker's slots: as many operations as it has in flight at the most, made once; which are free, who gets those where not all can
// have some, and which wait for the host. What each is for, its device knows.

import { QUEUE_F_CREDIT, QUEUE_RUNNING } from "../abi/queue.ts";
import { IOVECS_MAX, REQUEST_STRIDE, REQUESTS_MAX, WORKER_IOVECS, WORKER_REQUESTS } from "../abi/worker.ts";
import { IOVEC_SIZE } from "../spec/io-uring.ts";
import { activeCount, Chain, queueAt, Virtqueue } from "../virtqueue/state.ts";
import { TAG_REQUEST, userDataOf } from "./uring.ts";

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
  /** An operation of it is in flight: a completion or a cancellation may be its. */
  hasOperation: u32;
  isCancelled: u32;
  /** In the debug build: it is in the list of free ones. */
  isListed: u32;
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
  /** How many more vectors the chain would take than there is room for, and how much data that are. */
  overflowVectors: u32;
  overflowBytes: u64;
}

let worker: usize = 0;
let firstFree: usize = 0;

/** Slots that are done once the host has written something, after this turn: the next one gives their chains back. */
let firstWaiting: usize = 0;
let lastWaiting: usize = 0;

export let slotCount: u32 = 0;
export let freeCount: u32 = 0;

/** Makes `count` slots, all free, in the worker's part of memory. */
export function openSlots(workerPtr: usize, count: u32): void {
  worker = workerPtr;
  slotCount = min<u32>(count, REQUESTS_MAX);
  firstFree = 0;
  freeCount = 0;
  firstWaiting = 0;
  longQueue = 0;
  for (let i = slotCount; i-- > 0; ) {
    const slot = slotAt(i);
    slot.userData = userDataOf(TAG_REQUEST, i);
    slot.table = worker + WORKER_IOVECS + <usize>i * IOVECS_MAX * IOVEC_SIZE;
    slot.placeCount = 1;
    slot.lastPlace = slot;
    if (!ASC_NO_ASSERT) forgetChecks(slot);
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
  if (!ASC_NO_ASSERT) {
    assert(changetype<usize>(slot) === firstFree && slot.placeCount <= freeCount, "another slot is free");
    checkListed(slot, 1, 0);
  }
  slot.hasOperation = 1;
  slot.isCancelled = 0;
  firstFree = changetype<usize>(slot.lastPlace.nextFree);
  slot.lastPlace.nextFree = changetype<Slot>(0);
  freeCount -= slot.placeCount;
}

export function release(slot: Slot): void {
  if (!ASC_NO_ASSERT) {
    assert(slot.isTaken === 0, "a slot is given back with a chain that is not");
    checkListed(slot, 0, 1);
  }
  slot.hasOperation = 0;
  slot.lastPlace.nextFree = changetype<Slot>(firstFree);
  firstFree = changetype<usize>(slot);
  freeCount += slot.placeCount;
}

/** From now on the slot waits for the host. No completion or cancellation is its any more. */
export function waitForHost(slot: Slot): void {
  slot.hasOperation = 0;
  slot.nextWaiting = changetype<Slot>(0);
  if (firstWaiting === 0) firstWaiting = changetype<usize>(slot);
  else changetype<Slot>(lastWaiting).nextWaiting = slot;
  lastWaiting = changetype<usize>(slot);
}

/** The first of those that wait, or 0: from each, nextWaiting leads on. From now on none waits. */
export function takeWaiting(): usize {
  const first = firstWaiting;
  firstWaiting = 0;
  return first;
}

// --- Who gets free slots: long chains save up, and queues that hold chains for as long as they like leave some to others -----

/** The queue whose next chain waits for so many free slots, since it has more data than one has vectors for. */
let longQueue: usize = 0;
let longPlaces: u32 = 0;

/**
 * Whether the free slots are left to other queues. A device that asks for chains may hold them for as long as it likes, and what
 * it waits for may come by another queue. So a queue with credit that has chains in flight leaves a slot to each queue without.
 */
export function isHeldBack(queue: Virtqueue): bool {
  if ((queue.flags & QUEUE_F_CREDIT) === 0 || queue.inFlight === 0 || freeCount > activeCount) return false;
  let kept: u32 = 0;
  for (let i: u32 = 0; i < activeCount; i++) {
    if (queueAt(i).state === QUEUE_RUNNING && queueAt(i).inFlight === 0) kept++;
  }
  return freeCount <= kept;
}

/** Whether free slots are being saved up for some queue. */
export function isSavedUp(): bool {
  return longQueue !== 0;
}

/** Whether free slots are saved up for another queue, or for this one but not yet enough. */
export function isWaiting(queue: Virtqueue): bool {
  return longQueue !== 0 && (longQueue !== changetype<usize>(queue) || freeCount < longPlaces);
}

/** Ends the saving if it was for this queue. True if it was: other queues may have waited for the slots. */
export function endSaving(queue: Virtqueue): bool {
  if (longQueue !== changetype<usize>(queue)) return false;
  longQueue = 0;
  return true;
}

/**
 * From now on, slots that become free are kept for this queue, until there are as many as its next chain needs. Once all slots are
 * free the chain goes ahead, however long it is.
 */
export function saveUp(queue: Virtqueue, slot: Slot): void {
  longQueue = changetype<usize>(queue);
  longPlaces = min<u32>(slotCount, slot.placeCount + slot.overflowVectors / IOVECS_MAX + 1);
}

// --- In the debug build ---------------------------------------------------------------------------------------------

/** Completions that may come though no slot waits for them. */
let strayCount: u32 = 0;

/** Lets one more such completion come: for whoever forges them. */
export function allowStray(): void {
  strayCount++;
}

/** A completion that no slot waits for. It is passed over, but its engine has completed an operation twice, or made one up. */
export function passStray(): void {
  if (ASC_NO_ASSERT) return;
  assert(strayCount !== 0, "a completion that no slot waits for");
  strayCount--;
}

/** The slot, and those whose places it has, come into the list of free ones, or leave it: none twice. */
function checkListed(slot: Slot, before: u32, after: u32): void {
  let place = slot;
  for (let i: u32 = 0; i < slot.placeCount; i++) {
    assert(place.isListed === before, "a slot is given back, or taken, twice");
    place.isListed = after;
    place = place.nextFree;
  }
}

function forgetChecks(slot: Slot): void {
  slot.isListed = 0;
  slot.isTaken = 0;
}
