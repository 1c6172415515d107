// Guest memory: the regions of the front-end that is served, mapped for the kernel (by host address) and for the core (in linear memory).
import {
  COPIES_MAX,
  ENTRY_GPA,
  ENTRY_LENGTH,
  ENTRY_TARGET,
  REGIONS_MAX,
  TABLE_ENTRY_SIZE,
  WINDOWS_MAX,
} from "../../assembly/abi/guest-memory.ts";
import { GUEST_END, GUEST_PTR, REGION_TABLE_PTR } from "../../assembly/abi/memory.ts";
import { WORKER_WINDOW_TABLE } from "../../assembly/abi/worker.ts";
import { SystemError } from "../linux/libc.ts";
import { allocateForGuestAt, mapShared, mapSharedAt, unmap } from "../linux/mapping.ts";
import { LinearMemory } from "./linear-memory.ts";
import { checkFileSize, GuestMemoryError, type Region, RegionList } from "./region-list.ts";
import { RingPins } from "./ring-pins.ts";
import { workerPtrOf } from "./worker-part.ts";

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

/** Windows are large since drivers keep headers close together; see docs/memory.md, "Guests of any size". */
const WINDOW_SIZE = 32 * 1024 * 1024;

/** Linear memory that large guests' rings and copies may take, where there are windows beside. */
const PINNED_SIZE = 256 * 1024 * 1024;

/** The largest copy, and a worker's room for them. */
export const COPY_SIZE = 64 * 1024;
export const COPIES_SIZE = COPIES_MAX * COPY_SIZE;

/** Changes only while no ring runs. */
export class GuestMemory extends RegionList {
  readonly linear: LinearMemory;
  private plan: WindowPlan | undefined;
  private readonly pins: RingPins;
  /** Called whenever regions have gone or come. */
  readonly listeners = new Set<() => void>();

  /** Kept for as long as the device is, across front-ends. */
  constructor(private readonly workerCount: number) {
    super();
    this.linear = new LinearMemory(workerCount);
    this.pins = new RingPins(this.linear.hostAddress);
  }

  /** Set while the guest is larger than linear memory. */
  get windowPlan(): WindowPlan | undefined {
    return this.plan;
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

  /** Where the same address lies for the guest. Only if a region holds it. */
  userToGpa(userAddress: bigint): bigint {
    const region = this.regions.find(
      (known) => userAddress >= known.userAddress && userAddress < known.userAddress + known.byteLength,
    )!;
    return region.gpa + (userAddress - region.userAddress);
  }

  /** What lies at a pointer that userToPtr() gave. */
  u16At(ptr: number): number {
    return this.linear.view.getUint16(ptr, true);
  }

  private tellListeners(): void {
    for (const listener of this.listeners) listener();
  }

  protected override mapAll(): void {
    this.checkAll();
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

  protected override unmapAll(): void {
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
