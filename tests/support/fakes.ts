// Stand-ins for what lies behind a session: they record what they were asked, and do what a test tells them.
import type { VringStart } from "../../host/dataplane/data-plane.ts";
import type { BlkOptions } from "../../host/device/blk-config.ts";
import type { Disk } from "../../host/device/disk.ts";
import { close } from "../../host/linux/libc.ts";
import { GuestMemoryError, type RegionDescription } from "../../host/memory/guest-memory.ts";
import type { InflightDescription } from "../../host/memory/inflight-region.ts";

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

export const BLK_OPTIONS: BlkOptions = { queueCount: 4, queueSize: 128, packed: true };

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

/** No region is ever set. */
export class FakeInflight {
  readonly isSet = false;

  set(_description: InflightDescription, fd: number): void {
    close(fd);
  }

  clear(): void {}

  forQueue(): undefined {}
}

export class FakeDataPlane {
  onBroken: ((index: number, reason: string) => void) | undefined;
  /** What happened, in order: "start 0", "stop 0", "call 0". */
  readonly events: string[] = [];
  readonly running = new Map<number, VringStart>();
  isWriteThrough = false;
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

  setWriteThrough(on: boolean): void {
    this.isWriteThrough = on;
  }
}
