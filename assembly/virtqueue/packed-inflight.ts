// Which chains of a packed ring are in flight, with copies of their descriptors, kept where a crash can't reach it
// (vhost-user, "Inflight I/O tracking"). The ring itself won't do: used descriptors overwrite available ones in it.
//
// Entries are in a free list or in a chain. Two heads of the free list and two used positions are kept: the old ones
// are the truth, the others a change under way. A crash may come between any two stores: a successor finds the change
// either published (the driver can see the first descriptor of the batch as used) and completes it, or not, and undoes it.
//
// The four used fields lie in one aligned u64, and both free heads in one aligned u32, so that each commit is one store.

import { FAULT_INFLIGHT_REGION } from "../abi/faults.ts";
import {
  INFLIGHT_DESC_NUM,
  INFLIGHT_FEATURES,
  INFLIGHT_REGION_VERSION,
  INFLIGHT_VERSION,
  PACKED_ENTRIES,
  PACKED_ENTRY_ADDR,
  PACKED_ENTRY_COUNTER,
  PACKED_ENTRY_FLAGS,
  PACKED_ENTRY_ID,
  PACKED_ENTRY_INFLIGHT,
  PACKED_ENTRY_LAST,
  PACKED_ENTRY_LEN,
  PACKED_ENTRY_NEXT,
  PACKED_ENTRY_NUM,
  PACKED_ENTRY_SIZE,
  PACKED_FREE_HEAD,
  PACKED_OLD_FREE_HEAD,
  PACKED_OLD_USED_IDX,
  PACKED_OLD_USED_WRAP,
  PACKED_USED_IDX,
  PACKED_USED_WRAP,
} from "../spec/inflight.ts";
import { isMarkedSplit, markPacked } from "./inflight-format.ts";
import { advance, isAvailableAt, slotOf, undoUsed, wrapOf } from "./packed.ts";
import { Chain, Virtqueue } from "./state.ts";

export function entryPtr(queue: Virtqueue, entry: u32): usize {
  return queue.inflight + PACKED_ENTRIES + <usize>entry * PACKED_ENTRY_SIZE;
}

/** Commits the head of the free list: nothing is under way. */
function storeFreeHeads(queue: Virtqueue, head: u32): void {
  atomic.store<u32>(queue.inflight, head | (head << 16), PACKED_FREE_HEAD);
}

/** used_idx, old_used_idx, used_wrap_counter, old_used_wrap_counter, from the lowest bits up. */
function storeUsed(queue: Virtqueue, idx: u32, wrap: u32, oldIdx: u32, oldWrap: u32): void {
  const positions = idx | (oldIdx << 16);
  const wraps = wrap | (oldWrap << 8);
  atomic.store<u64>(queue.inflight, <u64>positions | ((<u64>wraps) << 32), PACKED_USED_IDX);
}

// --- Taking a chain -------------------------------------------------------------------------------------------------

/** Reading begins. What is recorded from here lies in free entries, so it counts for nothing until begin(). */
export function openRecord(queue: Virtqueue): void {
  queue.recordFirst = load<u16>(queue.inflight, PACKED_OLD_FREE_HEAD);
  queue.recordNext = queue.recordFirst;
}

/** Copies one descriptor of the ring into the next free entry. False if the free list is not as it should be. */
export function record(queue: Virtqueue, gpa: u64, byteLength: u32, id: u16, flags: u32): bool {
  if (queue.recordNext >= queue.inflightEntries) return false;
  queue.recordLast = queue.recordNext;
  const entry = entryPtr(queue, queue.recordNext);
  store<u64>(entry, gpa, PACKED_ENTRY_ADDR);
  store<u32>(entry, byteLength, PACKED_ENTRY_LEN);
  store<u16>(entry, <u16>flags, PACKED_ENTRY_FLAGS);
  store<u16>(entry, id, PACKED_ENTRY_ID);
  queue.recordNext = load<u16>(entry, PACKED_ENTRY_NEXT);
  return true;
}

