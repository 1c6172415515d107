// Inflight tracking in either ring format, and the order in which a predecessor's requests are done again.

import { FAULT_INFLIGHT_REGION } from "../abi/layout.ts";
import * as packed from "./packed-inflight.ts";
import * as split from "./split-inflight.ts";
import { Chain, Virtqueue } from "./state.ts";

/** In a record, behind `inflight`: padding to the vhost-user text, 1 here for a parked chain. Cleared as `inflight` is set. */
const PARKED_MARK: usize = 1;

export function isTracked(queue: Virtqueue): bool {
  return queue.inflight !== 0;
}

/** Reads what a predecessor left, and lists it in the order it was taken. 0, or a FAULT. */
export function recover(queue: Virtqueue): i32 {
  queue.counter = 0;
  queue.leftoverNext = 0;
  queue.leftoverCount = 0;
  if (!isTracked(queue)) return 0;
  let result = queue.isPacked ? packed.recover(queue) : split.recover(queue);
  // More than there are places for requests, by far: only a foreign back-end can have left so many.
  if (result === 0 && queue.leftoverCount > queue.leftoversMax) result = FAULT_INFLIGHT_REGION;
  if (result === 0) sortLeftovers(queue);
  else queue.leftoverCount = 0;
  return result;
}

/** The chain has been taken. Before anything is done for it: else a crash would do it never, or twice. */
export function begin(queue: Virtqueue, chain: Chain): void {
  if (!isTracked(queue)) return;
  if (queue.isPacked) packed.begin(queue, chain);
  else split.begin(queue, chain);
}

/** The next leftover has been taken: its record is as it was, but that it is parked no more. */
export function resume(queue: Virtqueue, chain: Chain): void {
  const entry = nextLeftover(queue);
  store<u8>(recordPtr(queue, entry), 0, PARKED_MARK);
  queue.leftoverNext++;
  chain.firstEntry = entry;
  if (queue.isPacked) chain.lastEntry = packed.lastOf(queue, entry);
}

/** The chain stays recorded, and whoever takes it again learns that it was not begun. */
export function park(queue: Virtqueue, chain: Chain): void {
  store<u8>(recordPtr(queue, chain.firstEntry), 1, PARKED_MARK);
}

/** Whether the next leftover was parked. */
export function isNextParked(queue: Virtqueue): bool {
  return load<u8>(recordPtr(queue, nextLeftover(queue)), PARKED_MARK) === 1;
}

function recordPtr(queue: Virtqueue, entry: u32): usize {
  return queue.isPacked ? packed.entryPtr(queue, entry) : split.entryPtr(queue, entry);
}

/** The chain is about to be given back. */
export function stage(queue: Virtqueue, chain: Chain): void {
  if (!isTracked(queue)) return;
  if (queue.isPacked) packed.stage(queue, chain);
  else split.stage(queue, chain);
}

/** The driver can see all that was staged: it is in flight no more. */
export function commit(queue: Virtqueue): void {
  if (!isTracked(queue)) return;
  if (queue.isPacked) packed.commit(queue);
  else split.commit(queue);
}

export function hasLeftovers(queue: Virtqueue): bool {
  return queue.leftoverNext < queue.leftoverCount;
}

/** The head, or the entry of the region, that is to be done again next. */
export function nextLeftover(queue: Virtqueue): u32 {
  return load<u16>(leftoverPtr(queue, queue.leftoverNext));
}

function leftoverPtr(queue: Virtqueue, index: u32): usize {
  return queue.leftovers + ((<usize>index) << 1);
}

function leftoverAt(queue: Virtqueue, index: u32): u32 {
  return load<u16>(leftoverPtr(queue, index));
}

function counterAt(queue: Virtqueue, index: u32): u64 {
  const leftover = leftoverAt(queue, index);
  return queue.isPacked ? packed.counterOf(queue, leftover) : split.counterOf(queue, leftover);
}

function swap(queue: Virtqueue, a: u32, b: u32): void {
  const held = leftoverAt(queue, a);
  store<u16>(leftoverPtr(queue, a), <u16>leftoverAt(queue, b));
  store<u16>(leftoverPtr(queue, b), <u16>held);
}

/** Heapsort by counter: in place, and bounded whatever the counters are. */
function sortLeftovers(queue: Virtqueue): void {
  const count = queue.leftoverCount;
  for (let root = count >> 1; root-- > 0; ) sink(queue, root, count);
  for (let end = count; end-- > 1; ) {
    swap(queue, 0, end);
    sink(queue, 0, end);
  }
}

function sink(queue: Virtqueue, root: u32, count: u32): void {
  while (true) {
    let child = root * 2 + 1;
    if (child >= count) return;
    if (child + 1 < count && counterAt(queue, child + 1) > counterAt(queue, child)) child++;
    if (counterAt(queue, root) >= counterAt(queue, child)) return;
    swap(queue, root, child);
    root = child;
  }
}
