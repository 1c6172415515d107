// What a front-end has given of memory: mapped while it has the seat, and kept as descriptors while another has it.
import { Descriptor } from "../linux/descriptor.ts";
import { close } from "../linux/libc.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import {
  checkInflight,
  type InflightDescription,
  type InflightRegion,
  type QueueInflight,
  type SentInflight,
} from "../memory/inflight-region.ts";
import { type RegionDescription, RegionList } from "../memory/region-list.ts";
import type { SessionInflight, SessionMemory } from "../session/memory-requests.ts";
import type { InflightState, RegionState } from "../session/session-state.ts";

export class SeatMemory implements SessionMemory {
  private readonly aside = new RegionList();
  private isShown = false;

  constructor(private readonly shared: GuestMemory) {}

  get regionCount(): number {
    return this.list.regionCount;
  }

  get guestEnd(): bigint {
    return this.list.guestEnd;
  }

  replace(regions: readonly { description: RegionDescription; fd: number }[]): void {
    this.list.replace(regions);
  }

  add(description: RegionDescription, fd: number): void {
    this.list.add(description, fd);
  }

  remove(description: RegionDescription): void {
    this.list.remove(description);
  }

  clear(): void {
    this.list.clear();
  }

  /** Only while it is shown. */
  userToPtr(userAddress: bigint, byteLength: number): number | undefined {
    return this.shared.userToPtr(userAddress, byteLength);
  }

  /** The same. */
  userToGpa(userAddress: bigint): bigint {
    return this.shared.userToGpa(userAddress);
  }

  /** The same. */
  u16At(ptr: number): number {
    return this.shared.u16At(ptr);
  }

  save(): RegionState[] {
    return this.list.regions.map(({ gpa, byteLength, userAddress, mmapOffset, fd }) => ({
      description: { gpa, byteLength, userAddress, mmapOffset },
      file: new Descriptor(fd),
    }));
  }

  /** Throws, with no region left, if they can't be mapped. */
  show(): void {
    this.isShown = true;
    this.aside.moveTo(this.shared);
  }

  putAside(): void {
    this.isShown = false;
    this.shared.moveTo(this.aside);
  }

  private get list(): RegionList {
    return this.isShown ? this.shared : this.aside;
  }
}

export class SeatInflight implements SessionInflight {
  private aside: SentInflight | undefined;
  private isShown = false;

  constructor(private readonly shared: InflightRegion) {}

  get isSet(): boolean {
    return this.isShown ? this.shared.isSet : this.aside !== undefined;
  }

  set(description: InflightDescription, fd: number): void {
    if (this.isShown) this.shared.set(description, fd);
    else this.keep(description, fd);
  }

  clear(): void {
    if (this.isShown) this.shared.clear();
    else this.replaceAside(undefined);
  }

  /** Only while it is shown. */
  forQueue(index: number, ringSize: number, isPacked: boolean): QueueInflight | undefined {
    return this.shared.forQueue(index, ringSize, isPacked);
  }

  save(): InflightState | undefined {
    const sent = this.isShown ? this.shared.sent : this.aside;
    return sent && { description: sent.description, file: new Descriptor(sent.fd) };
  }

  /** Throws, with none set, if it can't be mapped. */
  show(): void {
    this.isShown = true;
    const sent = this.aside;
    this.aside = undefined;
    if (sent !== undefined) this.shared.set(sent.description, sent.fd);
  }

  putAside(): void {
    this.isShown = false;
    this.aside = this.shared.takeOut();
  }

  private keep(description: InflightDescription, fd: number): void {
    try {
      checkInflight(description, fd);
    } catch (error) {
      close(fd);
      throw error;
    }
    this.replaceAside({ description, fd });
  }

  private replaceAside(sent: SentInflight | undefined): void {
    if (this.aside !== undefined) close(this.aside.fd);
    this.aside = sent;
  }
}