/** What was recorded is the chain. */
export function begin(queue: Virtqueue, chain: Chain): void {
  chain.firstEntry = queue.recordFirst;
  chain.lastEntry = queue.recordLast;
  const entry = entryPtr(queue, chain.firstEntry);
  store<u16>(entry, <u16>chain.count, PACKED_ENTRY_NUM);
  store<u16>(entry, <u16>chain.lastEntry, PACKED_ENTRY_LAST);
  store<u64>(entry, queue.counter++, PACKED_ENTRY_COUNTER);
  // With the byte behind it, which marks parked chains.
  store<u16>(entry, 1, PACKED_ENTRY_INFLIGHT);
  // Last: a chain is in flight from the moment that the free list no longer holds it.
  storeFreeHeads(queue, queue.recordNext);
}

// --- Giving chains back ---------------------------------------------------------------------------------------------

/** Before the ring is touched: should the batch never be published, a successor must know how far it was. */
export function stage(queue: Virtqueue, chain: Chain): void {
  const region = queue.inflight;
  store<u16>(entryPtr(queue, chain.lastEntry), load<u16>(region, PACKED_FREE_HEAD), PACKED_ENTRY_NEXT);
  store<u16>(region, <u16>chain.firstEntry, PACKED_FREE_HEAD);
  const next = advance(queue, queue.nextUsed, queue.usedWrap, chain.count);
  const oldIdx = load<u16>(region, PACKED_OLD_USED_IDX);
  const oldWrap = load<u8>(region, PACKED_OLD_USED_WRAP);
  storeUsed(queue, slotOf(next), wrapOf(next), oldIdx, oldWrap);
}

export function commit(queue: Virtqueue): void {
  const head = <u32>load<u16>(queue.inflight, PACKED_FREE_HEAD);
  clearBatch(queue, head, queue.stagedChains);
  // The free list first: while the used positions differ, a successor does all of this again.
  storeFreeHeads(queue, head);
  storeUsed(queue, queue.nextUsed, queue.usedWrap, queue.nextUsed, queue.usedWrap);
}

function clearBatch(queue: Virtqueue, first: u32, count: u32): void {
  for (let i: u32 = 0; i < count && first < queue.inflightEntries; i++) {
    const entry = entryPtr(queue, first);
    store<u8>(entry, 0, PACKED_ENTRY_INFLIGHT);
    const last = <u32>load<u16>(entry, PACKED_ENTRY_LAST);
    if (last >= queue.inflightEntries) return;
    first = load<u16>(entryPtr(queue, last), PACKED_ENTRY_NEXT);
  }
}

// --- Recovery -------------------------------------------------------------------------------------------------------

/** Reads what a predecessor left. The ring has been started; nothing was taken yet. 0, or a FAULT. */
export function recover(queue: Virtqueue): i32 {
  const region = queue.inflight;
  const version = load<u16>(region, INFLIGHT_REGION_VERSION);
  if (version === 0 || isMarkedSplit(region)) return initialize(queue);
  if (version !== INFLIGHT_VERSION) return FAULT_INFLIGHT_REGION;
  if (<u32>load<u16>(region, INFLIGHT_DESC_NUM) !== queue.inflightEntries) return FAULT_INFLIGHT_REGION;

  settleBatch(queue);
  const idx = <u32>load<u16>(region, PACKED_OLD_USED_IDX);
  const wrap = <u32>load<u8>(region, PACKED_OLD_USED_WRAP);
  if (idx >= queue.size || wrap > 1) return FAULT_INFLIGHT_REGION;
  if (!clearFreeEntries(queue)) return FAULT_INFLIGHT_REGION;
  queue.nextUsed = <u16>idx;
  queue.usedWrap = wrap;
  const taken = collect(queue);
  if (taken > queue.size) return FAULT_INFLIGHT_REGION;
  markPacked(region);
  // The front-end can't know this: QEMU sends the base of long ago. Behind used lie the chains in flight, and only they.
  const next = advance(queue, idx, wrap, taken);
  queue.nextAvail = <u16>slotOf(next);
  queue.availWrap = wrapOf(next);
  return 0;
}

