// The packed ring (virtio 1.4, 2.8): one ring of descriptors, read and written in place.
import { FAULT_TOO_MANY_IN_FLIGHT } from "../abi/faults.ts";
import {
  EVENT_FLAGS,
  PACKED_DESC_FLAGS,
  PACKED_DESC_ID,
  PACKED_DESC_LEN,
  PACKED_DESC_SIZE,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
} from "../spec/virtqueue.ts";
import { AVAILABLE, EMPTY } from "./results.ts";
import { Virtqueue } from "./state.ts";

/** What tells the laps of the ring apart (2.8.1). */
const LAP_BITS: u32 = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

const SLOT_MASK: u32 = 0x7fff;
const WRAP_SHIFT: u32 = 15;
const EVENT_FLAGS_SHIFT: u32 = 16;

/** Base: bits 0-14 and 15 the next available slot and wrap counter, 16-30 and 31 the next used ones. */
export function start(queue: Virtqueue, base: u32): void {
  queue.nextAvail = <u16>(base & SLOT_MASK);
  queue.availWrap = (base >> WRAP_SHIFT) & 1;
  queue.nextUsed = <u16>((base >> 16) & SLOT_MASK);
  queue.usedWrap = base >> 31;
}

export function base(queue: Virtqueue): u32 {
  const avail = <u32>queue.nextAvail | (queue.availWrap << WRAP_SHIFT);
  const used = <u32>queue.nextUsed | (queue.usedWrap << WRAP_SHIFT);
  return avail | (used << 16);
}

export function slotPtr(queue: Virtqueue, slot: u32): usize {
  return queue.desc + <usize>slot * PACKED_DESC_SIZE;
}

/** AVAILABLE, EMPTY or a FAULT. */
export function lookForChain(queue: Virtqueue): i32 {
  // Acquire: the rest of the descriptor, and of its chain, was written before its flags (2.8.6).
  const flags = <u32>atomic.load<u16>(slotPtr(queue, queue.nextAvail), PACKED_DESC_FLAGS);
  const avail: u32 = (flags & VIRTQ_DESC_F_AVAIL) !== 0 ? 1 : 0;
  const used: u32 = (flags & VIRTQ_DESC_F_USED) !== 0 ? 1 : 0;
  if (avail !== queue.availWrap || used === queue.availWrap) return EMPTY;
  return queue.descriptorsInFlight < queue.size ? AVAILABLE : FAULT_TOO_MANY_IN_FLIGHT;
}

/** The position `count` slots on: bits 0-14 the slot, bit 15 the wrap counter. */
export function advance(queue: Virtqueue, slot: u32, wrap: u32, count: u32): u32 {
  const next = slot + count;
  if (next < queue.size) return next | (wrap << WRAP_SHIFT);
  return (next - queue.size) | ((wrap ^ 1) << WRAP_SHIFT);
}

export function slotOf(position: u32): u32 {
  return position & SLOT_MASK;
}

export function wrapOf(position: u32): u32 {
  return position >> WRAP_SHIFT;
}

export function skipAvailable(queue: Virtqueue, count: u32): void {
  const next = advance(queue, queue.nextAvail, queue.availWrap, count);
  queue.nextAvail = <u16>slotOf(next);
  queue.availWrap = wrapOf(next);
}

export function pushUsed(queue: Virtqueue, id: u16, count: u32, byteLength: u32): void {
  const desc = slotPtr(queue, queue.nextUsed);
  // VIRTQ_DESC_F_WRITE says that byteLength means something (2.8.4).
  let flags: u32 = byteLength > 0 ? VIRTQ_DESC_F_WRITE : 0;
  if (queue.usedWrap !== 0) flags |= LAP_BITS;
  store<u32>(desc, byteLength, PACKED_DESC_LEN);
  store<u16>(desc, id, PACKED_DESC_ID);
  if (queue.staged === 0) {
    queue.stagedFirst = desc;
    queue.stagedFirstFlags = flags;
  } else {
    // The driver takes used descriptors in ring order: it doesn't look here before the first of the batch is used.
    store<u16>(desc, <u16>flags, PACKED_DESC_FLAGS);
  }
  queue.staged += count;
  const next = advance(queue, queue.nextUsed, queue.usedWrap, count);
  queue.nextUsed = <u16>slotOf(next);
  queue.usedWrap = wrapOf(next);
}

/** What marks a descriptor available in a lap. */
function availableBits(wrap: u32): u32 {
  return wrap !== 0 ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
}

/** Whether the descriptor in `slot` is available in the lap that `wrap` names. */
export function isAvailableAt(queue: Virtqueue, slot: u32, wrap: u32): bool {
  const flags = <u32>atomic.load<u16>(slotPtr(queue, slot), PACKED_DESC_FLAGS);
  return (flags & LAP_BITS) === availableBits(wrap);
}

/**
 * Makes descriptors available again that a batch was to use: those behind its first are written before that one is, which
 * is what publishes them. Left behind by a crash, they would pass for published as soon as another first one is.
 */
export function undoUsed(queue: Virtqueue, from: u32, wrap: u32, to: u32): void {
  let slot = from;
  do {
    const desc = slotPtr(queue, slot);
    const flags = <u32>load<u16>(desc, PACKED_DESC_FLAGS);
    store<u16>(desc, <u16>((flags & ~LAP_BITS) | availableBits(wrap)), PACKED_DESC_FLAGS);
    if (++slot === queue.size) {
      slot = 0;
      wrap ^= 1;
    }
  } while (slot !== to);
}

export function publishUsed(queue: Virtqueue): void {
  // Release: id and length, and the rest of the batch, are seen before these flags (2.8.7).
  atomic.store<u16>(queue.stagedFirst, <u16>queue.stagedFirstFlags, PACKED_DESC_FLAGS);
}

/** As the driver has it at this moment; sinceCall counts what it has not heard of. */
export function wantsCall(queue: Virtqueue): bool {
  // One load: offset and flags belong together. Sequentially consistent with the flags just published (2.8.10).
  const wish = atomic.load<u32>(queue.driver);
  const flags = (wish >> EVENT_FLAGS_SHIFT) & 3;
  if (flags === RING_EVENT_FLAGS_DISABLE) return false;
  if (flags !== RING_EVENT_FLAGS_DESC || !queue.hasEventIdx) return true;
  // Slots of the lap before this one count down from 0.
  let event = wish & SLOT_MASK;
  if (((wish >> WRAP_SHIFT) & 1) !== queue.usedWrap) event -= queue.size;
  const past = <u16>(<u32>queue.nextUsed - event - 1);
  return <u32>past < queue.sinceCall;
}

export function enableKicks(queue: Virtqueue): void {
  if (!queue.hasEventIdx) {
    if (!queue.kicksEnabled) setKickFlags(queue, RING_EVENT_FLAGS_ENABLE);
    queue.kicksEnabled = 1;
    return;
  }
  const event = <u32>queue.nextAvail | (queue.availWrap << WRAP_SHIFT);
  if (queue.kickEvent === event) return;
  queue.kickEvent = event;
  atomic.store<u32>(queue.device, event | (RING_EVENT_FLAGS_DESC << EVENT_FLAGS_SHIFT));
}

export function disableKicks(queue: Virtqueue): void {
  setKickFlags(queue, RING_EVENT_FLAGS_DISABLE);
}

function setKickFlags(queue: Virtqueue, flags: u32): void {
  atomic.store<u16>(queue.device, <u16>flags, EVENT_FLAGS);
}
