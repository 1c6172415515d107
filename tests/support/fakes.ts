// Stand-ins for what lies behind a session: they record what they were asked, and do what a test tells them.
import { DEVICE_SIZE, DEVICE_WRITE_THROUGH } from "../../assembly/abi/device-block.ts";
import { DEVICE_PTR } from "../../assembly/abi/memory.ts";
import type { QueueOptions } from "../../host/devices/block/config.ts";
import { BlockDevice } from "../../host/devices/block/device.ts";
import { close } from "../../host/linux/libc.ts";
import type { LogDescription } from "../../host/memory/dirty-log.ts";
import type { InflightDescription, QueueInflight } from "../../host/memory/inflight-region.ts";
import type { LinearMemory } from "../../host/memory/linear-memory.ts";
import { GuestMemoryError, type RegionDescription } from "../../host/memory/region-list.ts";
import type { Occupant, SessionSeat } from "../../host/session/seat.ts";
import {
  RANGE_BYTES_MAX,
  type Storage,
  type StorageEngines,
  type StorageFacts,
} from "../../host/storage/storage.ts";
import type { VringStart } from "../../host/workers/data-plane.ts";

/** A disk of 1 GiB on a file. */
export function fakeDisk(changes: Partial<StorageFacts> = {}): StorageFacts {
  return {
    isPath: false,
    name: "disk.img",
    byteLength: 1n << 30n,
    blockSize: 512,
    readOnly: false,
    discard: "unmap",
    rangeSegments: 1,
    rangeBytesMax: RANGE_BYTES_MAX,
    serial: "",
    direct: false,
    ...changes,
  };
}

/** What no session asks for: nothing is read or written. */
class FakeStorage implements Storage {
  readonly isLocal = true;
  readonly sizing = "is none";
  readonly copying = "is none";
  readonly inheritance = { kind: "none", why: "is none" } as const;

  constructor(readonly facts: StorageFacts) {}

  openEngines(): StorageEngines {
    const open = () => {
      throw new Error("no worker is started here");
    };
    const form = {
      fd: -1,
      unalignedFd: -1,
      directMask: 0,
      marksDiscards: true,
      keepsAccount: true,
      turnRequests: 1,
    };
    return { recipe: { place: "this-thread", open }, form, tellsFailures: true, close() {} };
  }

  async close(): Promise<void> {}
}

export const BLK_OPTIONS: QueueOptions = { queueCount: 4, queueSize: 128 };

/** The device of such a disk. */
export function fakeBlockDevice(changes: Partial<StorageFacts> = {}): BlockDevice {
  return new BlockDevice(new FakeStorage(fakeDisk(changes)), BLK_OPTIONS, {
    threads: 1,
    engine: "auto",
    pollUs: 0,
  });
}

/** As much of linear memory as the device block needs. */
export class FakeLinearMemory {
  private readonly buffer = new SharedArrayBuffer(DEVICE_PTR + DEVICE_SIZE);

  get linear(): LinearMemory {
    const view = new DataView(this.buffer);
    return { wasm: { buffer: this.buffer }, view, hostAddress: 0 } as unknown as LinearMemory;
  }

  /** WRITE_THROUGH_*, as the core would read it. */
  get writeThrough(): number {
    return new DataView(this.buffer).getUint32(DEVICE_PTR + DEVICE_WRITE_THROUGH, true);
  }
}

/** Nobody else wants it. */
export class LoneSeat implements SessionSeat {
  isTaken = false;
  private occupant: Occupant | undefined;

  begin(occupant: Occupant): void {
    this.occupant = occupant;
    this.isTaken = true;
    occupant.seated();
  }

  async take(): Promise<void> {}

  rested(): void {}

  ending(): void {}

  end(): void {
    this.occupant?.unseated();
  }

  interrupt(): void {}
}

/** Maps nothing: the pointer to a user address is its offset in the region. */
export class FakeMemory {
  regions: { description: RegionDescription; fd: number }[] = [];
  /** The next change fails. */
  isBroken = false;

  get regionCount(): number {
    return this.regions.length;
  }

  save(): never[] {
    return [];
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

  get guestEnd(): bigint {
    return this.regions.reduce((end, { description: { gpa, byteLength } }) => {
      return gpa + byteLength > end ? gpa + byteLength : end;
    }, 0n);
  }

  userToGpa(userAddress: bigint): bigint {
    const { gpa, userAddress: start } = this.regions[0]!.description;
    return gpa + userAddress - start;
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

  save(): undefined {}

  clear(): void {}

  forQueue(): QueueInflight | undefined {
    return this.part;
  }
}

/** Maps nothing. */
export class FakeLog {
  events: string[] = [];

  set({ mmapSize }: LogDescription): void {
    this.events.push(`set ${mmapSize}`);
  }

  clear(): void {
    this.events.push("clear");
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

  async setLogging(isOn: boolean): Promise<void> {
    this.events.push(`logging ${isOn ? "on" : "off"}`);
  }

  async setCall(index: number, callFd: number): Promise<void> {
    this.events.push(`call ${index}`);
    this.running.get(index)!.callFd = callFd;
  }
}
