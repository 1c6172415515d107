// The disk as the host describes it in the device block (abi/device-block.ts).
import {
  DEVICE_BLOCK_SECTORS,
  DEVICE_BOUNCE_FD,
  DEVICE_CAPACITY_SECTORS,
  DEVICE_DIRECT_MASK,
  DEVICE_DISCARD_UNMAPS,
  DEVICE_FILE_FD,
  DEVICE_FLUSHED,
  DEVICE_ID,
  DEVICE_MAX_DISCARD_SECTORS,
  DEVICE_MAX_RANGES,
  DEVICE_MAX_WRITE_ZEROES_SECTORS,
  DEVICE_READ_ONLY,
  DEVICE_SYNC_SHARED,
  DEVICE_SYNC_STATE,
  DEVICE_UNALIGNED_FD,
  DEVICE_WRITE_THROUGH,
  DISCARD_IGNORED,
  DISCARD_MARKED,
  SYNC_FAILED,
  SYNC_SOUND,
  SYNC_UNKEPT,
  WRITE_THROUGH_OFF,
  WRITE_THROUGH_ON,
} from "../abi/device-block.ts";
import { DEVICE_PTR } from "../abi/memory.ts";
import { SECTOR_SHIFT } from "../spec/virtio-blk.ts";

export function imageFd(): i32 {
  return load<i32>(DEVICE_PTR, DEVICE_FILE_FD);
}

export function unalignedFd(): i32 {
  return load<i32>(DEVICE_PTR, DEVICE_UNALIGNED_FD);
}

/** 0: there is none. */
export function bounceFd(): i32 {
  return load<i32>(DEVICE_PTR, DEVICE_BOUNCE_FD);
}

/** Bits that O_DIRECT wants clear. */
export function directMask(): u64 {
  return load<u32>(DEVICE_PTR, DEVICE_DIRECT_MASK);
}

/**
 * With O_DIRECT nothing is served that begins or ends within a block of the guest's: it would have to go through the page
 * cache, beside direct writes of the same block.
 */
export function isPartOfBlock(bytes: u64): bool {
  return directMask() !== 0 && (bytes & (blockBytes() - 1)) !== 0;
}

/** What VIRTIO_BLK_T_GET_ID tells. */
export function idPtr(): usize {
  return DEVICE_PTR + DEVICE_ID;
}

/** Segments in one discard or write zeroes. */
export function maxRanges(): u32 {
  return load<u32>(DEVICE_PTR, DEVICE_MAX_RANGES);
}

/** Sectors in one of them. */
export function maxRangeSectors(isDiscard: bool): u32 {
  return isDiscard
    ? load<u32>(DEVICE_PTR, DEVICE_MAX_DISCARD_SECTORS)
    : load<u32>(DEVICE_PTR, DEVICE_MAX_WRITE_ZEROES_SECTORS);
}

export function isReadOnly(): bool {
  return load<u32>(DEVICE_PTR, DEVICE_READ_ONLY) !== 0;
}

export function isWriteThrough(): bool {
  // The driver may change its mind at any time (5.2.5, writeback).
  const mode = atomic.load<u32>(DEVICE_PTR, DEVICE_WRITE_THROUGH);
  if (mode === WRITE_THROUGH_OFF) return false;
  return mode === WRITE_THROUGH_ON || atomic.load<u32>(DEVICE_PTR, DEVICE_FLUSHED) === 0;
}

/** A driver that flushes counts on no write before it has: it is in writeback mode. */
export function noteFlush(): void {
  // Looked at first: workers share the word.
  if (atomic.load<u32>(DEVICE_PTR, DEVICE_FLUSHED) === 0) atomic.store<u32>(DEVICE_PTR, 1, DEVICE_FLUSHED);
}

export function areSyncsKept(): bool {
  return load<u32>(DEVICE_PTR, DEVICE_SYNC_STATE) !== SYNC_UNKEPT;
}

/** Whether a flush has failed, of any worker's. */
export function hasSyncFailed(): bool {
  return atomic.load<u32>(DEVICE_PTR, DEVICE_SYNC_STATE) === SYNC_FAILED;
}

/**
 * The kernel tells of data that it could not write once and forgets it (fsync(2)): a later flush would succeed without it.
 * So no flush succeeds any more. True for the first of all workers.
 */
export function failSync(): bool {
  const state = atomic.cmpxchg<u32>(DEVICE_PTR + DEVICE_SYNC_STATE, SYNC_SOUND, SYNC_FAILED);
  return state === SYNC_SOUND;
}

/** Whether of several syncs at a time only one may be told what another has lost, as it is with files of Linux. */
export function areSyncsShared(): bool {
  return load<u32>(DEVICE_PTR, DEVICE_SYNC_SHARED) !== 0;
}

export function isInDisk(sector: u64, sectorCount: u64): bool {
  if (sector % load<u32>(DEVICE_PTR, DEVICE_BLOCK_SECTORS) !== 0) return false;
  // It may change at any time, and is looked at once.
  const capacity = atomic.load<u64>(DEVICE_PTR, DEVICE_CAPACITY_SECTORS);
  return sector <= capacity && sectorCount <= capacity - sector;
}

export function blockBytes(): u64 {
  return (<u64>load<u32>(DEVICE_PTR, DEVICE_BLOCK_SECTORS)) << SECTOR_SHIFT;
}

export function mayUnmap(): bool {
  return load<u32>(DEVICE_PTR, DEVICE_DISCARD_UNMAPS) !== DISCARD_IGNORED;
}

export function areDiscardsMarked(): bool {
  return load<u32>(DEVICE_PTR, DEVICE_DISCARD_UNMAPS) === DISCARD_MARKED;
}
