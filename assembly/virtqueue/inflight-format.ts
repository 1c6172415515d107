// Which ring format a queue's part of the inflight region was written in. The vhost-user text has no field for it, but its two
// formats have padding where the other has what no back-end writes there; so a mark is put into that, and others pass over it.
//
// A ring changes its format only with the features of a device that was reset: what is recorded in the other format is nobody's any
// more, and read in this one it would be garbage that may look sound. What bears no mark was written by another back-end, or an
// earlier release: that is taken at its word.

import { PACKED_USED_WRAP, SPLIT_ENTRIES, SPLIT_ENTRY_COUNTER } from "../spec/inflight.ts";

/** Padding of the first split entry. In a packed part the two wrap counters are here, which are 0 or 1. */
const SPLIT_MARK_AT: usize = PACKED_USED_WRAP;
const SPLIT_MARK: u16 = 0x7073;

/** Padding of the packed header. In a split part the first entry's counter is here, which counts requests from 0. */
const PACKED_MARK_AT: usize = SPLIT_ENTRIES + SPLIT_ENTRY_COUNTER;
const PACKED_MARK: u64 = 0x6465_6b63_6170_0000;

export function markSplit(part: usize): void {
  store<u16>(part, SPLIT_MARK, SPLIT_MARK_AT);
}

export function isMarkedSplit(part: usize): bool {
  return load<u16>(part, SPLIT_MARK_AT) === SPLIT_MARK;
}

export function markPacked(part: usize): void {
  store<u64>(part, PACKED_MARK, PACKED_MARK_AT);
}

export function isMarkedPacked(part: usize): bool {
  return load<u64>(part, PACKED_MARK_AT) === PACKED_MARK;
}
