// The driver's side of a virtqueue, as far as split and packed rings are alike. It knows guest memory and nothing of its host:
// no descriptors, no sockets, no timers.
import { VIRTQ_SIZE_MAX, VIRTQ_SIZE_MIN } from "../../assembly/spec/virtqueue.ts";

/** One element of a descriptor chain. */
export interface Segment {
  gpa: number;
  length: number;
  writable: boolean;
}

export interface AddOptions {
  indirect?: boolean;
  /** Where the indirect table is to lie, or lies already. Left out: in memory of the ring's own. */
  table?: { gpa: number; isWritten: boolean };
}

/** Guest addresses of a ring's parts, by their names in SET_VRING_ADDR. */
export interface RingAddresses {
  descriptor: number;
  available: number;
  used: number;
}

/** Bytes of the three parts, with the event indices at their ends. */
export interface RingSizes extends RingAddresses {}

export interface RingOptions {
  size: number;
  eventIdx?: boolean;
  /** The region that the ring and indirect tables are allocated in. */
  regionIndex?: number;
  /** Where its parts lie. Left out: they are allocated. */
  addresses?: RingAddresses;
}

/** What a ring needs of guest memory. */
export interface RingMemory {
  allocate(byteLength: number, regionIndex?: number): number;
  /** The memory itself, not a copy. */
  bytes(gpa: number, byteLength: number): Uint8Array<ArrayBufferLike>;
}

/** Where the driver goes on. Wrap counters, 0 or 1, are those of a packed ring. */
export interface RingPosition {
  avail: number;
  used: number;
  availWrap?: number;
  usedWrap?: number;
}

interface IndirectTable {
  gpa: number;
  capacity: number;
}

export const NOTHING_USED = -1;

const DESCRIPTOR_SIZE = 16;

export abstract class DriverRing {
  readonly size: number;
  readonly addresses: RingAddresses;
  /** The length of the chain that popUsed() returned last. */
  usedLength = 0;

  protected readonly eventIdx: boolean;
  /** Ring entries that each token occupies; 0 when it isn't in flight. */
  protected readonly entriesOf: Uint16Array;
  private readonly regionIndex: number;
  private readonly tables: IndirectTable[] = [];

  constructor(
    readonly memory: RingMemory,
    { size, eventIdx = false, regionIndex = 0, addresses }: RingOptions,
    sizes: RingSizes,
  ) {
    if (size < VIRTQ_SIZE_MIN || size > VIRTQ_SIZE_MAX) throw new RangeError("queue size");
    this.size = size;
    this.eventIdx = eventIdx;
    this.regionIndex = regionIndex;
    this.entriesOf = new Uint16Array(size);
    this.addresses = addresses ?? {
      descriptor: this.allocateZeroed(sizes.descriptor),
      available: this.allocateZeroed(sizes.available),
      used: this.allocateZeroed(sizes.used),
    };
  }

  abstract readonly isPacked: boolean;
  /** What SET_VRING_BASE says of a ring that was never used. */
  abstract readonly initialBase: number;
  abstract readonly position: RingPosition;
  /** Descriptors that add() may take. */
  abstract readonly freeCount: number;

  /** Adds a chain, which the device sees after publish(). The token names it until it is used. */
  abstract add(segments: readonly Segment[], options?: AddOptions): number;
  /** Shows the device all that was added since, at once. */
  abstract publish(): void;
  /** The next used chain's token, or NOTHING_USED. Allocates nothing; the length is in usedLength. */
  abstract popUsed(): number;
  abstract hasUsed(): boolean;
  /** Tokens of the chains that the device has given back and popUsed() has not taken yet. */
  abstract usedTokens(): number[];
  abstract enableCalls(): void;
  abstract disableCalls(): void;
  /** Takes note of what was published since the last time, and says whether the device wants a kick for it. */
  abstract takeKickWish(): boolean;

  inFlight(): number {
    return this.entriesOf.reduce((count, entries) => count + (entries > 0 ? 1 : 0), 0);
  }

  protected checkInFlight(token: number): void {
    if (token >= this.size || this.entriesOf[token] === 0) {
      throw new Error(`the device used ${token}, which is not in flight`);
    }
  }

  protected halvesAt(gpa: number, byteLength: number): Uint16Array {
    const { buffer, byteOffset } = this.memory.bytes(gpa, byteLength);
    return new Uint16Array(buffer, byteOffset, byteLength >> 1);
  }

  protected wordsAt(gpa: number, byteLength: number): Uint32Array {
    const { buffer, byteOffset } = this.memory.bytes(gpa, byteLength);
    return new Uint32Array(buffer, byteOffset, byteLength >> 2);
  }

  /** The table that a chain's one descriptor points to; `write` fills it unless the caller has. */
  protected tableFor(
    token: number,
    count: number,
    given: AddOptions["table"],
    write: (words: Uint32Array) => void,
  ): number {
    const gpa = given?.gpa ?? this.ownTable(token, count);
    if (!given?.isWritten) write(this.wordsAt(gpa, count * DESCRIPTOR_SIZE));
    return gpa;
  }

  /** The token's own indirect table, large enough for `count` descriptors. */
  private ownTable(token: number, count: number): number {
    const existing = this.tables[token];
    if (existing !== undefined && existing.capacity >= count) return existing.gpa;
    const gpa = this.memory.allocate(count * DESCRIPTOR_SIZE, this.regionIndex);
    this.tables[token] = { gpa, capacity: count };
    return gpa;
  }

  /** Memory for a part of the ring. Whatever lay there before would pass for what a driver or a device wrote. */
  private allocateZeroed(byteLength: number): number {
    const gpa = this.memory.allocate(byteLength, this.regionIndex);
    this.memory.bytes(gpa, byteLength).fill(0);
    return gpa;
  }
}

/** vring_need_event() (virtio 1.4, 2.7.10): whether moving from `before` to `after` passed `event`. */
export function passedEvent(event: number, after: number, before: number): boolean {
  return ((after - event - 1) & 0xffff) < ((after - before) & 0xffff);
}

/** Writes addr and len, as both kinds of descriptor table have them. */
export function writeAddrLen(words: Uint32Array, index: number, gpa: number, length: number): void {
  words[index * 4] = gpa % 0x1_0000_0000;
  words[index * 4 + 1] = Math.floor(gpa / 0x1_0000_0000);
  words[index * 4 + 2] = length;
}
