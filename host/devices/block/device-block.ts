// The device block of linear memory: what the core must know of the disk.
import * as layout from "../../../assembly/abi/layout.ts";
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import { isInMemory } from "../../linux/file-system.ts";
import type { LinearMemory } from "../../memory/linear-memory.ts";
import type { Disk } from "../../storage/disk.ts";

/**
 * Requests submitted at a time. The block layer holds larger submissions back until they are complete (its plug): with
 * 256 a turn, direct reads of 4 KiB from a disk at depth 32 reached 0.87 of qemu-storage-daemon's IOPS, with 4 they reach
 * 1.03. A file in memory has no block layer; for an object a turn of the event loop costs more than all else.
 */
const ON_BLOCK_LAYER = 4;
const IN_MEMORY = 16;
const FOR_OBJECT = 256;

/** Before any ring starts. */
export function writeDeviceBlock({ view, hostAddress }: LinearMemory, disk: Disk): void {
  const u32 = (field: number, value: number) => view.setUint32(layout.DEVICE_PTR + field, value, true);
  const u64 = (field: number, value: bigint) => view.setBigUint64(layout.DEVICE_PTR + field, value, true);
  u64(layout.DEVICE_CAPACITY_SECTORS, disk.capacitySectors);
  u64(layout.DEVICE_MEMORY_HOST_ADDRESS, BigInt(hostAddress));
  u32(layout.DEVICE_FILE_FD, disk.fd);
  u32(layout.DEVICE_UNALIGNED_FD, disk.unalignedFd);
  u32(layout.DEVICE_DIRECT_MASK, disk.directMask);
  u32(layout.DEVICE_BLOCK_SECTORS, disk.blockSize / SECTOR_SIZE);
  u32(layout.DEVICE_READ_ONLY, Number(disk.readOnly));
  const discards = disk.object ? layout.DISCARD_MARKED : layout.DISCARD_UNMAPS;
  u32(layout.DEVICE_DISCARD_UNMAPS, disk.discardUnmaps ? discards : layout.DISCARD_IGNORED);
  u32(layout.DEVICE_MAX_DISCARD_SECTORS, disk.maxDiscardSectors);
  u32(layout.DEVICE_MAX_WRITE_ZEROES_SECTORS, disk.maxWriteZeroesSectors);
  u32(layout.DEVICE_MAX_RANGES, disk.maxRanges);
  // An object keeps account itself, since only it knows what a flush of its own means.
  u32(layout.DEVICE_SYNC_STATE, disk.object ? layout.SYNC_UNKEPT : layout.SYNC_SOUND);
  u32(layout.DEVICE_SYNC_SHARED, Number(disk.object === undefined));
  u32(layout.DEVICE_TURN_REQUESTS, turnRequestsFor(disk));
  Buffer.from(disk.serial, "latin1").forEach((byte, i) => {
    view.setUint8(layout.DEVICE_PTR + layout.DEVICE_ID + i, byte);
  });
}

/** WRITE_THROUGH_*, at any time, also while requests run. */
export function writeWriteThrough(linear: LinearMemory, mode: number): void {
  storeWord(linear, layout.DEVICE_WRITE_THROUGH, mode);
}

/** The next FLUSH is the first. */
export function clearFlushed(linear: LinearMemory): void {
  storeWord(linear, layout.DEVICE_FLUSHED, 0);
}

function storeWord({ wasm }: LinearMemory, field: number, value: number): void {
  const words = new Int32Array(wasm.buffer, layout.DEVICE_PTR, layout.DEVICE_SIZE / 4);
  Atomics.store(words, field / 4, value);
}

function turnRequestsFor(disk: Disk): number {
  if (disk.object !== undefined) return FOR_OBJECT;
  return isInMemory(disk.fd) ? IN_MEMORY : ON_BLOCK_LAYER;
}
