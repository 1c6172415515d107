// Guest physical addresses to pointers and host addresses. The only range check: nothing else trusts a guest's address.
import { FAULT_ADDRESS } from "../abi/faults.ts";
import {
  COPIES_MAX,
  ENTRY_GPA,
  ENTRY_LENGTH,
  ENTRY_TARGET,
  GUEST_WRITES_MAX,
  REGIONS_MAX,
  TABLE_ENTRY_SIZE,
  WINDOWS_MAX,
} from "../abi/guest-memory.ts";
import { REGION_TABLE_PTR } from "../abi/memory.ts";
import { REQUESTS_MAX, WORKER_COPIES, WORKER_GUEST_WRITES, WORKER_WINDOW_TABLE } from "../abi/worker.ts";
import { isLogging, logWritten } from "./dirty-log.ts";
import { DEFERRED, MISSED, PRESENT } from "./results.ts";

/** Where the last miss was. */
export let missedGpa: u64 = 0;

/** What the last spanning call found: a pointer into linear memory or a host address. */
export let spanTarget: u64 = 0;

let windowTable: usize = 0;
let recentWindow: usize = 0;
let recentRegion: usize = REGION_TABLE_PTR;
let recentWritten: usize = REGION_TABLE_PTR;

let copyTable: usize = 0;
let canReadCopies: bool = false;

let guestWrites: usize = 0;
let guestWriteCount: i32 = 0;

/** `worker`: the part of memory with this worker's tables. */
export function useTables(worker: usize): void {
  windowTable = worker + WORKER_WINDOW_TABLE;
  recentWindow = windowTable;
  copyTable = worker + WORKER_COPIES;
  canReadCopies = false;
  guestWrites = worker + WORKER_GUEST_WRITES;
  guestWriteCount = 0;
}

/** A copy shows what the guest had written when it was made: only to the chain that it was made for. */
export function allowCopies(allowed: bool): void {
  canReadCopies = allowed;
}

export function dropCopies(): void {
  store<u64>(copyTable, 0, ENTRY_LENGTH);
}

/** The host has written what it was given. */
export function clearGuestWrites(): void {
  if (guestWriteCount === 0) return;
  if (isLogging) logGuestWrites();
  guestWriteCount = 0;
  store<u64>(guestWrites, 0, ENTRY_LENGTH);
}

function logGuestWrites(): void {
  for (let i = 0; i < guestWriteCount; i++) {
    const entry = guestWrites + <usize>i * TABLE_ENTRY_SIZE;
    logWritten(load<u64>(entry, ENTRY_GPA), load<u64>(entry, ENTRY_LENGTH));
  }
}

export function hasGuestWrites(): bool {
  return guestWriteCount !== 0;
}

/** Whether the host can be given as many more to write, and the status of each request beside. */
export function hasRoomForWrites(count: u32): bool {
  return guestWriteCount + <i32>count + REQUESTS_MAX <= GUEST_WRITES_MAX;
}

function bytesFrom(entry: usize, gpa: u64): u64 {
  // Wraps to a huge number, past any length, when gpa lies below the entry.
  const offset = gpa - load<u64>(entry, ENTRY_GPA);
  const length = load<u64>(entry, ENTRY_LENGTH);
  return offset < length ? length - offset : 0;
}

/** The entry that holds `gpa`, or 0. A table ends at its first entry of length 0. */
function findEntry(table: usize, count: u32, gpa: u64): usize {
  const end = table + <usize>count * TABLE_ENTRY_SIZE;
  for (let entry = table; entry < end; entry += TABLE_ENTRY_SIZE) {
    if (load<u64>(entry, ENTRY_LENGTH) === 0) return 0;
    if (bytesFrom(entry, gpa) !== 0) return entry;
  }
  return 0;
}

function spanOf(entry: usize, gpa: u64, byteLength: u64): u64 {
  spanTarget = load<u64>(entry, ENTRY_TARGET) + (gpa - load<u64>(entry, ENTRY_GPA));
  return min<u64>(byteLength, bytesFrom(entry, gpa));
}

/** How many of `byteLength` bytes from `gpa` one window shows; their pointer is spanTarget. */
function windowSpan(gpa: u64, byteLength: u64): u64 {
  if (bytesFrom(recentWindow, gpa) === 0) {
    const entry = findEntry(windowTable, WINDOWS_MAX, gpa);
    if (entry === 0) return 0;
    recentWindow = entry;
  }
  return spanOf(recentWindow, gpa, byteLength);
}

/** How many of `byteLength` bytes from `gpa` lie in one region; their host address is spanTarget. 0: no guest memory. */
export function regionSpan(gpa: u64, byteLength: u64): u64 {
  if (bytesFrom(recentRegion, gpa) === 0) {
    const entry = findEntry(REGION_TABLE_PTR, REGIONS_MAX, gpa);
    if (entry === 0) return 0;
    recentRegion = entry;
  }
  return spanOf(recentRegion, gpa, byteLength);
}

/** Logs what the engine has written. Not by the chain, which the driver may have changed since: by its host address. */
export function logWrittenAt(hostAddress: u64, byteLength: u64): void {
  while (byteLength > 0) {
    const offset = offsetInRegion(hostAddress);
    if (offset === u64.MAX_VALUE) return;
    const span = min<u64>(byteLength, load<u64>(recentWritten, ENTRY_LENGTH) - offset);
    logWritten(load<u64>(recentWritten, ENTRY_GPA) + offset, span);
    hostAddress += span;
    byteLength -= span;
  }
}

