// The split ring (virtio 1.4, 2.7): avail ring in, used ring out.
import { FAULT_AVAIL_RAN_AHEAD, FAULT_TOO_MANY_IN_FLIGHT } from "../abi/faults.ts";
import {
  AVAIL_FLAGS,
  AVAIL_IDX,
  AVAIL_RING,
  DESC_SIZE,
  USED_ELEM_ID,
  USED_ELEM_LEN,
  USED_ELEM_SIZE,
  USED_FLAGS,
  USED_IDX,
  USED_RING,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../spec/virtqueue.ts";
import { AVAILABLE, EMPTY } from "./results.ts";
import { Virtqueue } from "./state.ts";

export function start(queue: Virtqueue, base: u32): void {
  queue.nextAvail = <u16>base;
  // The used index lives in guest memory alone (vhost-user, SET_VRING_BASE).
  queue.nextUsed = atomic.load<u16>(queue.device, USED_IDX);
  // A predecessor may have left kicks off.
  atomic.store<u16>(queue.device, 0, USED_FLAGS);
}

export function base(queue: Virtqueue): u32 {
  return queue.nextAvail;
}

/** AVAILABLE, EMPTY or a FAULT. */
export function lookForChain(queue: Virtqueue): i32 {
  // Acquire: the ring entry was written before idx moved past it.
  const ahead: u16 = atomic.load<u16>(queue.driver, AVAIL_IDX) - queue.nextAvail;
  if (ahead === 0) return EMPTY;
  // An honest driver never has more than size entries outstanding.
  if (<u32>ahead > queue.size) return FAULT_AVAIL_RAN_AHEAD;
  return queue.inFlight < queue.size ? AVAILABLE : FAULT_TOO_MANY_IN_FLIGHT;
}

/** The head of the next available chain. Only if AVAILABLE. Not checked: it is as the driver wrote it. */
export function nextHead(queue: Virtqueue): u16 {
  const slot = <u32>queue.nextAvail & (queue.size - 1);
  return load<u16>(queue.driver + ((<usize>slot) << 1), AVAIL_RING);
}

export function descriptorPtr(queue: Virtqueue, index: u32): usize {
  return queue.desc + <usize>index * DESC_SIZE;
}

export function pushUsed(queue: Virtqueue, id: u16, byteLength: u32): void {
  const slot = <u32>queue.nextUsed & (queue.size - 1);
  const element = queue.device + USED_RING + <usize>slot * USED_ELEM_SIZE;
  store<u32>(element, id, USED_ELEM_ID);
  store<u32>(element, byteLength, USED_ELEM_LEN);
  queue.nextUsed++;
  queue.staged++;
}

export function publishUsed(queue: Virtqueue): void {
  // Release: the elements are seen before the index that counts them (2.7.8.2).
  atomic.store<u16>(queue.device, queue.nextUsed, USED_IDX);
}

/** As the driver has it at this moment; sinceCall counts what it has not heard of. */
export function wantsCall(queue: Virtqueue): bool {
  // Sequentially consistent with the store to used.idx: either the driver sees that, or we see its wish (2.7.7).
  if (!queue.hasEventIdx) {
    return (atomic.load<u16>(queue.driver, AVAIL_FLAGS) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
  }
  const usedEvent = atomic.load<u16>(queue.driver + AVAIL_RING + ((<usize>queue.size) << 1));
  const past = <u16>(queue.nextUsed - usedEvent - 1);
  return <u32>past < queue.sinceCall;
}

export function enableKicks(queue: Virtqueue): void {
  if (!queue.hasEventIdx) {
    if (!queue.kicksEnabled) atomic.store<u16>(queue.device, 0, USED_FLAGS);
    queue.kicksEnabled = 1;
    return;
  }
  if (queue.kickEvent === <u32>queue.nextAvail) return;
  queue.kickEvent = queue.nextAvail;
  atomic.store<u16>(queue.device + USED_RING + <usize>queue.size * USED_ELEM_SIZE, queue.nextAvail);
}

export function disableKicks(queue: Virtqueue): void {
  atomic.store<u16>(queue.device, VIRTQ_USED_F_NO_NOTIFY, USED_FLAGS);
}
