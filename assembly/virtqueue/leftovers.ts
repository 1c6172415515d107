// What a predecessor left unfinished: which chains, in the order in which they were taken, and which of them were parked.

import { FAULT_INFLIGHT_REGION } from "../abi/faults.ts";
import * as packed from "./packed-inflight.ts";
import * as split from "./split-inflight.ts";
import { Virtqueue } from "./state.ts";

/** In a record, behind `inflight`: padding to the vhost-user text, 1 here for a parked chain. Cleared as `inflight` is set. */
const PARKED_MARK: usize = 1;

/** Reads the inflight region, and lists what is in it. 0, or a FAULT. */
export function recover(queue: Virtqueue): i32 {
  queue.counter = 0;
  queue.leftoverNext = 0;
  queue.leftoverCount = 0;
  if (!queue.isTracked) return 0;
  let result = queue.isPacked ? packed.recover(queue) : split.recover(queue);
  // Far more than a worker of ours takes at a time: only another back-end can have left so many.
  if (result === 0 && queue.leftoverCount > queue.leftoversMax) result = FAULT_INFLIGHT_REGION;
  if (result === 0) sort(queue);
  else queue.leftoverCount = 0;
  return result;
}

/** The head, or the entry of the region, that is to be done again next. */
export function nextLeftover(queue: Virtqueue): u32 {
  return leftoverAt(queue, queue.leftoverNext);
}

/** Goes past the next leftover, which has been taken: it is parked no more. Returns its entry. */
export function popLeftover(queue: Virtqueue): u32 {
  const entry = nextLeftover(queue);
  store<u8>(recordPtr(queue, entry), 0, PARKED_MARK);
  queue.leftoverNext++;
  return entry;
}

/** Whether the next leftover was parked. */
export function isNextParked(queue: Virtqueue): bool {
  return load<u8>(recordPtr(queue, nextLeftover(queue)), PARKED_MARK) === 1;
}

/** Whoever takes the chain of this entry again learns that it was not begun. */
export function markParked(queue: Virtqueue, entry: u32): void {
  store<u8>(recordPtr(queue, entry), 1, PARKED_MARK);
}

function recordPtr(queue: Virtqueue, entry: u32): usize {
  return queue.isPacked ? packed.entryPtr(queue, entry) : split.entryPtr(queue, entry);
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
function sort(queue: Virtqueue): void {
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
