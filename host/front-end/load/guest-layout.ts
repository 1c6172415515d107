// Where a guest has its rings, headers and data: in a guest of any size they lie all over its memory.
import type { RegionLayout } from "../memory.ts";

const GIB = 2 ** 30;
const MIB = 2 ** 20;

/** As QEMU's q35 lays memory out: below a hole for devices, and above 4 GiB. */
const LOW_MEMORY = 2 * GIB;
const HIGH_MEMORY_GPA = 4 * GIB;
const USER_ADDRESS = 0x7f00_0000_0000;

export const RINGS_OFFSET = MIB;
/** As many entries as QEMU allows, and room for a ring of them. */
export const RING_ENTRIES_MAX = 1024;
export const RING_SIZE = 0x10000;
const SPREAD_OFFSET = 16 * MIB;

/** Linux keeps a queue's headers and tables in a few blocks of its slab allocator. */
export const SLABS = 8;
export const SLAB_SIZE = 0x10000;
/** Header, status, and an indirect table for so many data buffers. */
export const SEGMENTS_MAX = 32;
export const SLAB_ENTRY_SIZE = 1024;
export const SLOTS_MAX = (SLABS * SLAB_SIZE) / SLAB_ENTRY_SIZE;

export function regionsOf(memoryBytes: number): RegionLayout[] {
  const low = Math.min(memoryBytes, LOW_MEMORY);
  const regions = [{ gpa: 0, byteLength: low, userAddress: USER_ADDRESS }];
  if (memoryBytes > low) {
    const userAddress = USER_ADDRESS + HIGH_MEMORY_GPA;
    regions.push({ gpa: HIGH_MEMORY_GPA, byteLength: memoryBytes - low, userAddress });
  }
  return regions;
}

/** Guest memory counted through, without the hole. */
export function gpaOf(offset: number): number {
  return offset < LOW_MEMORY ? offset : offset - LOW_MEMORY + HIGH_MEMORY_GPA;
}

export class GuestLayout {
  private readonly stretch: number;
  private readonly spacing: number;

  /** Room for `slots` requests, whose data buffers span `dataSpan` bytes each. */
  constructor(memoryBytes: number, slots: number, dataSpan: number) {
    if (slots > SLOTS_MAX)
      throw new RangeError(`at most ${SLOTS_MAX} requests can be in flight, not ${slots}`);
    const alignment = alignmentOf(dataSpan);
    this.stretch = floorTo((memoryBytes - SPREAD_OFFSET) / SLABS, Math.max(MIB, alignment));
    const buffers = Math.ceil(slots / SLABS);
    this.spacing = floorTo((this.stretch - MIB) / buffers, alignment);
    if (this.spacing < dataSpan) throw new RangeError(`${memoryBytes} bytes of guest memory are too few`);
  }

  slabOffset(slab: number): number {
    return SPREAD_OFFSET + slab * this.stretch;
  }

  /** Of the data buffer of a slot, which has its header in slab `slot % SLABS`. */
  dataOffset(slot: number): number {
    return this.slabOffset(slot % SLABS) + MIB + Math.floor(slot / SLABS) * this.spacing;
  }
}

/** Buffers aligned to their size never lie over the border of two regions. */
function alignmentOf(dataSpan: number): number {
  return Math.max(4096, 2 ** Math.ceil(Math.log2(dataSpan)));
}

/** The least memory in bytes that has room for them. */
export function memoryFor(slots: number, dataSpan: number): number {
  const alignment = alignmentOf(dataSpan);
  const unit = Math.max(MIB, alignment);
  const stretch = Math.ceil((MIB + Math.ceil(slots / SLABS) * alignment) / unit) * unit;
  return SPREAD_OFFSET + SLABS * stretch;
}

function floorTo(value: number, unit: number): number {
  return Math.floor(value / unit) * unit;
}