/** How far into which region (recentWritten) a host address lies. u64.MAX_VALUE: in none. */
function offsetInRegion(hostAddress: u64): u64 {
  let offset = hostAddress - load<u64>(recentWritten, ENTRY_TARGET);
  if (offset < load<u64>(recentWritten, ENTRY_LENGTH)) return offset;
  const end = <usize>REGION_TABLE_PTR + <usize>REGIONS_MAX * TABLE_ENTRY_SIZE;
  for (let entry: usize = REGION_TABLE_PTR; entry < end; entry += TABLE_ENTRY_SIZE) {
    const length = load<u64>(entry, ENTRY_LENGTH);
    if (length === 0) break;
    offset = hostAddress - load<u64>(entry, ENTRY_TARGET);
    if (offset >= length) continue;
    recentWritten = entry;
    return offset;
  }
  return u64.MAX_VALUE;
}

/** Keeps `gpa` as the miss to be served: MISSED; or FAULT_ADDRESS if the guest has no such memory. */
function noteMiss(gpa: u64): i32 {
  if (regionSpan(gpa, 1) === 0) return FAULT_ADDRESS;
  missedGpa = gpa;
  return MISSED;
}

/** A pointer to `byteLength` bytes that one window shows whole, or 0. */
export function gpaToPtr(gpa: u64, byteLength: u32): usize {
  return windowSpan(gpa, byteLength) === byteLength ? <usize>spanTarget : 0;
}

/** The same to read from, in a window or a copy. */
export function gpaToReadPtr(gpa: u64, byteLength: u32): usize {
  return readSpan(gpa, byteLength) === byteLength ? <usize>spanTarget : 0;
}

function readSpan(gpa: u64, byteLength: u64): u64 {
  const span = windowSpan(gpa, byteLength);
  if (span !== 0 || !canReadCopies) return span;
  const entry = findEntry(copyTable, COPIES_MAX, gpa);
  return entry === 0 ? 0 : spanOf(entry, gpa, byteLength);
}

/** 16 bytes are a header or a descriptor: two loads cost less than the call of memmove that V8 makes, 1 % of a worker's time. */
function copyBytes(target: usize, source: usize, byteLength: u32): void {
  if (byteLength !== 16) {
    memory.copy(target, source, byteLength);
    return;
  }
  const low = load<u64>(source);
  const high = load<u64>(source, 8);
  store<u64>(target, low);
  store<u64>(target, high, 8);
}

/** Copies out of guest memory, across windows where it must. PRESENT, MISSED or FAULT_ADDRESS. */
export function copyFromGuest(target: usize, gpa: u64, byteLength: u32): i32 {
  while (byteLength > 0) {
    const span = <u32>readSpan(gpa, byteLength);
    if (span === 0) return noteMiss(gpa);
    copyBytes(target, <usize>spanTarget, span);
    target += span;
    gpa += span;
    byteLength -= span;
  }
  return PRESENT;
}

/**
 * Copies into guest memory, across windows where it must; what no window shows the host writes, from `source`, which must
 * stay as it is until the next step. Only after hasRoomForWrites(), but for a status. PRESENT, DEFERRED or FAULT_ADDRESS.
 */
export function copyToGuest(gpa: u64, source: usize, byteLength: u32): i32 {
  let result: i32 = PRESENT;
  while (byteLength > 0) {
    let span = <u32>windowSpan(gpa, byteLength);
    if (span !== 0) {
      // One byte is a status.
      if (span === 1) store<u8>(<usize>spanTarget, load<u8>(source));
      else memory.copy(<usize>spanTarget, source, span);
      if (isLogging) logWritten(gpa, span);
    } else {
      span = <u32>regionSpan(gpa, min<u32>(byteLength, hiddenBytes(gpa, byteLength)));
      if (span === 0) return FAULT_ADDRESS;
      addGuestWrite(gpa, source, span);
      result = DEFERRED;
    }
    source += span;
    gpa += span;
    byteLength -= span;
  }
  return result;
}

/** How many bytes from `gpa` on no window shows: what one shows is written there. */
function hiddenBytes(gpa: u64, byteLength: u32): u32 {
  let count: u32 = 1;
  while (count < byteLength && windowSpan(gpa + count, 1) === 0) count++;
  return count;
}

function addGuestWrite(gpa: u64, source: usize, byteLength: u32): void {
  if (!ASC_NO_ASSERT) assert(guestWriteCount < GUEST_WRITES_MAX, "a write of the host's without room");
  const entry = guestWrites + <usize>guestWriteCount * TABLE_ENTRY_SIZE;
  store<u64>(entry, gpa, ENTRY_GPA);
  store<u64>(entry, byteLength, ENTRY_LENGTH);
  store<u64>(entry, source, ENTRY_TARGET);
  guestWriteCount++;
  // The row ends at the first entry without a length.
  if (guestWriteCount < GUEST_WRITES_MAX) store<u64>(entry, 0, TABLE_ENTRY_SIZE + ENTRY_LENGTH);
}
