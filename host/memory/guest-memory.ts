// Guest memory: the front-end's regions, mapped for the kernel (by host address) and for the core (in linear memory).
import {
  COPIES_MAX,
  ENTRY_GPA,
  ENTRY_LENGTH,
  ENTRY_TARGET,
  GUEST_END,
  GUEST_PTR,
  REGION_TABLE_PTR,
  REGIONS_MAX,
  TABLE_ENTRY_SIZE,
  WINDOWS_MAX,
  WORKER_WINDOW_TABLE,
} from "../../assembly/abi/layout.ts";
import { fileSize } from "../linux/file-status.ts";
import { close, SystemError } from "../linux/libc.ts";
import { allocateForGuestAt, mappingGranularity, mapShared, mapSharedAt, unmap } from "../linux/mapping.ts";
import { LinearMemory } from "./linear-memory.ts";
import { RingPins } from "./ring-pins.ts";
import { workerPtrOf } from "./worker-part.ts";

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

/** What a worker needs to show guest memory itself, when a guest is larger than linear memory. */
export interface WindowPlan {
  /** Windows of this size, in bytes, one after the other from each worker's part. None where pages are larger. */
  windowSize: number;
  windowsPerWorker: number;
  firstPtr: number;
  /** Room for each worker's copies, COPIES_SIZE apart. */
  copiesPtr: number;
  regions: WindowRegion[];
}

/** Offsets and lengths in bytes; `offset` is where `gpa` lies in the file. */
export interface WindowRegion {
  gpa: bigint;
  byteLength: bigint;
  fd: number;
  offset: bigint;
  /** What offsets in a mapping of the file must be a multiple of. */
  granularity: number;
  /** Where `gpa` is in this process. */
  hostAddress: number;
}

/** A region as mapped. The mapping may begin before it, where mmap() wants an aligned offset. */
interface Region extends RegionDescription {
  fd: number;
  granularity: number;
  mappedOffset: bigint;
  mappedLength: number;
  /** Where `gpa` is: for the kernel, and for the core if the region is mapped whole. */
  hostAddress: number;
  ptr: number | undefined;
}

/** Windows are large since drivers keep headers close together; see docs/memory.md, "Guests of any size". */
const WINDOW_SIZE = 32 * 1024 * 1024;

/** Linear memory that large guests' rings and copies may take, where there are windows beside. */
const PINNED_SIZE = 256 * 1024 * 1024;

/** The largest copy, and a worker's room for them. */
export const COPY_SIZE = 64 * 1024;
export const COPIES_SIZE = COPIES_MAX * COPY_SIZE;

const U64_END = 1n << 64n;

export class GuestMemory {
  readonly linear: LinearMemory;
  private regions: Region[] = [];
  private plan: WindowPlan | undefined;
  private readonly pins: RingPins;
  /** Called whenever regions have gone or come. */
  readonly listeners = new Set<() => void>();

  /** Kept for as long as the device is, across front-ends. */
  constructor(private readonly workerCount: number) {
    this.linear = new LinearMemory(workerCount);
    this.pins = new RingPins(this.linear.hostAddress);
  }

  get regionCount(): number {
    return this.regions.length;
  }

  /** Set while the guest is larger than linear memory. */
  get windowPlan(): WindowPlan | undefined {
    return this.plan;
  }

  /**
   * Replaces all regions. Takes the descriptors. Only while no ring runs. Throws, with the regions as they were, if one
   * can't be used.
   */
  replace(regions: readonly { description: RegionDescription; fd: number }[]): void {
    try {
      const replacements = regions.map(({ description, fd }) => unmapped(description, fd));
      replacements.forEach((region, i) => {
        checkRegion(region, replacements.slice(0, i));
        tryMapping(region);
      });
      this.clear();
      this.regions = replacements;
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
      checkRegion(region, this.regions);
      tryMapping(region);
      this.unmapAll();
      this.regions = [...this.regions, region];
    } catch (error) {
      close(fd);
      throw error;
    }
    this.mapOrClear();
  }

  /** Removes the region with this guest address, user address and size. Throws GuestMemoryError if there is none. */
  remove(description: RegionDescription): void {
    const region = this.regions.find(
      (known) =>
        known.gpa === description.gpa &&
        known.userAddress === description.userAddress &&
        known.byteLength === description.byteLength,
    );
    if (!region) throw new GuestMemoryError("no such region");
    this.unmapAll();
    close(region.fd);
    this.regions = this.regions.filter((known) => known !== region);
    this.mapOrClear();
  }

  clear(): void {
    this.unmapAll();
    for (const region of this.regions) close(region.fd);
    this.regions = [];
  }

  /** A ring starts to run: what userToPtr() has shown of it stays shown until it has stopped. */
  holdRing(index: number, ptrs: readonly number[]): void {
    this.pins.hold(index, ptrs);
  }

  releaseRing(index: number): void {
    this.pins.release(index);
  }

  /**
   * The pointer to `byteLength` bytes at an address of the front-end's, or undefined where no region holds them. Throws
   * GuestMemoryError where they can't be shown.
   */
  userToPtr(userAddress: bigint, byteLength: number): number | undefined {
    const region = this.regions.find(
      (known) =>
        userAddress >= known.userAddress &&
        userAddress + BigInt(byteLength) <= known.userAddress + known.byteLength,
    );
    if (!region) return undefined;
    // Cheap, and the last chance: what is cut off while the ring runs ends the process (SIGBUS).
    checkFileSize(region);
    const offset = userAddress - region.userAddress;
    return region.ptr === undefined ? this.pin(region, offset, byteLength) : region.ptr + Number(offset);
  }

