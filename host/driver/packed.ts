// A driver for the packed virtqueue (virtio 1.4, 2.8).
import {
  EVENT_FLAGS,
  EVENT_OFF_WRAP,
  EVENT_SUPPRESS_SIZE,
  PACKED_DESC_FLAGS,
  PACKED_DESC_ID,
  PACKED_DESC_LEN,
  PACKED_DESC_SIZE,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
} from "../../assembly/spec/virtqueue.ts";
import {
  type AddOptions,
  DriverRing,
  NOTHING_USED,
  passedEvent,
  type RingMemory,
  type RingOptions,
  type RingPosition,
  type Segment,
  writeAddrLen,
} from "./ring.ts";

const WRAP_BIT = 0x8000;
const NOTHING_PENDING = -1;

export class PackedRing extends DriverRing {
  readonly isPacked = true;
  /** Both positions 0, both wrap counters 1 ("Vring descriptor indices for packed virtqueues"). */
  readonly initialBase = 0x80008000;

  private readonly words: Uint32Array;
  private readonly halves: Uint16Array;
  private readonly driverEvent: Uint16Array;
  private readonly deviceEvent: Uint32Array;
  /** A queue of identifiers, so that they are taken in turn: from `firstId` on, around the end. */
  private readonly freeIds: Uint16Array;
  private firstId = 0;
  private freeIdCount: number;
  freeCount: number;
  private nextAvail = 0;
  private availWrap = true;
  private nextUsed = 0;
  private usedWrap = true;
  /** Where the driver stood at the last publish(): what was added since is no reason for a kick yet. */
  private publishedAvail = 0;
  private publishedWrap = true;
  private unpublished = 0;
  private publishedSinceKick = 0;
  /** The first descriptor of the batch: its flags make the whole batch available, so they are written last. */
  private pendingSlot = NOTHING_PENDING;
  private pendingFlags = 0;

  constructor(memory: RingMemory, options: RingOptions) {
    const { size } = options;
    const sizes = {
      descriptor: size * PACKED_DESC_SIZE,
      available: EVENT_SUPPRESS_SIZE,
      used: EVENT_SUPPRESS_SIZE,
    };
    super(memory, options, sizes);
    const { descriptor, available, used } = this.addresses;
    this.words = this.wordsAt(descriptor, sizes.descriptor);
    this.halves = this.halvesAt(descriptor, sizes.descriptor);
    this.driverEvent = this.halvesAt(available, EVENT_SUPPRESS_SIZE);
    this.deviceEvent = this.wordsAt(used, EVENT_SUPPRESS_SIZE);
    this.freeIds = Uint16Array.from({ length: size }, (_, i) => i);
    this.freeIdCount = size;
    this.freeCount = size;
  }

  get position(): RingPosition {
    const { nextAvail, nextUsed, availWrap, usedWrap } = this;
    return { avail: nextAvail, used: nextUsed, availWrap: Number(availWrap), usedWrap: Number(usedWrap) };
  }

  add(segments: readonly Segment[], options?: AddOptions): number {
    const isIndirect = options?.indirect ?? false;
    const entries = isIndirect ? 1 : segments.length;
    if (entries === 0 || entries > this.freeCount) throw new RangeError(`no room for ${entries} descriptors`);
    const id = this.freeIds[this.firstId]!;
    this.firstId = (this.firstId + 1) % this.size;
    this.freeIdCount--;
    this.entriesOf[id] = entries;
    this.freeCount -= entries;
    if (isIndirect) this.writeIndirect(id, segments, options?.table);
    else this.writeChain(id, segments);
    return id;
  }

  publish(): void {
    if (this.pendingSlot === NOTHING_PENDING) return;
    Atomics.store(this.halves, flagsAt(this.pendingSlot), this.pendingFlags);
    this.pendingSlot = NOTHING_PENDING;
    this.publishedAvail = this.nextAvail;
    this.publishedWrap = this.availWrap;
    this.publishedSinceKick += this.unpublished;
    this.unpublished = 0;
  }

  popUsed(): number {
    if (!this.hasUsed()) return NOTHING_USED;
    const id = this.halves[this.nextUsed * 8 + PACKED_DESC_ID / 2]!;
    this.usedLength = this.words[this.nextUsed * 4 + PACKED_DESC_LEN / 4]!;
    this.checkInFlight(id);
    const entries = this.entriesOf[id]!;
    this.nextUsed += entries;
    if (this.nextUsed >= this.size) {
      this.nextUsed -= this.size;
      this.usedWrap = !this.usedWrap;
    }
    this.entriesOf[id] = 0;
    this.freeCount += entries;
    this.freeIds[(this.firstId + this.freeIdCount++) % this.size] = id;
    return id;
  }

