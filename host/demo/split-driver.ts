// A driver for the split ring (virtio 1.4, 2.7).
import {
  AVAIL_IDX,
  AVAIL_RING,
  DESC_ADDR,
  DESC_FLAGS,
  DESC_LEN,
  DESC_NEXT,
  DESC_SIZE,
  USED_ELEM_LEN,
  USED_ELEM_SIZE,
  USED_FLAGS,
  USED_IDX,
  USED_RING,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../../assembly/spec/virtqueue.ts";
import type { RingConfig } from "./config.ts";
import type { GuestMemory } from "./guest-memory.ts";
import { DESC_GPA, DEVICE_GPA, DRIVER_GPA } from "./memory-map.ts";
import {
  type Mischief,
  NOWHERE_GPA,
  passedEvent,
  type RingDriver,
  type Segment,
  type Used,
} from "./ring-driver.ts";

export class SplitDriver implements RingDriver {
  readonly initialBase = 0;
  private readonly size: number;
  private readonly free: number[];
  private readonly chains = new Map<number, number[]>();
  private readonly owners: (number | undefined)[] = [];
  private readonly availOwners: (number | undefined)[] = [];
  private nextAvail = 0;
  private kickedAvail = 0;
  private nextUsed = 0;

  constructor(
    private readonly memory: GuestMemory,
    private readonly config: RingConfig,
  ) {
    this.size = config.size;
    this.free = Array.from({ length: config.size }, (_, i) => i);
    this.enableCalls();
  }

  get freeCount(): number {
    return this.free.length;
  }

  get owesKick(): boolean {
    return this.kickedAvail !== this.nextAvail;
  }

  get position(): { avail: number; used: number } {
    return { avail: this.nextAvail, used: this.nextUsed };
  }

  /** In the order of 2.7.13: the chain, its place in the avail ring, and last of all the index. */
  add(segments: readonly Segment[], serial: number, tableGpa?: number): number {
    const inRing = tableGpa === undefined ? segments : [tableOf(tableGpa, segments)];
    if (tableGpa !== undefined) this.writeTable(tableGpa, segments);
    const places = this.free.splice(0, inRing.length);
    inRing.forEach((segment, i) => {
      const indirect = tableGpa === undefined ? 0 : VIRTQ_DESC_F_INDIRECT;
      this.writeDescriptor(DESC_GPA + places[i]! * DESC_SIZE, segment, places[i + 1], indirect);
      this.owners[places[i]!] = serial;
    });
    const head = places[0]!;
    this.chains.set(head, places);
    this.availOwners[this.nextAvail % this.size] = serial;
    this.makeAvailable(head);
    return head;
  }

  needsKick(): boolean {
    const before = this.kickedAvail;
    this.kickedAvail = this.nextAvail;
    if (!this.config.hasEventIdx) {
      return (this.memory.u16(DEVICE_GPA + USED_FLAGS) & VIRTQ_USED_F_NO_NOTIFY) === 0;
    }
    const event = this.memory.u16(DEVICE_GPA + USED_RING + this.size * USED_ELEM_SIZE);
    return passedEvent(event, this.nextAvail, before);
  }

  hasUsed(): boolean {
    return this.memory.u16(DEVICE_GPA + USED_IDX) !== this.nextUsed;
  }

  popUsed(): Used {
    const element = DEVICE_GPA + USED_RING + (this.nextUsed % this.size) * USED_ELEM_SIZE;
    const token = this.memory.u32(element);
    const places = this.chains.get(token);
    if (places === undefined) throw new Error(`the device used ${token}, which is not in flight`);
    this.chains.delete(token);
    this.free.push(...places);
    this.nextUsed = (this.nextUsed + 1) & 0xffff;
    return { token, byteLength: this.memory.u32(element + USED_ELEM_LEN) };
  }

  usedTokens(): number[] {
    const count = (this.memory.u16(DEVICE_GPA + USED_IDX) - this.nextUsed) & 0xffff;
    return Array.from({ length: Math.min(count, this.size) }, (_, i) =>
      this.memory.u32(DEVICE_GPA + USED_RING + ((this.nextUsed + i) % this.size) * USED_ELEM_SIZE),
    );
  }

  enableCalls(): void {
    if (!this.config.hasEventIdx) return;
    this.memory.setU16(DRIVER_GPA + AVAIL_RING + this.size * 2, this.nextUsed);
  }

  misbehave(mischief: Mischief): void {
    const place = this.free[0] ?? 0;
    this.owners[place] = undefined;
    const segment = {
      gpa: mischief === "address" ? NOWHERE_GPA : DESC_GPA,
      byteLength: 16,
      isWritable: false,
    };
    const next = mischief === "loop" ? place : undefined;
    if (mischief === "table") segment.byteLength = 10;
    const flags = mischief === "table" ? VIRTQ_DESC_F_INDIRECT : 0;
    if (mischief !== "head") this.writeDescriptor(DESC_GPA + place * DESC_SIZE, segment, next, flags);
    this.availOwners[this.nextAvail % this.size] = undefined;
    this.makeAvailable(mischief === "head" ? this.size + 3 : place);
  }

  ownerOfDescriptor(index: number): number | undefined {
    return this.owners[index];
  }

  ownerOfAvail(slot: number): number | undefined {
    return this.availOwners[slot];
  }

  ownerOfToken(token: number): number | undefined {
    return this.owners[token];
  }

  isFree(index: number): boolean {
    return this.free.includes(index);
  }

  private makeAvailable(head: number): void {
    this.memory.setU16(DRIVER_GPA + AVAIL_RING + (this.nextAvail % this.size) * 2, head);
    this.nextAvail = (this.nextAvail + 1) & 0xffff;
    this.memory.setU16(DRIVER_GPA + AVAIL_IDX, this.nextAvail);
  }

  private writeTable(gpa: number, segments: readonly Segment[]): void {
    segments.forEach((segment, i) => {
      const next = i + 1 < segments.length ? i + 1 : undefined;
      this.writeDescriptor(gpa + i * DESC_SIZE, segment, next, 0);
    });
  }

  private writeDescriptor(at: number, segment: Segment, next: number | undefined, flags: number): void {
    const { gpa, byteLength, isWritable } = segment;
    const link = next === undefined ? 0 : VIRTQ_DESC_F_NEXT;
    this.memory.setU64(at + DESC_ADDR, gpa);
    this.memory.setU32(at + DESC_LEN, byteLength);
    this.memory.setU16(at + DESC_FLAGS, flags | link | (isWritable ? VIRTQ_DESC_F_WRITE : 0));
    this.memory.setU16(at + DESC_NEXT, next ?? 0);
  }
}

function tableOf(gpa: number, segments: readonly Segment[]): Segment {
  return { gpa, byteLength: segments.length * DESC_SIZE, isWritable: false };
}
