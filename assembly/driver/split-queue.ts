// The driver's side of the split ring (virtio 1.4, 2.7). A slot has its own descriptors, so there is no free list.
import {
  AVAIL_FLAGS,
  AVAIL_IDX,
  AVAIL_RING,
  DESC_FLAGS,
  DESC_NEXT,
  DESC_SIZE,
  USED_ELEM_ID,
  USED_ELEM_SIZE,
  USED_FLAGS,
  USED_IDX,
  USED_RING,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../spec/virtqueue.ts";
import { writeAddrLen, writeBuffer } from "./buffers.ts";
import { Queue, Slot } from "./queue.ts";

/** Adds a chain, which the device sees after publish(). */
export function add(queue: Queue, slot: Slot): void {
  const count = queue.chainLength;
  let head = slot.index;
  if (queue.isIndirect) {
    writeChain(slot.tablePtr, 0, queue, slot);
    const at = queue.desc + <usize>head * DESC_SIZE;
    writeAddrLen(at, slot.tableGpa, count * DESC_SIZE);
    store<u16>(at, VIRTQ_DESC_F_INDIRECT, DESC_FLAGS);
  } else {
    head *= count;
    writeChain(queue.desc + <usize>head * DESC_SIZE, head, queue, slot);
  }
  const entry = queue.nextAvail & (queue.size - 1);
  store<u16>(queue.driver + ((<usize>entry) << 1), <u16>head, AVAIL_RING);
  queue.nextAvail = (queue.nextAvail + 1) & 0xffff;
  queue.sinceKick++;
}

function writeChain(at: usize, first: u32, queue: Queue, slot: Slot): void {
  const last = queue.chainLength - 1;
  for (let k: u32 = 0; k < last; k++, at += DESC_SIZE) {
    store<u16>(at, <u16>(writeBuffer(at, queue, slot, k) | VIRTQ_DESC_F_NEXT), DESC_FLAGS);
    store<u16>(at, <u16>(first + k + 1), DESC_NEXT);
  }
  store<u16>(at, <u16>writeBuffer(at, queue, slot, last), DESC_FLAGS);
}

export function publish(queue: Queue): void {
  // Release: descriptors and ring entries are seen before the index that counts them (2.7.13.3).
  atomic.store<u16>(queue.driver, <u16>queue.nextAvail, AVAIL_IDX);
}

/** Takes note of what was published since the last time, and says whether the device wants a kick for it. */
export function takeKickWish(queue: Queue): bool {
  const added = queue.sinceKick;
  queue.sinceKick = 0;
  if (!queue.hasEventIdx) return (atomic.load<u16>(queue.device, USED_FLAGS) & VIRTQ_USED_F_NO_NOTIFY) === 0;
  const event = atomic.load<u16>(queue.device + USED_RING + <usize>queue.size * USED_ELEM_SIZE);
  return <u32>(<u16>(queue.nextAvail - event - 1)) < added;
}

export function hasUsed(queue: Queue): bool {
  // Acquire: the elements were written before the index moved past them.
  return <u32>atomic.load<u16>(queue.device, USED_IDX) !== queue.nextUsed;
}

/** The slot index in the next used element. Only after hasUsed(). */
export function popUsed(queue: Queue): u32 {
  const entry = queue.nextUsed & (queue.size - 1);
  const head = load<u32>(queue.device + <usize>entry * USED_ELEM_SIZE, USED_RING + USED_ELEM_ID);
  queue.nextUsed = (queue.nextUsed + 1) & 0xffff;
  return queue.isIndirect ? head : head / queue.chainLength;
}

export function enableCalls(queue: Queue): void {
  if (!queue.hasEventIdx) atomic.store<u16>(queue.driver, 0, AVAIL_FLAGS);
  else atomic.store<u16>(queue.driver + AVAIL_RING + ((<usize>queue.size) << 1), <u16>queue.nextUsed);
}

/** An event index is passed by the first completion and asks for no more; flags have to be set (2.7.7.1). */
export function disableCalls(queue: Queue): void {
  if (!queue.hasEventIdx) atomic.store<u16>(queue.driver, VIRTQ_AVAIL_F_NO_INTERRUPT, AVAIL_FLAGS);
}
