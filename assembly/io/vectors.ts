// A slot's I/O vectors: a row of struct iovec in its own place.

import { IOVEC_BASE, IOVEC_LEN, IOVEC_SIZE } from "../spec/io-uring.ts";
import { Slot } from "./slots.ts";

/** Most of what one operation moves: MAX_RW_COUNT of the kernel. */
const TRANSFER_MAX: u64 = 0x7ffff000;

export function vectorAt(place: Slot, index: u32): usize {
  return place.table + <usize>index * IOVEC_SIZE;
}

export function clearVectors(slot: Slot): void {
  openPlace(slot);
  slot.placeCount = 1;
  slot.lastPlace = slot;
  slot.place = slot;
  slot.overflowVectors = 0;
}

export function openPlace(place: Slot): void {
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
  const vector = vectorAt(place, place.vectorCount++);
  store<u64>(vector, hostAddress, IOVEC_BASE);
  store<u64>(vector, byteLength, IOVEC_LEN);
}
