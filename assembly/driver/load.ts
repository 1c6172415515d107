// What is asked of the disk: which block comes next, and what its data must be.
import {
  BLK_HEADER_SECTOR,
  BLK_HEADER_TYPE,
  SECTOR_SIZE,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "../spec/virtio-blk.ts";
import { Queue, Slot, STATUS_OFFSET } from "./queue.ts";

const STATUS_UNWRITTEN: u8 = 0xff;

/** Makes the slot's next request, but for its chain. */
export function prepare(queue: Queue, slot: Slot): void {
  slot.isRead = isNextRead(queue) ? 1 : 0;
  slot.sector = queue.firstSector + nextBlock(queue) * (queue.blockBytes / SECTOR_SIZE);
  if (queue.stamp !== 0) stampData(queue, slot);
  store<u32>(slot.headerPtr, slot.isRead ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, BLK_HEADER_TYPE);
  store<u64>(slot.headerPtr, slot.sector, BLK_HEADER_SECTOR);
  store<u8>(slot.headerPtr + STATUS_OFFSET, STATUS_UNWRITTEN);
}

/** Whether the request that was used did what it should. */
export function succeeded(queue: Queue, slot: Slot): bool {
  if (load<u8>(slot.headerPtr + STATUS_OFFSET) !== 0) return false;
  return queue.stamp === 0 || !slot.isRead || isStamped(queue, slot);
}

function isNextRead(queue: Queue): bool {
  return queue.readPercent === 100 || nextRandom(queue) % 100 < queue.readPercent;
}

function nextBlock(queue: Queue): u64 {
  if (!queue.isSequential) return randomBlock(queue);
  const block = queue.nextBlock;
  queue.nextBlock = block + 1 === queue.blocks ? 0 : block + 1;
  return block;
}

function randomBlock(queue: Queue): u64 {
  const random: u64 = nextRandom(queue);
  if (queue.blocks <= 0x100000000) return random % queue.blocks;
  return ((random << 32) | nextRandom(queue)) % queue.blocks;
}

/** xorshift32: the same blocks for the same seed. */
function nextRandom(queue: Queue): u32 {
  let x = queue.random;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  queue.random = x;
  return x;
}

/** Each sector to be written says where it belongs; what is to be read is blotted out. */
function stampData(queue: Queue, slot: Slot): void {
  const blot = slot.isRead;
  for (let at: u32 = 0; at < queue.blockBytes; at += 8) {
    store<u64>(dataAt(queue, slot, at), blot ? 0 : stampOf(queue, slot, at));
  }
}

function isStamped(queue: Queue, slot: Slot): bool {
  for (let at: u32 = 0; at < queue.blockBytes; at += 8) {
    if (load<u64>(dataAt(queue, slot, at)) !== stampOf(queue, slot, at)) return false;
  }
  return true;
}

function stampOf(queue: Queue, slot: Slot, at: u32): u64 {
  return queue.stamp + slot.sector * SECTOR_SIZE + at;
}

function dataAt(queue: Queue, slot: Slot, at: u32): usize {
  const segmentBytes = queue.blockBytes / queue.segments;
  return slot.dataPtr + <usize>(at / segmentBytes) * queue.segmentStride + (at % segmentBytes);
}
