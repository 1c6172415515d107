// A request's data as I/O vectors: in its own place, and in those of free slots behind it where it has more than one holds.

import { IOVECS_MAX } from "../abi/layout.ts";
import { Slot } from "../io/slots.ts";
import { extendLast, openPlace, pushVector, vectorAt } from "../io/vectors.ts";
import { IOVEC_BASE, IOVEC_LEN, IOVEC_SIZE } from "../spec/io-uring.ts";
import { blockBytes } from "./disk.ts";
import { Request } from "./request.ts";

/** Adds data behind the last. What finds no place is counted in overflowBytes. */
export function addData(request: Request, hostAddress: u64, byteLength: u64): void {
  if (request.overflowBytes === 0 && extendLast(request.lastPlace, hostAddress, byteLength)) return;
  while (request.lastPlace.vectorCount === IOVECS_MAX) {
    if (takePlace(request)) continue;
    request.overflowBytes += byteLength;
    request.overflowVectors++;
    return;
  }
  pushVector(request.lastPlace, hostAddress, byteLength);
}

/** Goes on in the place of the next free slot. False if there is none. It is not taken before acquire(). */
function takePlace(request: Request): bool {
  const full = request.lastPlace;
  if (changetype<usize>(full.nextFree) === 0) return false;
  const next = full.nextFree;
  openPlace(next);
  carryRest(full, next);
  request.lastPlace = next;
  request.placeCount++;
  return true;
}

/** An operation of its own moves whole blocks, if its vectors hold one: the bytes behind the last go into the next. */
function carryRest(full: Slot, next: Slot): void {
  let total: u64 = 0;
  for (let i: u32 = 0; i < full.vectorCount; i++) total += load<u64>(vectorAt(full, i), IOVEC_LEN);
  let rest = total % blockBytes();
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

/** Takes the last byte away: of a read, that is where the status goes. */
export function dropLastByte(request: Request): void {
  const place = request.lastPlace;
  if (request.overflowBytes > 0) {
    request.overflowBytes--;
  } else if (place.vectorCount > 0) {
    const last = vectorAt(place, place.vectorCount - 1);
    const length = load<u64>(last, IOVEC_LEN) - 1;
    store<u64>(last, length, IOVEC_LEN);
    if (length === 0) place.vectorCount--;
  }
}

/** Leaves in the vectors what an operation has not moved. False if it says that it moved more than it had. */
export function skipMoved(request: Request, byteLength: u64): bool {
  while (byteLength > 0) {
    if (request.vectorCount === 0) return false;
    const length = load<u64>(request.vector, IOVEC_LEN);
    if (byteLength < length) {
      store<u64>(request.vector, load<u64>(request.vector, IOVEC_BASE) + byteLength, IOVEC_BASE);
      store<u64>(request.vector, length - byteLength, IOVEC_LEN);
      return true;
    }
    byteLength -= length;
    request.vector += IOVEC_SIZE;
    request.vectorCount--;
  }
  if (request.vectorCount === 0) openNextPlace(request);
  return true;
}

function openNextPlace(request: Request): void {
  if (request.place === request.lastPlace) return;
  request.place = request.place.nextFree;
  request.vector = request.place.table;
  request.vectorCount = request.place.vectorCount;
}