  hasUsed(): boolean {
    return this.isUsed(this.nextUsed, this.usedWrap);
  }

  /** Both bits equal the wrap counter (2.8.1). */
  isUsed(slot: number, wrap: boolean): boolean {
    const flags = Atomics.load(this.halves, flagsAt(slot));
    const isUsed = (flags & VIRTQ_DESC_F_USED) !== 0;
    return isUsed === ((flags & VIRTQ_DESC_F_AVAIL) !== 0) && isUsed === wrap;
  }

  usedTokens(): number[] {
    const tokens: number[] = [];
    for (let at = this.nextUsed, left = this.size; left > 0; ) {
      const wrap = at < this.size ? this.usedWrap : !this.usedWrap;
      if (!this.isUsed(at % this.size, wrap)) break;
      const token = this.halves[(at % this.size) * 8 + PACKED_DESC_ID / 2]!;
      const entries = this.entriesOf[token] ?? 0;
      if (entries === 0) break;
      tokens.push(token);
      at += entries;
      left -= entries;
    }
    return tokens;
  }

  enableCalls(): void {
    const offWrap = this.nextUsed | (this.usedWrap ? WRAP_BIT : 0);
    if (this.eventIdx) Atomics.store(this.driverEvent, EVENT_OFF_WRAP / 2, offWrap);
    const flags = this.eventIdx ? RING_EVENT_FLAGS_DESC : RING_EVENT_FLAGS_ENABLE;
    Atomics.store(this.driverEvent, EVENT_FLAGS / 2, flags);
  }

  disableCalls(): void {
    Atomics.store(this.driverEvent, EVENT_FLAGS / 2, RING_EVENT_FLAGS_DISABLE);
  }

  takeKickWish(): boolean {
    const after = this.publishedAvail;
    const before = after - this.publishedSinceKick;
    this.publishedSinceKick = 0;
    // Both fields in one load: they belong together.
    const event = Atomics.load(this.deviceEvent, 0);
    const flags = event >>> 16;
    if (flags !== RING_EVENT_FLAGS_DESC) return flags !== RING_EVENT_FLAGS_DISABLE;
    const isThisLap = ((event & WRAP_BIT) !== 0) === this.publishedWrap;
    const at = (event & (WRAP_BIT - 1)) - (isThisLap ? 0 : this.size);
    return passedEvent(at, after, before);
  }

  private writeChain(id: number, segments: readonly Segment[]): void {
    for (let i = 0; i < segments.length; i++) {
      const segment = segments[i]!;
      const hasNext = i + 1 < segments.length;
      const flags = (segment.writable ? VIRTQ_DESC_F_WRITE : 0) | (hasNext ? VIRTQ_DESC_F_NEXT : 0);
      this.writeNext(id, segment.gpa, segment.length, flags);
    }
  }

  /** A table has no links and no identifiers: its descriptors follow one another (2.8.7). */
  private writeIndirect(id: number, segments: readonly Segment[], given: AddOptions["table"]): void {
    const gpa = this.tableFor(id, segments.length, given, (words) => {
      for (let i = 0; i < segments.length; i++) {
        const segment = segments[i]!;
        writeAddrLen(words, i, segment.gpa, segment.length);
        words[i * 4 + 3] = (segment.writable ? VIRTQ_DESC_F_WRITE : 0) << 16;
      }
    });
    this.writeNext(id, gpa, segments.length * PACKED_DESC_SIZE, VIRTQ_DESC_F_INDIRECT);
  }

  /** One descriptor. By itself it is for whoever writes a chain of its own, such as a wrong one. */
  writeNext(id: number, gpa: number, length: number, ownFlags: number): void {
    const slot = this.nextAvail;
    const flags = ownFlags | (this.availWrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED);
    writeAddrLen(this.words, slot, gpa, length);
    this.halves[slot * 8 + PACKED_DESC_ID / 2] = id;
    if (this.pendingSlot === NOTHING_PENDING) {
      this.pendingSlot = slot;
      this.pendingFlags = flags;
    } else {
      this.halves[flagsAt(slot)] = flags;
    }
    this.unpublished++;
    this.nextAvail++;
    if (this.nextAvail === this.size) {
      this.nextAvail = 0;
      this.availWrap = !this.availWrap;
    }
  }
}

function flagsAt(slot: number): number {
  return slot * 8 + PACKED_DESC_FLAGS / 2;
}
