// Guest physical addresses to pointers and host addresses. The only range check: nothing else trusts a guest's address.
import {
  ENTRY_GPA,
  ENTRY_LENGTH,
  ENTRY_TARGET,
  FAULT_ADDRESS,
  REGION_TABLE_PTR,
  REGIONS_MAX,
  TABLE_ENTRY_SIZE,
  WINDOWS_MAX,
} from "./spec/layout.ts";

/** The guest's bytes are in linear memory. */
export const PRESENT = 0;
/** They are guest memory, but no window shows them: see missedGpa. */
export const MISSED = 1;

/** Where the last miss was. */
export let missedGpa: u64 = 0;

/** What the last spanning call found: a pointer into linear memory or a host address. */
export let spanTarget: u64 = 0;

let windowTable: usize = 0;
let recentWindow: usize = 0;
let recentRegion: usize = REGION_TABLE_PTR;

export function useWindowTable(table: usize): void {
  windowTable = table;
  recentWindow = table;
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

/** MISSED if a window could show `gpa`, FAULT_ADDRESS if the guest has no such memory. */
export function whyAbsent(gpa: u64): i32 {
  if (regionSpan(gpa, 1) === 0) return FAULT_ADDRESS;
  missedGpa = gpa;
  return MISSED;
}

/** A pointer to `byteLength` bytes that one window shows whole, or 0. */
export function gpaToPtr(gpa: u64, byteLength: u32): usize {
  return windowSpan(gpa, byteLength) === byteLength ? <usize>spanTarget : 0;
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
    const span = <u32>windowSpan(gpa, byteLength);
    if (span === 0) return whyAbsent(gpa);
    copyBytes(target, <usize>spanTarget, span);
    target += span;
    gpa += span;
    byteLength -= span;
  }
  return PRESENT;
}

/** Copies into guest memory, across windows where it must. PRESENT, MISSED or FAULT_ADDRESS. */
export function copyToGuest(gpa: u64, source: usize, byteLength: u32): i32 {
  while (byteLength > 0) {
    const span = <u32>windowSpan(gpa, byteLength);
    if (span === 0) return whyAbsent(gpa);
    memory.copy(<usize>spanTarget, source, span);
    source += span;
    gpa += span;
    byteLength -= span;
  }
  return PRESENT;
}
