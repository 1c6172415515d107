// A driver for the packed ring (virtio 1.4, 2.8).
import {
  EVENT_FLAGS,
  EVENT_OFF_WRAP,
  PACKED_DESC_ADDR,
  PACKED_DESC_FLAGS,
  PACKED_DESC_ID,
  PACKED_DESC_LEN,
  PACKED_DESC_SIZE,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
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

const WRAP_BIT = 0x8000;

export class PackedDriver implements RingDriver {
  /** Both positions 0, both wrap counters 1 (vhost-user, SET_VRING_BASE). */
  readonly initialBase = 0x80008000;
  private readonly size: number;
  private readonly freeIds: number[];
  private readonly chains = new Map<number, number>();
  private readonly idOwners: (number | undefined)[] = [];
  private readonly owners: (number | undefined)[] = [];
  private nextAvail = 0;
  private availWrap = 1;
  private nextUsed = 0;
  private usedWrap = 1;
  private sinceKick = 0;
  private room: number;

  constructor(
    private readonly memory: GuestMemory,
    private readonly config: RingConfig,
  ) {
    this.size = config.size;
    this.room = config.size;
    this.freeIds = Array.from({ length: config.size }, (_, i) => i);
    this.enableCalls();
  }

  get freeCount(): number {
    return this.room;
  }

  get owesKick(): boolean {
    return this.sinceKick > 0;
  }

  get position(): { avail: number; used: number; availWrap: number; usedWrap: number } {
    const { nextAvail, nextUsed, availWrap, usedWrap } = this;
    return { avail: nextAvail, used: nextUsed, availWrap, usedWrap };
  }

  /** The flags of the first descriptor are written last: they make the whole chain available (2.8.21.1). */
  add(segments: readonly Segment[], serial: number, tableGpa?: number): number {
    const id = this.freeIds.shift()!;
    this.idOwners[id] = serial;
    if (tableGpa !== undefined) this.writeTable(tableGpa, segments);
    const table = { gpa: tableGpa ?? 0, byteLength: segments.length * PACKED_DESC_SIZE, isWritable: false };
    const inRing = tableGpa === undefined ? segments : [table];
    const pending = inRing.map((segment, i) => {
      const hasNext = i + 1 < inRing.length;
      const kind = tableGpa === undefined ? 0 : VIRTQ_DESC_F_INDIRECT;
      this.owners[this.nextAvail] = serial;
      return this.writeNext(segment, id, kind | (hasNext ? VIRTQ_DESC_F_NEXT : 0));
    });
    for (const write of pending.reverse()) write();
    this.chains.set(id, inRing.length);
    this.room -= inRing.length;
    return id;
  }

  needsKick(): boolean {
    const before = this.nextAvail - this.sinceKick;
    this.sinceKick = 0;
    const offWrap = this.memory.u16(DEVICE_GPA + EVENT_OFF_WRAP);
    const flags = this.memory.u16(DEVICE_GPA + EVENT_FLAGS);
    if (flags !== RING_EVENT_FLAGS_DESC) return flags !== RING_EVENT_FLAGS_DISABLE;
    const isThisLap = offWrap >> 15 === this.availWrap;
    return passedEvent((offWrap & ~WRAP_BIT) - (isThisLap ? 0 : this.size), this.nextAvail, before);
  }

  /** Both bits equal the wrap counter (2.8.1). */
  hasUsed(): boolean {
    return this.isUsed(this.nextUsed, this.usedWrap);
  }

  usedTokens(): number[] {
    const tokens: number[] = [];
    for (let at = this.nextUsed, left = this.size; left > 0; ) {
      const wrap = at < this.size ? this.usedWrap : this.usedWrap ^ 1;
      if (!this.isUsed(at % this.size, wrap)) break;
      const token = this.memory.u16(this.place(at % this.size) + PACKED_DESC_ID);
      const count = this.chains.get(token);
      if (count === undefined) break;
      tokens.push(token);
      at += count;
      left -= count;
    }
    return tokens;
  }

  popUsed(): Used {
    const token = this.memory.u16(this.place(this.nextUsed) + PACKED_DESC_ID);
    const byteLength = this.memory.u32(this.place(this.nextUsed) + PACKED_DESC_LEN);
    const count = this.chains.get(token);
    if (count === undefined) throw new Error(`the device used ${token}, which is not in flight`);
    this.chains.delete(token);
    this.freeIds.push(token);
    for (let i = 0; i < count; i++) this.owners[(this.nextUsed + i) % this.size] = undefined;
    this.owners[this.nextUsed] = this.idOwners[token];
    this.room += count;
    this.nextUsed += count;
    if (this.nextUsed >= this.size) {
      this.nextUsed -= this.size;
      this.usedWrap ^= 1;
    }
    return { token, byteLength };
  }

  enableCalls(): void {
    if (!this.config.hasEventIdx) return;
    this.memory.setU16(DRIVER_GPA + EVENT_OFF_WRAP, this.nextUsed | (this.usedWrap << 15));
    this.memory.setU16(DRIVER_GPA + EVENT_FLAGS, RING_EVENT_FLAGS_DESC);
  }

  misbehave(mischief: Mischief): void {
    const gpa = mischief === "address" ? NOWHERE_GPA : DESC_GPA;
    const segment = { gpa, byteLength: mischief === "table" ? 10 : 16, isWritable: false };
    const flags = { head: 0, address: 0, table: VIRTQ_DESC_F_INDIRECT, loop: VIRTQ_DESC_F_NEXT }[mischief];
    const count = mischief === "loop" ? this.size : 1;
    for (let i = 0; i < count; i++) {
      this.owners[this.nextAvail] = undefined;
      this.writeNext(segment, 0, flags)();
    }
  }

  /** Whoever was given back there, if that is not taken yet: it need not be the one that was added there. */
  ownerOfDescriptor(index: number): number | undefined {
    const wrap = index < this.nextUsed ? this.usedWrap ^ 1 : this.usedWrap;
    const isGivenBack = !this.isFree(index) && this.isUsed(index, wrap);
    return isGivenBack
      ? this.idOwners[this.memory.u16(this.place(index) + PACKED_DESC_ID)]
      : this.owners[index];
  }

  ownerOfAvail(): undefined {
    return undefined;
  }

  ownerOfToken(token: number): number | undefined {
    return this.idOwners[token];
  }

  isFree(index: number): boolean {
    return (index - this.nextAvail + this.size) % this.size < this.room;
  }

  private isUsed(slot: number, wrap: number): boolean {
    const flags = this.memory.u16(this.place(slot) + PACKED_DESC_FLAGS);
    const avail = (flags & VIRTQ_DESC_F_AVAIL) !== 0 ? 1 : 0;
    const used = (flags & VIRTQ_DESC_F_USED) !== 0 ? 1 : 0;
    return avail === used && used === wrap;
  }

  private place(slot: number): number {
    return DESC_GPA + slot * PACKED_DESC_SIZE;
  }

  /** A table has no links and no identifiers: its descriptors follow one another (2.8.7). */
  private writeTable(gpa: number, segments: readonly Segment[]): void {
    segments.forEach((segment, i) => {
      const at = gpa + i * PACKED_DESC_SIZE;
      this.writeFields(at, segment, 0);
      this.memory.setU16(at + PACKED_DESC_FLAGS, segment.isWritable ? VIRTQ_DESC_F_WRITE : 0);
    });
  }

  /** Writes all but the flags, and returns what writes these. */
  private writeNext(segment: Segment, id: number, ownFlags: number): () => void {
    const at = this.place(this.nextAvail);
    const isWritable = segment.isWritable ? VIRTQ_DESC_F_WRITE : 0;
    const lap = this.availWrap === 1 ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
    this.writeFields(at, segment, id);
    this.sinceKick++;
    if (++this.nextAvail === this.size) {
      this.nextAvail = 0;
      this.availWrap ^= 1;
    }
    return () => this.memory.setU16(at + PACKED_DESC_FLAGS, ownFlags | isWritable | lap);
  }

  private writeFields(at: number, { gpa, byteLength }: Segment, id: number): void {
    this.memory.setU64(at + PACKED_DESC_ADDR, gpa);
    this.memory.setU32(at + PACKED_DESC_LEN, byteLength);
    this.memory.setU16(at + PACKED_DESC_ID, id);
  }
}
