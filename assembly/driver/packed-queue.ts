// The driver's side of the packed ring (virtio 1.4, 2.8). Buffer ids are slot indices.
import {
  EVENT_FLAGS,
  EVENT_OFF_WRAP,
  PACKED_DESC_FLAGS,
  PACKED_DESC_ID,
  PACKED_DESC_SIZE,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
} from "../spec/virtqueue.ts";
import { writeAddrLen, writeBuffer } from "./buffers.ts";
import { Queue, Slot } from "./queue.ts";

const WRAP_SHIFT: u32 = 15;

/** Adds a chain, which the device sees after publish(). */
export function add(queue: Queue, slot: Slot): void {
  const count = queue.chainLength;
  if (queue.isIndirect) {
    writeTable(queue, slot);
    const at = nextDescriptor(queue);
    writeAddrLen(at, slot.tableGpa, count * PACKED_DESC_SIZE);
    makeAvailable(queue, slot, at, VIRTQ_DESC_F_INDIRECT);
    return;
  }
  for (let k: u32 = 0; k < count; k++) {
    const at = nextDescriptor(queue);
    const flags = writeBuffer(at, queue, slot, k);
    makeAvailable(queue, slot, at, k + 1 < count ? flags | VIRTQ_DESC_F_NEXT : flags);
  }
}

/** A table has no links and no identifiers: its descriptors follow one another (2.8.7). */
function writeTable(queue: Queue, slot: Slot): void {
  let at = slot.tablePtr;
  for (let k: u32 = 0; k < queue.chainLength; k++, at += PACKED_DESC_SIZE) {
    store<u16>(at, <u16>writeBuffer(at, queue, slot, k), PACKED_DESC_FLAGS);
  }
}

function nextDescriptor(queue: Queue): usize {
  return queue.desc + <usize>queue.nextAvail * PACKED_DESC_SIZE;
}

function makeAvailable(queue: Queue, slot: Slot, at: usize, ownFlags: u32): void {
  store<u16>(at, <u16>slot.index, PACKED_DESC_ID);
  const flags = ownFlags | (queue.availWrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED);
  if (queue.batchFirst === 0) {
    queue.batchFirst = at;
    queue.batchFirstFlags = flags;
  } else {
    store<u16>(at, <u16>flags, PACKED_DESC_FLAGS);
  }
  queue.sinceKick++;
  queue.nextAvail++;
  if (queue.nextAvail === queue.size) {
    queue.nextAvail = 0;
    queue.availWrap ^= 1;
  }
}

export function publish(queue: Queue): void {
  // Release: the device sees the batch by its first descriptor, and then all of it (2.8.21.1).
  atomic.store<u16>(queue.batchFirst, <u16>queue.batchFirstFlags, PACKED_DESC_FLAGS);
  queue.batchFirst = 0;
}

/** Takes note of what was published since the last time, and says whether the device wants a kick for it. */
export function takeKickWish(queue: Queue): bool {
  const added = queue.sinceKick;
  queue.sinceKick = 0;
  // Both fields in one load: they belong together.
  const event = atomic.load<u32>(queue.device);
  const flags = event >> 16;
  if (flags !== RING_EVENT_FLAGS_DESC) return flags !== RING_EVENT_FLAGS_DISABLE;
  let at = event & ((1 << WRAP_SHIFT) - 1);
  if (((event >> WRAP_SHIFT) & 1) !== queue.availWrap) at -= queue.size;
  return <u32>(<u16>(queue.nextAvail - at - 1)) < added;
}

/** Both bits equal the wrap counter (2.8.1). */
export function hasUsed(queue: Queue): bool {
  const at = queue.desc + <usize>queue.nextUsed * PACKED_DESC_SIZE;
  // Acquire: id and length were written before the flags.
  const flags = <u32>atomic.load<u16>(at, PACKED_DESC_FLAGS);
  const both: u32 = VIRTQ_DESC_F_USED | VIRTQ_DESC_F_AVAIL;
  return (flags & both) === (queue.usedWrap ? both : 0);
}

/** The slot index in the next used descriptor. Only after hasUsed(). */
export function popUsed(queue: Queue): u32 {
  const id = load<u16>(queue.desc + <usize>queue.nextUsed * PACKED_DESC_SIZE, PACKED_DESC_ID);
  queue.nextUsed += queue.isIndirect ? 1 : queue.chainLength;
  if (queue.nextUsed >= queue.size) {
    queue.nextUsed -= queue.size;
    queue.usedWrap ^= 1;
  }
  return id;
}

export function enableCalls(queue: Queue): void {
  atomic.store<u16>(queue.driver, <u16>(queue.nextUsed | (queue.usedWrap << WRAP_SHIFT)), EVENT_OFF_WRAP);
  const flags = queue.hasEventIdx ? RING_EVENT_FLAGS_DESC : RING_EVENT_FLAGS_ENABLE;
  atomic.store<u16>(queue.driver, <u16>flags, EVENT_FLAGS);
}

export function disableCalls(queue: Queue): void {
  atomic.store<u16>(queue.driver, RING_EVENT_FLAGS_DISABLE, EVENT_FLAGS);
}
