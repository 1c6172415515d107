// Which requests of a split ring are in flight, kept where a crash can't reach it (vhost-user, "Inflight I/O tracking").
//
// A crash may come between any two stores. At every moment this holds: the driver's first used.idx + n available chains
// have been taken, where n counts the entries with inflight set, once the last batch (used_idx up to used.idx) is
// taken from them. So a successor goes on at used.idx + n, after it has done those n.

import { FAULT_INFLIGHT_REGION } from "../abi/faults.ts";
import {
  INFLIGHT_DESC_NUM,
  INFLIGHT_FEATURES,
  INFLIGHT_REGION_VERSION,
  INFLIGHT_VERSION,
  SPLIT_ENTRIES,
  SPLIT_ENTRY_COUNTER,
  SPLIT_ENTRY_INFLIGHT,
  SPLIT_ENTRY_NEXT,
  SPLIT_ENTRY_SIZE,
  SPLIT_LAST_BATCH_HEAD,
  SPLIT_USED_IDX,
} from "../spec/inflight.ts";
import { isMarkedPacked, markSplit } from "./inflight-format.ts";
import { Chain, Virtqueue } from "./state.ts";

export function entryPtr(queue: Virtqueue, head: u32): usize {
  return queue.inflight + SPLIT_ENTRIES + <usize>head * SPLIT_ENTRY_SIZE;
}

export function begin(queue: Virtqueue, chain: Chain): void {
  chain.firstEntry = chain.id;
  const entry = entryPtr(queue, chain.id);
  store<u64>(entry, queue.counter++, SPLIT_ENTRY_COUNTER);
  // Last: an entry in flight has its place in the order. With the byte behind it, which marks parked chains.
  atomic.store<u16>(entry, 1, SPLIT_ENTRY_INFLIGHT);
}

/** The head joins the list of the batch that used.idx is to count next. */
export function stage(queue: Virtqueue, chain: Chain): void {
  const head = chain.firstEntry;
  store<u16>(entryPtr(queue, head), load<u16>(queue.inflight, SPLIT_LAST_BATCH_HEAD), SPLIT_ENTRY_NEXT);
  // Last: whoever walks the list finds the whole entry. Before used.idx, which is stored atomically next.
  atomic.store<u16>(queue.inflight, <u16>head, SPLIT_LAST_BATCH_HEAD);
}

export function commit(queue: Virtqueue): void {
  clearBatch(queue, queue.stagedChains);
  // Last: until here a successor sees that used_idx lags behind used.idx, and clears the batch once more.
  atomic.store<u16>(queue.inflight, queue.nextUsed, SPLIT_USED_IDX);
}

/** False if the list isn't as long as that. */
function clearBatch(queue: Virtqueue, count: u32): bool {
  let head = <u32>load<u16>(queue.inflight, SPLIT_LAST_BATCH_HEAD);
  for (let i: u32 = 0; i < count; i++) {
    if (head >= queue.inflightEntries) return false;
    const entry = entryPtr(queue, head);
    atomic.store<u8>(entry, 0, SPLIT_ENTRY_INFLIGHT);
    head = load<u16>(entry, SPLIT_ENTRY_NEXT);
  }
  return true;
}

/** Reads what a predecessor left. The ring has been started; nothing was taken yet. 0, or a FAULT. */
export function recover(queue: Virtqueue): i32 {
  const version = load<u16>(queue.inflight, INFLIGHT_REGION_VERSION);
  if (version === 0 || isMarkedPacked(queue.inflight)) return initialize(queue);
  if (version !== INFLIGHT_VERSION) return FAULT_INFLIGHT_REGION;
  if (<u32>load<u16>(queue.inflight, INFLIGHT_DESC_NUM) !== queue.inflightEntries)
    return FAULT_INFLIGHT_REGION;

  const batch = <u16>(queue.nextUsed - load<u16>(queue.inflight, SPLIT_USED_IDX));
  if (<u32>batch > queue.size) {
    // A ring that begins anew, with a region from its former life: nothing of that is owed.
    return queue.nextUsed === 0 && queue.nextAvail === 0 ? initialize(queue) : FAULT_INFLIGHT_REGION;
  }
  if (!clearBatch(queue, batch)) return FAULT_INFLIGHT_REGION;
  atomic.store<u16>(queue.inflight, queue.nextUsed, SPLIT_USED_IDX);
  markSplit(queue.inflight);
  collect(queue);
  // The front-end can't know this: after a crash QEMU sends used.idx.
  queue.nextAvail = <u16>(queue.nextUsed + queue.leftoverCount);
  return 0;
}

function initialize(queue: Virtqueue): i32 {
  atomic.store<u16>(queue.inflight, 0, INFLIGHT_REGION_VERSION);
  memory.fill(queue.inflight + SPLIT_ENTRIES, 0, <usize>queue.inflightEntries * SPLIT_ENTRY_SIZE);
  store<u64>(queue.inflight, 0, INFLIGHT_FEATURES);
  store<u16>(queue.inflight, <u16>queue.inflightEntries, INFLIGHT_DESC_NUM);
  store<u16>(queue.inflight, 0, SPLIT_LAST_BATCH_HEAD);
  // The ring may have run before without a region: a used_idx of 0 would make all of that one batch.
  store<u16>(queue.inflight, queue.nextUsed, SPLIT_USED_IDX);
  markSplit(queue.inflight);
  // Last: from here on the region counts.
  atomic.store<u16>(queue.inflight, INFLIGHT_VERSION, INFLIGHT_REGION_VERSION);
  return 0;
}

function collect(queue: Virtqueue): void {
  // Heads past the ring are none of its: the region may have been made for a larger one.
  const count = min<u32>(queue.size, queue.inflightEntries);
  for (let head: u32 = 0; head < count; head++) {
    const entry = entryPtr(queue, head);
    if (load<u8>(entry, SPLIT_ENTRY_INFLIGHT) === 0) continue;
    queue.addLeftover(head);
    const counter = load<u64>(entry, SPLIT_ENTRY_COUNTER);
    if (counter >= queue.counter) queue.counter = counter + 1;
  }
}

export function counterOf(queue: Virtqueue, head: u32): u64 {
  return load<u64>(entryPtr(queue, head), SPLIT_ENTRY_COUNTER);
}
