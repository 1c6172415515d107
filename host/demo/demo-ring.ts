// The guest's ring as the page shows it: the driver's, with the request that each place is about, and ways to spoil it.
import {
  DESC_NEXT,
  DESC_SIZE,
  PACKED_DESC_ID,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
} from "../../assembly/spec/virtqueue.ts";
import { PackedRing } from "../driver/packed.ts";
import {
  type DriverRing,
  NOTHING_USED,
  type RingMemory,
  type RingPosition,
  type Segment,
} from "../driver/ring.ts";
import { SplitRing } from "../driver/split.ts";
import type { RingConfig } from "./config.ts";
import type { GuestMemory } from "./guest-memory.ts";
import { DESC_GPA, DEVICE_GPA, DRIVER_GPA } from "./memory-map.ts";

export interface Used {
  token: number;
  byteLength: number;
}

/** Ways to write into a ring what no driver should. */
export type Mischief = "head" | "loop" | "address" | "table";

/** Past all guest memory. */
const NOWHERE_GPA = 0xdead_0000;

const WHERE = { descriptor: DESC_GPA, available: DRIVER_GPA, used: DEVICE_GPA };

export function makeRing(memory: GuestMemory, config: RingConfig): DemoRing {
  return config.isPacked ? new PackedDemoRing(memory, config) : new SplitDemoRing(memory, config);
}

export abstract class DemoRing {
  /** Whether chains lie in the ring that the device may not know of: published, and no kick considered since. */
  owesKick = false;
  /** By place of the descriptor table, of the avail ring, and by token: the request that it is about, now or last. */
  protected readonly descriptorOwners: (number | undefined)[] = [];
  protected readonly availOwners: (number | undefined)[] = [];
  protected readonly tokenOwners: (number | undefined)[] = [];

  protected constructor(
    protected readonly memory: GuestMemory,
    protected readonly config: RingConfig,
  ) {}

  /** After the constructor, since it is made by whoever extends this. */
  protected abstract readonly ring: DriverRing;

  get initialBase(): number {
    return this.ring.initialBase;
  }

  get freeCount(): number {
    return this.ring.freeCount;
  }

  /** Where the driver goes on: for the reader's eye. */
  get position(): RingPosition {
    return this.ring.position;
  }

  /** Writes a chain, or one descriptor that points to a table at `tableGpa`, and makes it available. Returns its token. */
  add(segments: readonly Segment[], serial: number, tableGpa?: number): number {
    const { avail } = this.position;
    const table = tableGpa === undefined ? undefined : { gpa: tableGpa, isWritten: false };
    const token = this.ring.add(segments, table && { indirect: true, table });
    this.tokenOwners[token] = serial;
    this.own(token, avail, table ? 1 : segments.length, serial);
    this.show();
    return token;
  }

  /** Whether the device wants to be told of what became available since this was last asked. */
  takeKickWish(): boolean {
    this.owesKick = false;
    return this.ring.takeKickWish();
  }

  hasUsed(): boolean {
    return this.ring.hasUsed();
  }

  popUsed(): Used {
    const { used } = this.position;
    const token = this.ring.popUsed();
    if (token === NOTHING_USED) throw new Error("nothing is used");
    this.disown(token, used);
    return { token, byteLength: this.ring.usedLength };
  }

  usedTokens(): number[] {
    return this.ring.usedTokens();
  }

  /** Asks for a call at the next used chain. */
  enableCalls(): void {
    if (this.config.hasEventIdx) this.ring.enableCalls();
  }

  ownerOfDescriptor(index: number): number | undefined {
    return this.descriptorOwners[index];
  }

  ownerOfAvail(slot: number): number | undefined {
    return this.availOwners[slot];
  }

  ownerOfToken(token: number): number | undefined {
    return this.tokenOwners[token];
  }

  abstract misbehave(mischief: Mischief): void;
  /** Whether the driver may write a place of the descriptor table anew. */
  abstract isFree(index: number): boolean;
  protected abstract own(token: number, avail: number, count: number, serial: number): void;
  protected abstract disown(token: number, used: number): void;

  protected show(): void {
    this.ring.publish();
    this.owesKick = true;
  }
}

class SplitDemoRing extends DemoRing {
  protected readonly ring: SplitRing;
  /** The places of each chain in flight, by its head. */
  private readonly chains = new Map<number, number[]>();