/** Completes a batch that the driver can see, or undoes one that it can't. */
function settleBatch(queue: Virtqueue): void {
  const region = queue.inflight;
  const idx = <u32>load<u16>(region, PACKED_USED_IDX);
  const wrap = <u32>load<u8>(region, PACKED_USED_WRAP);
  const oldIdx = <u32>load<u16>(region, PACKED_OLD_USED_IDX);
  const oldWrap = <u32>load<u8>(region, PACKED_OLD_USED_WRAP);
  // A batch as large as the ring changes the wrap counter alone.
  const isUnderWay = idx !== oldIdx || wrap !== oldWrap;
  if (isUnderWay && oldIdx < queue.size && idx < queue.size) {
    if (isAvailableAt(queue, oldIdx, oldWrap)) {
      undoUsed(queue, oldIdx, oldWrap, idx);
    } else {
      storeFreeHeads(queue, load<u16>(region, PACKED_FREE_HEAD));
      storeUsed(queue, idx, wrap, idx, wrap);
      return;
    }
  }
  storeFreeHeads(queue, load<u16>(region, PACKED_OLD_FREE_HEAD));
  storeUsed(queue, oldIdx, oldWrap, oldIdx, oldWrap);
}

/** False if the list runs in a circle or out of the region. */
function clearFreeEntries(queue: Virtqueue): bool {
  let entry = <u32>load<u16>(queue.inflight, PACKED_FREE_HEAD);
  for (let i: u32 = 0; i < queue.inflightEntries; i++) {
    // The end of the list, which every entry in turn has been or may be.
    if (entry === queue.inflightEntries) return true;
    if (entry > queue.inflightEntries) return false;
    const ptr = entryPtr(queue, entry);
    store<u8>(ptr, 0, PACKED_ENTRY_INFLIGHT);
    entry = load<u16>(ptr, PACKED_ENTRY_NEXT);
  }
  return entry === queue.inflightEntries;
}

/** Whatever the region says, an entry of it. */
export function lastOf(queue: Virtqueue, first: u32): u32 {
  return min<u32>(load<u16>(entryPtr(queue, first), PACKED_ENTRY_LAST), queue.inflightEntries - 1);
}

/** Lists the chains in flight. Returns how many descriptors of the ring they hold. */
function collect(queue: Virtqueue): u32 {
  let taken: u32 = 0;
  for (let i: u32 = 0; i < queue.inflightEntries; i++) {
    const entry = entryPtr(queue, i);
    if (load<u8>(entry, PACKED_ENTRY_INFLIGHT) === 0) continue;
    queue.addLeftover(i);
    const count = <u32>load<u16>(entry, PACKED_ENTRY_NUM);
    // No chain is that short: the region was not written by anyone who tracks.
    if (count === 0) return queue.size + 1;
    taken += count;
    const counter = load<u64>(entry, PACKED_ENTRY_COUNTER);
    if (counter >= queue.counter) queue.counter = counter + 1;
  }
  return taken;
}

function initialize(queue: Virtqueue): i32 {
  const region = queue.inflight;
  const count = queue.inflightEntries;
  atomic.store<u16>(region, 0, INFLIGHT_REGION_VERSION);
  memory.fill(region + PACKED_ENTRIES, 0, <usize>count * PACKED_ENTRY_SIZE);
  // The last entry's next is the number of entries: the end.
  for (let i: u32 = 0; i < count; i++) store<u16>(entryPtr(queue, i), <u16>(i + 1), PACKED_ENTRY_NEXT);
  store<u64>(region, 0, INFLIGHT_FEATURES);
  store<u16>(region, <u16>count, INFLIGHT_DESC_NUM);
  storeFreeHeads(queue, 0);
  storeUsed(queue, queue.nextUsed, queue.usedWrap, queue.nextUsed, queue.usedWrap);
  markPacked(region);
  // Last: from here on the region counts.
  atomic.store<u16>(region, INFLIGHT_VERSION, INFLIGHT_REGION_VERSION);
  return 0;
}

export function counterOf(queue: Virtqueue, entry: u32): u64 {
  return load<u64>(entryPtr(queue, entry), PACKED_ENTRY_COUNTER);
}
