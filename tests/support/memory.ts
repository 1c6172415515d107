// Guest memory as a front-end has it: memfds, mapped here and described to the back-end. An allocator for drivers.

import { close, viewOf } from "../../host/linux/libc.ts";
import { mapShared, unmap } from "../../host/linux/mapping.ts";
import { createMemfd } from "../../host/linux/memfd.ts";
import type { MemoryRegion } from "../../host/protocol/codec.ts";

/** Where a region lies for the guest, for the front-end and in its memfd. Exact below 2^53. */
export interface RegionLayout {
  gpa: number;
  byteLength: number;
  userAddress: number;
  mmapOffset?: number;
}

/** Not at zero, and no two kinds of address alike, so that mixing them up cannot work by chance. */
export const DEFAULT_LAYOUT: readonly RegionLayout[] = [
  { gpa: 0x1_0000_0000, byteLength: 64 << 20, userAddress: 0x7f5a_c000_0000 },
];

const ALLOCATION_MIN = 64;
const ALIGNMENT_MAX = 4096;

export class Region {
  readonly fd: number;
  readonly gpa: number;
  readonly byteLength: number;
  readonly userAddress: number;
  readonly mmapOffset: number;
  private readonly address: number;
  private allocated = 0;
  private readonly freeBySize = new Map<number, number[]>();

  constructor(layout: RegionLayout) {
    this.gpa = layout.gpa;
    this.byteLength = layout.byteLength;
    this.userAddress = layout.userAddress;
    this.mmapOffset = layout.mmapOffset ?? 0;
    this.fd = createMemfd("guest", this.mmapOffset + this.byteLength);
    this.address = mapShared(this.fd, BigInt(this.mmapOffset), this.byteLength);
  }

  /** As SET_MEM_TABLE and ADD_MEM_REG describe it. */
  get description(): MemoryRegion {
    return {
      gpa: BigInt(this.gpa),
      byteLength: BigInt(this.byteLength),
      userAddress: BigInt(this.userAddress),
      mmapOffset: BigInt(this.mmapOffset),
    };
  }

  holds(gpa: number, byteLength: number): boolean {
    return gpa >= this.gpa && gpa + byteLength <= this.gpa + this.byteLength;
  }

  view(gpa: number, byteLength: number): ArrayBuffer {
    return viewOf(this.address + (gpa - this.gpa), byteLength);
  }

  /** Guest memory, aligned to its size up to a page. Returns the guest address. */
  allocate(byteLength: number): number {
    const size = allocationSize(byteLength);
    const free = this.freeBySize.get(size)?.pop();
    if (free !== undefined) return free;
    const alignment = Math.min(size, ALIGNMENT_MAX);
    const offset = Math.ceil(this.allocated / alignment) * alignment;
    if (offset + size > this.byteLength) throw new RangeError(`no ${size} bytes of guest memory left`);
    this.allocated = offset + size;
    return this.gpa + offset;
  }

  free(gpa: number, byteLength: number): void {
    const size = allocationSize(byteLength);
    const free = this.freeBySize.get(size);
    if (free === undefined) this.freeBySize.set(size, [gpa]);
    else free.push(gpa);
  }

  close(): void {
    unmap(this.address, this.byteLength);
    close(this.fd);
  }
}

function allocationSize(byteLength: number): number {
  return Math.max(ALLOCATION_MIN, 2 ** Math.ceil(Math.log2(Math.max(byteLength, 1))));
}

export class Memory {
  readonly regions: Region[];

  constructor(layout: readonly RegionLayout[] = DEFAULT_LAYOUT) {
    this.regions = layout.map((region) => new Region(region));
  }

  allocate(byteLength: number, regionIndex = 0): number {
    return this.regions[regionIndex]!.allocate(byteLength);
  }

  free(gpa: number, byteLength: number): void {
    this.regionAt(gpa, byteLength).free(gpa, byteLength);
  }

  /** The memory itself, not a copy. It must not be touched after close(). */
  view(gpa: number, byteLength: number): ArrayBuffer {
    return this.regionAt(gpa, byteLength).view(gpa, byteLength);
  }

  bytes(gpa: number, byteLength: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.view(gpa, byteLength));
  }

  userAddressOf(gpa: number): number {
    const region = this.regionAt(gpa, 0);
    return region.userAddress + (gpa - region.gpa);
  }

  close(): void {
    for (const region of this.regions.splice(0)) region.close();
  }

  private regionAt(gpa: number, byteLength: number): Region {
    const region = this.regions.find((candidate) => candidate.holds(gpa, byteLength));
    if (region === undefined) throw new RangeError(`${byteLength} bytes at ${gpa} are not guest memory`);
    return region;
  }
}
