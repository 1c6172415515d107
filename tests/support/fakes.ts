// Stand-ins for what lies behind a session: they record what they were asked, and do what a test tells them.
import { DEVICE_PTR, DEVICE_SIZE, DEVICE_WRITE_THROUGH } from "../../assembly/abi/layout.ts";
import type { QueueOptions } from "../../host/devices/block/config.ts";
import { BlockDevice } from "../../host/devices/block/device.ts";
import { close } from "../../host/linux/libc.ts";
import { GuestMemoryError, type RegionDescription } from "../../host/memory/guest-memory.ts";
import type { InflightDescription, QueueInflight } from "../../host/memory/inflight-region.ts";
import type { LinearMemory } from "../../host/memory/linear-memory.ts";
import type { Disk } from "../../host/storage/disk.ts";
import type { VringStart } from "../../host/workers/data-plane.ts";

/** A disk of 1 GiB on a file. */
export function fakeDisk(changes: Partial<Disk> = {}): Disk {
  return {
    capacitySectors: 2097152n,
    blockSize: 512,
    physicalBlockSize: 4096,
    minimumIoSize: 4096,
    optimalIoSize: 0,
    readOnly: false,
    discardUnmaps: true,
    maxDiscardSectors: 0x3ffff8,
    maxWriteZeroesSectors: 0x3ffff8,
    maxRanges: 1,
    ...changes,
  } as Disk;
}

export const BLK_OPTIONS: QueueOptions = { queueCount: 4, queueSize: 128 };

/** The device of such a disk. */
export function fakeBlockDevice(changes: Partial<Disk> = {}): BlockDevice {
  return new BlockDevice(fakeDisk(changes), BLK_OPTIONS, { threads: 1, engine: "auto", pollUs: 0 });
}

/** As much of linear memory as the device block needs. */
export class FakeLinearMemory {
  private readonly buffer = new SharedArrayBuffer(DEVICE_PTR + DEVICE_SIZE);

  get linear(): LinearMemory {
    return { wasm: { buffer: this.buffer } } as unknown as LinearMemory;
  }

  /** WRITE_THROUGH_*, as the core would read it. */
  get writeThrough(): number {
    return new DataView(this.buffer).getUint32(DEVICE_PTR + DEVICE_WRITE_THROUGH, true);
  }
}

/** Maps nothing: the pointer to a user address is its offset in the region. */
export class FakeMemory {
  regions: { description: RegionDescription; fd: number }[] = [];
  /** The next change fails. */
  isBroken = false;

  get regionCount(): number {
    return this.regions.length;
  }

  replace(regions: { description: RegionDescription; fd: number }[]): void {
    this.clear();
    this.regions = regions;
    this.failIfBroken();
  }

  add(description: RegionDescription, fd: number): void {
    this.regions.push({ description, fd });
    this.failIfBroken();
  }

  remove(description: RegionDescription): void {
    const at = this.regions.findIndex((region) => region.description.gpa === description.gpa);
    if (at < 0) throw new GuestMemoryError("no such region");
    for (const { fd } of this.regions.splice(at, 1)) close(fd);
  }

  clear(): void {
    for (const { fd } of this.regions.splice(0)) close(fd);
  }

  /** What a ring begins with: 0, unless a test says that it has run. */
  ringWord = 0;

  u16At(): number {
    return this.ringWord;
  }

  userToPtr(userAddress: bigint, byteLength: number): number | undefined {
    const region = this.regions.find(
      ({ description }) =>
        userAddress >= description.userAddress &&
        userAddress + BigInt(byteLength) <= description.userAddress + description.byteLength,
    );
    return region && Number(userAddress - region.description.userAddress);
  }

  private failIfBroken(): void {
    if (!this.isBroken) return;
    this.isBroken = false;
    this.clear();
    throw new GuestMemoryError("told to fail");
  }
}

/** No region is ever set, unless a test says what rings get. */
export class FakeInflight {
  part: QueueInflight | undefined;

  get isSet(): boolean {
    return this.part !== undefined;
  }

  set(_description: InflightDescription, fd: number): void {
    close(fd);
  }

  clear(): void {}

  forQueue(): QueueInflight | undefined {
    return this.part;
  }
}

export class FakeDataPlane {
  /** What happened, in order: "start 0", "stop 0", "call 0". */
  readonly events: string[] = [];
  readonly running = new Map<number, VringStart>();
  /** Where a ring has got to when it is stopped, if further than it started. */
  readonly bases = new Map<number, number>();
  /** What stop() waits for, as if requests were in flight. */
  drained: Promise<void> = Promise.resolve();

  async start(vring: VringStart): Promise<void> {
    this.events.push(`start ${vring.index}`);
    this.running.set(vring.index, vring);
  }

  async stop(index: number): Promise<number> {
    this.events.push(`stop ${index}`);
    await this.drained;
    const { base } = this.running.get(index)!;
    this.running.delete(index);
    return this.bases.get(index) ?? base;
  }

  /** As if all completed before it could be cancelled. */
  suspend(index: number): Promise<number> {
    return this.stop(index);
  }

  async setCall(index: number, callFd: number): Promise<void> {
    this.events.push(`call ${index}`);
    this.running.get(index)!.callFd = callFd;
  }
}
