// A chain's data as I/O vectors: rows of struct iovec, in its slot's own place, and in those of free slots behind it where it has
// more than one holds.

import { IOVECS_MAX } from "../abi/worker.ts";
import { IOVEC_BASE, IOVEC_LEN, IOVEC_SIZE } from "../spec/io-uring.ts";
import { logWrittenAt } from "../virtqueue/guest-memory.ts";
import { Slot } from "./slots.ts";

/** Most of what one operation moves: MAX_RW_COUNT of the kernel. */
const TRANSFER_MAX: u64 = 0x7ffff000;

function vectorAt(place: Slot, index: u32): usize {
  return place.table + <usize>index * IOVEC_SIZE;
}

export function clearVectors(slot: Slot): void {
  openPlace(slot);
  slot.placeCount = 1;
  slot.lastPlace = slot;
  slot.place = slot;
  slot.overflowBytes = 0;
  slot.overflowVectors = 0;
}

function openPlace(place: Slot): void {
  place.vector = place.table;
  place.vectorCount = 0;
}

/** Makes the last vector longer. False if the data does not follow it in the host's memory, or there is none. */
export function extendLast(place: Slot, hostAddress: u64, byteLength: u64): bool {
  if (place.vectorCount === 0) return false;
  const last = vectorAt(place, place.vectorCount - 1);
  const length = load<u64>(last, IOVEC_LEN);
  if (load<u64>(last, IOVEC_BASE) + length !== hostAddress || length + byteLength > TRANSFER_MAX)
    return false;
  store<u64>(last, length + byteLength, IOVEC_LEN);
  return true;
}

/** Adds a vector behind the last. Only if fewer than IOVECS_MAX are there. */
export function pushVector(place: Slot, hostAddress: u64, byteLength: u64): void {
  if (!ASC_NO_ASSERT) assert(place.vectorCount < <u32>IOVECS_MAX, "a vector without room");
  const vector = vectorAt(place, place.vectorCount++);
  store<u64>(vector, hostAddress, IOVEC_BASE);
  store<u64>(vector, byteLength, IOVEC_LEN);
}

/**
 * Adds data behind the last, in as many places as it takes. Each operation moves whole units of so many bytes, if it can. What finds
 * no place is counted in overflowBytes.
 */
export function addData(slot: Slot, hostAddress: u64, byteLength: u64, unitBytes: u64): void {
  if (slot.overflowBytes === 0 && extendLast(slot.lastPlace, hostAddress, byteLength)) return;
  while (slot.lastPlace.vectorCount === IOVECS_MAX) {
    if (takePlace(slot, unitBytes)) continue;
    slot.overflowBytes += byteLength;
    slot.overflowVectors++;
    return;
  }
  pushVector(slot.lastPlace, hostAddress, byteLength);
}

/** Goes on in the place of the next free slot. False if there is none. It is not taken before acquire(). */
function takePlace(slot: Slot, unitBytes: u64): bool {
  const full = slot.lastPlace;
  if (changetype<usize>(full.nextFree) === 0) return false;
  const next = full.nextFree;
  openPlace(next);
  carryRest(full, next, unitBytes);
  slot.lastPlace = next;
  slot.placeCount++;
  return true;
}

/** If the vectors hold a whole unit, the bytes behind the last go into the next place. */
function carryRest(full: Slot, next: Slot, unitBytes: u64): void {
  let total: u64 = 0;
  for (let i: u32 = 0; i < full.vectorCount; i++) total += load<u64>(vectorAt(full, i), IOVEC_LEN);
  let rest = total % unitBytes;
  if (rest === total) return;
  let kept = full.vectorCount;
  while (rest > 0 && load<u64>(vectorAt(full, kept - 1), IOVEC_LEN) <= rest) {
    rest -= load<u64>(vectorAt(full, --kept), IOVEC_LEN);
  }
  if (rest > 0) {
    const cut = vectorAt(full, kept - 1);
    const length = load<u64>(cut, IOVEC_LEN) - rest;
    store<u64>(cut, length, IOVEC_LEN);
    pushVector(next, load<u64>(cut, IOVEC_BASE) + length, rest);
  }
  for (let i = kept; i < full.vectorCount; i++) {
    const vector = vectorAt(full, i);
    pushVector(next, load<u64>(vector, IOVEC_BASE), load<u64>(vector, IOVEC_LEN));
  }
  full.vectorCount = kept;
}

/** Logs what an operation on the vectors from the `skipped`th on may have written. */
export function logVectors(slot: Slot, skipped: u32): void {
  for (let i = skipped; i < slot.vectorCount; i++) {
    const vector = slot.vector + <usize>i * IOVEC_SIZE;
    logWrittenAt(load<u64>(vector, IOVEC_BASE), load<u64>(vector, IOVEC_LEN));
  }
}

/** Takes the last byte away. */
export function dropLastByte(slot: Slot): void {
  const place = slot.lastPlace;
  if (slot.overflowBytes > 0) {
    slot.overflowBytes--;
  } else if (place.vectorCount > 0) {
    const last = vectorAt(place, place.vectorCount - 1);
    const length = load<u64>(last, IOVEC_LEN) - 1;
    store<u64>(last, length, IOVEC_LEN);
    if (length === 0) place.vectorCount--;
  }
}

/** Leaves in the vectors what an operation has not moved. False if it says that it moved more than it had. */
export function skipMoved(slot: Slot, byteLength: u64): bool {
  while (byteLength > 0) {
    if (slot.vectorCount === 0) return false;
    const length = load<u64>(slot.vector, IOVEC_LEN);
    if (byteLength < length) {
      store<u64>(slot.vector, load<u64>(slot.vector, IOVEC_BASE) + byteLength, IOVEC_BASE);
      store<u64>(slot.vector, length - byteLength, IOVEC_LEN);
      return true;
    }
    byteLength -= length;
    slot.vector += IOVEC_SIZE;
    slot.vectorCount--;
  }
  if (slot.vectorCount === 0) openNextPlace(slot);
  return true;
}

function openNextPlace(slot: Slot): void {
  if (slot.place === slot.lastPlace) return;
  slot.place = slot.place.nextFree;
  slot.vector = slot.place.table;
  slot.vectorCount = slot.place.vectorCount;
}