  constructor(memory: GuestMemory, config: RingConfig) {
    super(memory, config);
    this.ring = new SplitRing(ringMemory(memory), ringOptions(config));
    this.enableCalls();
  }

  misbehave(mischief: Mischief): void {
    const { size } = this.config;
    const free = Array.from({ length: size }, (_, i) => i).find((index) => this.isFree(index));
    const place = this.ring.firstFree < size ? this.ring.firstFree : (free ?? 0);
    this.descriptorOwners[place] = undefined;
    this.availOwners[this.position.avail % size] = undefined;
    if (mischief !== "head") this.writeWrong(place, mischief);
    this.ring.addHead(mischief === "head" ? size + 3 : place);
    this.show();
  }

  isFree(index: number): boolean {
    return ![...this.chains.values()].some((places) => places.includes(index));
  }

  protected own(head: number, avail: number, count: number, serial: number): void {
    const places = [head];
    while (places.length < count)
      places.push(this.memory.u16(DESC_GPA + places.at(-1)! * DESC_SIZE + DESC_NEXT));
    this.chains.set(head, places);
    for (const place of places) this.descriptorOwners[place] = serial;
    this.availOwners[avail % this.config.size] = serial;
  }

  protected disown(head: number): void {
    this.chains.delete(head);
  }

  private writeWrong(place: number, mischief: Exclude<Mischief, "head">): void {
    const gpa = mischief === "address" ? NOWHERE_GPA : DESC_GPA;
    const flags = { address: 0, loop: VIRTQ_DESC_F_NEXT, table: VIRTQ_DESC_F_INDIRECT }[mischief];
    this.ring.writeDescriptor(
      place,
      gpa,
      mischief === "table" ? 10 : 16,
      flags,
      mischief === "loop" ? place : 0,
    );
  }
}

class PackedDemoRing extends DemoRing {
  protected readonly ring: PackedRing;
  /** How many places each chain in flight takes, by its identifier. */
  private readonly counts = new Map<number, number>();

  constructor(memory: GuestMemory, config: RingConfig) {
    super(memory, config);
    this.ring = new PackedRing(ringMemory(memory), ringOptions(config));
    this.enableCalls();
  }

  misbehave(mischief: Mischief): void {
    const gpa = mischief === "address" ? NOWHERE_GPA : DESC_GPA;
    const flags = { head: 0, address: 0, table: VIRTQ_DESC_F_INDIRECT, loop: VIRTQ_DESC_F_NEXT }[mischief];
    const count = mischief === "loop" ? this.config.size : 1;
    for (let i = 0; i < count; i++) {
      this.descriptorOwners[this.position.avail] = undefined;
      this.ring.writeNext(0, gpa, mischief === "table" ? 10 : 16, flags);
    }
    this.show();
  }

  /** Whoever was given back there, if that is not taken yet: it need not be the one that was added there. */
  override ownerOfDescriptor(index: number): number | undefined {
    const { used, usedWrap } = this.position;
    const wrap = (usedWrap === 1) === index >= used;
    const isGivenBack = !this.isFree(index) && this.ring.isUsed(index, wrap);
    if (!isGivenBack) return this.descriptorOwners[index];
    return this.tokenOwners[this.memory.u16(DESC_GPA + index * DESC_SIZE + PACKED_DESC_ID)];
  }

  isFree(index: number): boolean {
    const { size } = this.config;
    return (index - this.position.avail + size) % size < this.freeCount;
  }

  protected own(id: number, avail: number, count: number, serial: number): void {
    this.counts.set(id, count);
    for (let i = 0; i < count; i++) this.descriptorOwners[(avail + i) % this.config.size] = serial;
  }

  protected disown(id: number, used: number): void {
    const count = this.counts.get(id)!;
    this.counts.delete(id);
    for (let i = 0; i < count; i++) this.descriptorOwners[(used + i) % this.config.size] = undefined;
    this.descriptorOwners[used] = this.tokenOwners[id];
  }
}

function ringOptions({ size, hasEventIdx }: RingConfig) {
  return { size, eventIdx: hasEventIdx, addresses: WHERE };
}

/** All has its place here: nothing is allocated. */
function ringMemory(memory: GuestMemory): RingMemory {
  return {
    bytes: (gpa, byteLength) => memory.bytes(gpa, byteLength),
    allocate: () => {
      throw new Error("the page's ring has its places");
    },
  };
}