  /** What lies at a pointer that userToPtr() gave. */
  u16At(ptr: number): number {
    return this.linear.view.getUint16(ptr, true);
  }

  private tellListeners(): void {
    for (const listener of this.listeners) listener();
  }

  private mapOrClear(): void {
    try {
      this.regions.forEach((region, i) => {
        checkRegion(region, this.regions.slice(0, i));
      });
      this.mapAll();
    } catch (error) {
      this.clear();
      throw error;
    }
  }

  private mapAll(): void {
    if (!this.mapWhole()) this.mapForWindows();
    this.regions.forEach((region, i) => {
      this.writeEntry(REGION_TABLE_PTR, i, region, region.hostAddress);
    });
    this.tellListeners();
  }

  /** Maps every region into linear memory, if they fit: each is its own window. */
  private mapWhole(): boolean {
    const { hostAddress } = this.linear;
    let end = GUEST_PTR;
    const places = this.regions.map((region) => {
      const start = roundUp(hostAddress + end, region.granularity) - hostAddress;
      end = start + region.mappedLength;
      return start;
    });
    if (end > GUEST_END) return false;
    this.regions.forEach((region, i) => {
      const start = places[i]!;
      mapSharedAt(hostAddress + start, region.fd, region.mappedOffset, region.mappedLength);
      region.ptr = start + leadOf(region);
      region.hostAddress = hostAddress + region.ptr;
      for (let worker = 0; worker < this.workerCount; worker++) {
        this.writeEntry(windowTableOf(worker), i, region, region.ptr);
      }
    });
    return true;
  }

  /** Maps every region outside linear memory, for the kernel alone. Workers map windows of them for the core. */
  private mapForWindows(): void {
    for (const region of this.regions) {
      const start = mapShared(region.fd, region.mappedOffset, region.mappedLength);
      region.hostAddress = start + leadOf(region);
    }
    const { hostAddress } = this.linear;
    const pinsPtr = GUEST_PTR + this.workerCount * COPIES_SIZE;
    allocateForGuestAt(hostAddress + GUEST_PTR, pinsPtr - GUEST_PTR);
    // A page of 1 GiB is mapped whole or not at all: the few that fit are for rings, and copies show all else.
    const hasWindows = this.regions.every(({ granularity }) => granularity <= WINDOW_SIZE);
    const firstPtr = roundUp(hostAddress + GUEST_PTR + PINNED_SIZE, WINDOW_SIZE) - hostAddress;
    this.pins.open(pinsPtr, hasWindows ? firstPtr : GUEST_END);
    const windows = Math.floor((GUEST_END - firstPtr) / WINDOW_SIZE / this.workerCount);
    this.plan = {
      windowSize: WINDOW_SIZE,
      windowsPerWorker: hasWindows ? Math.min(windows, WINDOWS_MAX) : 0,
      firstPtr,
      copiesPtr: GUEST_PTR,
      regions: this.regions.map(({ gpa, byteLength, fd, mmapOffset, granularity, hostAddress }) => ({
        gpa,
        byteLength,
        fd,
        offset: mmapOffset,
        granularity,
        hostAddress,
      })),
    };
  }

  private pin(region: Region, offset: bigint, byteLength: number): number {
    try {
      const ptr = this.pins.pin(region, region.mmapOffset + offset, byteLength);
      if (ptr !== undefined) return ptr;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      throw new GuestMemoryError(`the kernel refuses to map it (${error.message})`);
    }
    throw new GuestMemoryError("the memory pages that hold the rings don't fit into 4 GiB of address space");
  }

  private unmapAll(): void {
    this.linear.clearGuest();
    for (const region of this.regions) {
      if (region.ptr === undefined && region.hostAddress !== 0) {
        unmap(region.hostAddress - leadOf(region), region.mappedLength);
      }
      region.ptr = undefined;
      region.hostAddress = 0;
    }
    this.plan = undefined;
    this.pins.open(GUEST_PTR, GUEST_PTR);
    this.clearTable(REGION_TABLE_PTR, REGIONS_MAX);
    for (let worker = 0; worker < this.workerCount; worker++) {
      this.clearTable(windowTableOf(worker), WINDOWS_MAX);
    }
  }

  private writeEntry(table: number, index: number, region: Region, target: number): void {
    const entry = table + index * TABLE_ENTRY_SIZE;
    this.linear.view.setBigUint64(entry + ENTRY_GPA, region.gpa, true);
    this.linear.view.setBigUint64(entry + ENTRY_LENGTH, region.byteLength, true);
    this.linear.view.setBigUint64(entry + ENTRY_TARGET, BigInt(target), true);
  }

  private clearTable(table: number, entryCount: number): void {
    new Uint8Array(this.linear.wasm.buffer, table, entryCount * TABLE_ENTRY_SIZE).fill(0);
  }
}

function windowTableOf(worker: number): number {
  return workerPtrOf(worker) + WORKER_WINDOW_TABLE;
}

function leadOf(region: Region): number {
  return Number(region.mmapOffset - region.mappedOffset);
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
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
function checkFileSize({ fd, mmapOffset, byteLength }: Region): void {
  if (fileSize(fd) < mmapOffset + byteLength) {
    throw new GuestMemoryError("a file that is smaller than its region");
  }
}
