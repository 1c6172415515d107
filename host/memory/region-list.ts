// Guest memory as a front-end has described it: its regions and their descriptors, checked. Where they are mapped is another's business.
import { REGIONS_MAX } from "../../assembly/abi/guest-memory.ts";
import { fileSize } from "../linux/file-status.ts";
import { close } from "../linux/libc.ts";
import { mappingGranularity, mapShared, unmap } from "../linux/mapping.ts";

/** "Memory region description" of vhost-user. */
export interface RegionDescription {
  gpa: bigint;
  byteLength: bigint;
  userAddress: bigint;
  mmapOffset: bigint;
}

/** Guest memory that can't be used: the front-end's fault. */
export class GuestMemoryError extends Error {
  override readonly name = "GuestMemoryError";
}

/** The mapping may begin before the region, where mmap() wants an aligned offset. */
export interface Region extends RegionDescription {
  fd: number;
  granularity: number;
  mappedOffset: bigint;
  mappedLength: number;
  /** Where `gpa` is while it is mapped: for the kernel, and for the core if the region is mapped whole. */
  hostAddress: number;
  ptr: number | undefined;
}

const U64_END = 1n << 64n;

export class RegionList {
  private all: Region[] = [];

  get regions(): readonly Region[] {
    return this.all;
  }

  get regionCount(): number {
    return this.all.length;
  }

  /** One past the last guest physical address. */
  get guestEnd(): bigint {
    return this.all.reduce(
      (end, { gpa, byteLength }) => (gpa + byteLength > end ? gpa + byteLength : end),
      0n,
    );
  }

  /** Replaces all regions. Takes the descriptors. Throws, with the regions as they were, if one can't be used. */
  replace(regions: readonly { description: RegionDescription; fd: number }[]): void {
    try {
      const replacements = regions.map(({ description, fd }) => unmapped(description, fd));
      replacements.forEach((region, i) => {
        checkRegion(region, replacements.slice(0, i));
        tryMapping(region);
      });
      this.clear();
      this.all = replacements;
    } catch (error) {
      for (const { fd } of regions) close(fd);
      throw error;
    }
    this.mapOrClear();
  }

  /** Adds a region. Takes the descriptor. Throws, with the other regions as they were, if it can't be used. */
  add(description: RegionDescription, fd: number): void {
    try {
      const region = unmapped(description, fd);
      checkRegion(region, this.all);
      tryMapping(region);
      this.unmapAll();
      this.all = [...this.all, region];
    } catch (error) {
      close(fd);
      throw error;
    }
    this.mapOrClear();
  }

  /** Removes the region with this guest address, user address and size. Throws GuestMemoryError if there is none. */
  remove(description: RegionDescription): void {
    const region = this.all.find(
      (known) =>
        known.gpa === description.gpa &&
        known.userAddress === description.userAddress &&
        known.byteLength === description.byteLength,
    );
    if (!region) throw new GuestMemoryError("no such region");
    this.unmapAll();
    close(region.fd);
    this.all = this.all.filter((known) => known !== region);
    this.mapOrClear();
  }

  clear(): void {
    this.unmapAll();
    for (const region of this.all) close(region.fd);
    this.all = [];
  }

  /** All regions and their descriptors are `other`'s from here on, in place of its own. Throws, with none left, if it can't map them. */
  moveTo(other: RegionList): void {
    this.unmapAll();
    const moved = this.all;
    this.all = [];
    other.clear();
    other.all = moved;
    other.mapOrClear();
  }

  /** Here they are mapped nowhere. */
  protected mapAll(): void {}

  protected unmapAll(): void {}

  /** Throws GuestMemoryError if a region can't be used any more: its file may have become shorter. */
  protected checkAll(): void {
    this.all.forEach((region, i) => {
      checkRegion(region, this.all.slice(0, i));
    });
  }

  private mapOrClear(): void {
    try {
      this.mapAll();
    } catch (error) {
      this.clear();
      throw error;
    }
  }
}

function unmapped(description: RegionDescription, fd: number): Region {
  const granularity = mappingGranularity(fd);
  const { mmapOffset, byteLength } = description;
  const mappedOffset = mmapOffset - (mmapOffset % BigInt(granularity));
  const mappedLength = roundUp(Number(mmapOffset - mappedOffset + byteLength), granularity);
  return { ...description, fd, granularity, mappedOffset, mappedLength, hostAddress: 0, ptr: undefined };
}

/** What the kernel refuses, a file that can't be written or address space that isn't there, shows only when mapping. */
function tryMapping({ fd, mappedOffset, mappedLength }: Region): void {
  unmap(mapShared(fd, mappedOffset, mappedLength), mappedLength);
}

function checkRegion(region: Region, others: readonly Region[]): void {
  const { gpa, byteLength, userAddress, mmapOffset } = region;
  if (byteLength === 0n) throw new GuestMemoryError("a region of length 0");
  if (gpa + byteLength > U64_END || userAddress + byteLength > U64_END || mmapOffset + byteLength > U64_END) {
    throw new GuestMemoryError("a region that wraps around");
  }
  if (others.length >= REGIONS_MAX) throw new GuestMemoryError("too many regions");
  if (others.some((other) => gpa < other.gpa + other.byteLength && other.gpa < gpa + byteLength)) {
    throw new GuestMemoryError("regions that overlap");
  }
  checkFileSize(region);
}

/** A mapping reaches past the end of a shorter file, and touching it there kills the process (SIGBUS). */
export function checkFileSize({ fd, mmapOffset, byteLength }: Region): void {
  if (fileSize(fd) < mmapOffset + byteLength) {
    throw new GuestMemoryError("a file that is smaller than its region");
  }
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
