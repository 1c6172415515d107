// Guest memory as a front-end has it: memfds, mapped here and described to the back-end. An allocator for drivers.

import type { RingAddresses } from "../driver/ring.ts";
import { checked, close, ftruncate, memfdCreate, viewOf } from "../linux/libc.ts";
import { allocateAt, mapShared } from "../linux/mapping.ts";
import { createMemfd } from "../linux/memfd.ts";
import type { MemoryRegion, VringAddress } from "../protocol/codec.ts";

/** Where a region lies for the guest, for the front-end and in its memfd. Exact below 2^53. */
export interface RegionLayout {
  gpa: number;
  byteLength: number;
  userAddress: number;
  /** Any: the front-end maps the memfd from its start. */
  mmapOffset?: number;
  /** From hugetlbfs. Fails with ENOMEM where the machine has no such pages free. */
  hugePages?: boolean;
}

/** Not at zero, and no two kinds of address alike, so that mixing them up cannot work by chance. */
export const DEFAULT_LAYOUT: readonly RegionLayout[] = [
  { gpa: 0x1_0000_0000, byteLength: 64 << 20, userAddress: 0x7f5a_c000_0000 },
];

const ALLOCATION_MIN = 64;
const ALIGNMENT_MAX = 4096;

const MFD_CLOEXEC = 1;
const MFD_HUGETLB = 4;

export class Region {
  readonly fd: number;
  readonly gpa: number;
  readonly byteLength: number;
  readonly userAddress: number;
  readonly mmapOffset: number;
  private readonly mapping: number;
  private allocated = 0;
  private readonly freeBySize = new Map<number, number[]>();

  constructor(layout: RegionLayout) {
    this.gpa = layout.gpa;
    this.byteLength = layout.byteLength;
    this.userAddress = layout.userAddress;
    this.mmapOffset = layout.mmapOffset ?? 0;
    const create = layout.hugePages ? createHugeMemfd : createMemfd;
    this.fd = create("guest", this.mmapOffset + this.byteLength);
    this.mapping = mapShared(this.fd, 0n, this.mmapOffset + this.byteLength);
  }

  get description(): MemoryRegion {
    return describeRegion(this);
  }

  holds(gpa: number, byteLength: number): boolean {
    return gpa >= this.gpa && gpa + byteLength <= this.gpa + this.byteLength;
  }

  view(gpa: number, byteLength: number): ArrayBuffer {
    return viewOf(this.mapping + this.mmapOffset + (gpa - this.gpa), byteLength);
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
    // Not unmapped: after a failure a driver may still be at work, and should not end the process.
    allocateAt(this.mapping, this.mmapOffset + this.byteLength);
    close(this.fd);
  }
}

/** As SET_MEM_TABLE and ADD_MEM_REG describe it. */
export function describeRegion({ gpa, byteLength, userAddress, mmapOffset = 0 }: RegionLayout): MemoryRegion {
  return {
    gpa: BigInt(gpa),
    byteLength: BigInt(byteLength),
    userAddress: BigInt(userAddress),
    mmapOffset: BigInt(mmapOffset),
  };
}

function createHugeMemfd(name: string, byteLength: number): number {
  const fd = checked("memfd_create", memfdCreate(name, MFD_CLOEXEC | MFD_HUGETLB));
  checked("ftruncate", ftruncate(fd, byteLength));
  return fd;
}

function allocationSize(byteLength: number): number {
  return Math.max(ALLOCATION_MIN, 2 ** Math.ceil(Math.log2(Math.max(byteLength, 1))));
}

export class Memory {
  readonly regions: Region[];

  constructor(layout: readonly RegionLayout[] = DEFAULT_LAYOUT) {
    this.regions = layout.map((region) => new Region(region));
  }

  /** For ADD_MEM_REG: tells nobody. */
  add(layout: RegionLayout): Region {
    const region = new Region(layout);
    this.regions.push(region);
    return region;
  }

  /** After REM_MEM_REG. */
  remove(region: Region): void {
    this.regions.splice(this.regions.indexOf(region), 1);
    region.close();
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

  /** Writes over the borders of regions too. */
  write(gpa: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + this.spanFrom(gpa + at, bytes.length - at));
      this.bytes(gpa + at, part.length).set(part);
      at += part.length;
    }
  }

  /** A copy, also of what lies over the borders of regions. */
  read(gpa: number, byteLength: number): Buffer {
    const copy = Buffer.alloc(byteLength);
    for (let at = 0; at < byteLength; ) {
      const span = this.spanFrom(gpa + at, byteLength - at);
      copy.set(this.bytes(gpa + at, span), at);
      at += span;
    }
    return copy;
  }

  userAddressOf(gpa: number): number {
    const region = this.regionAt(gpa, 0);
    return region.userAddress + (gpa - region.gpa);
  }

  /** A ring's parts by user addresses, which are what the back-end gets ("A vring address description"). */
  vringAddress(index: number, { descriptor, available, used }: RingAddresses): VringAddress {
    const userAddress = (gpa: number) => BigInt(this.userAddressOf(gpa));
    return {
      index,
      flags: 0,
      descriptor: userAddress(descriptor),
      used: userAddress(used),
      available: userAddress(available),
      log: 0n,
    };
  }

  close(): void {
    for (const region of this.regions.splice(0)) region.close();
  }

  private spanFrom(gpa: number, byteLength: number): number {
    const region = this.regionAt(gpa, 1);
    return Math.min(byteLength, region.gpa + region.byteLength - gpa);
  }

  private regionAt(gpa: number, byteLength: number): Region {
    const region = this.regions.find((candidate) => candidate.holds(gpa, byteLength));
    if (region === undefined) throw new RangeError(`${byteLength} bytes at ${gpa} are not guest memory`);
    return region;
  }
}
