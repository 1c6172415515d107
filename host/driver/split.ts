// A driver for the split virtqueue (virtio 1.4, 2.7).
import {
  AVAIL_FIXED_SIZE,
  AVAIL_FLAGS,
  AVAIL_IDX,
  AVAIL_RING,
  AVAIL_RING_ENTRY_SIZE,
  DESC_SIZE,
  USED_ELEM_SIZE,
  USED_FIXED_SIZE,
  USED_FLAGS,
  USED_IDX,
  USED_RING,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
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

export class SplitRing extends DriverRing {
  readonly isPacked = false;
  readonly initialBase = 0;

  private readonly descriptors: Uint32Array;
  private readonly avail: Uint16Array;
  private readonly used: Uint16Array;
  private readonly usedWords: Uint32Array;
  private readonly usedEventAt: number;
  private readonly availEventAt: number;
  /** Links of chains and of the free list: the driver's own, which no device can spoil. */
  private readonly nextOf: Uint16Array;
  /** The place that the next chain begins at, if any is free. */
  firstFree = 0;
  private lastFree: number;
  private nextAvail = 0;
  private publishedAvail = 0;
  private kickedAvail = 0;
  private nextUsed = 0;
  freeCount: number;

  constructor(memory: RingMemory, options: RingOptions) {
    const { size } = options;
    const sizes = {
      descriptor: size * DESC_SIZE,
      available: AVAIL_FIXED_SIZE + size * AVAIL_RING_ENTRY_SIZE,
      used: USED_FIXED_SIZE + size * USED_ELEM_SIZE,
    };
    super(memory, options, sizes);
    const { descriptor, available, used } = this.addresses;
    this.descriptors = this.wordsAt(descriptor, sizes.descriptor);
    this.avail = this.halvesAt(available, sizes.available);
    this.used = this.halvesAt(used, sizes.used);
    this.usedWords = this.wordsAt(used, sizes.used);
    this.usedEventAt = AVAIL_RING / 2 + size;
    this.availEventAt = (USED_RING + size * USED_ELEM_SIZE) / 2;
    this.nextOf = Uint16Array.from({ length: size }, (_, i) => i + 1);
    this.lastFree = size - 1;
    this.freeCount = size;
  }

  get position(): RingPosition {
    return { avail: this.nextAvail, used: this.nextUsed };
  }

  add(segments: readonly Segment[], options?: AddOptions): number {
    const isIndirect = options?.indirect ?? false;
    const entries = isIndirect ? 1 : segments.length;
    if (entries === 0 || entries > this.freeCount) throw new RangeError(`no room for ${entries} descriptors`);
    const head = this.firstFree;
    if (isIndirect) this.writeIndirect(head, segments, options?.table);
    else this.writeChain(head, segments);
    this.freeCount -= entries;
    this.entriesOf[head] = entries;
    this.addHead(head);
    return head;
  }

  /** A head's place in the avail ring. By itself it is for whoever has written a chain of its own, such as a wrong one. */
  addHead(head: number): void {
    this.avail[AVAIL_RING / 2 + (this.nextAvail & (this.size - 1))] = head;
    this.nextAvail = (this.nextAvail + 1) & 0xffff;
  }

  publish(): void {
    this.publishedAvail = this.nextAvail;
    Atomics.store(this.avail, AVAIL_IDX / 2, this.nextAvail);
  }

  popUsed(): number {
    if (!this.hasUsed()) return NOTHING_USED;
    const at = USED_RING / 4 + (this.nextUsed & (this.size - 1)) * 2;
    const token = this.usedWords[at]!;
    this.usedLength = this.usedWords[at + 1]!;
    this.checkInFlight(token);
    this.nextUsed = (this.nextUsed + 1) & 0xffff;
    this.freeChain(token);
    return token;
  }

  hasUsed(): boolean {
    return this.usedIdx !== this.nextUsed;
  }

  enableCalls(): void {
    if (this.eventIdx) Atomics.store(this.avail, this.usedEventAt, this.nextUsed);
    else Atomics.store(this.avail, AVAIL_FLAGS / 2, 0);
  }

  /** With EVENT_IDX the flags must stay 0 (2.7.7.1), and an event index that lies behind does the same. */
  disableCalls(): void {
    if (!this.eventIdx) Atomics.store(this.avail, AVAIL_FLAGS / 2, VIRTQ_AVAIL_F_NO_INTERRUPT);
  }

  /** One descriptor. By itself it is for whoever writes a chain of its own, such as a wrong one. */
  writeDescriptor(index: number, gpa: number, length: number, flags: number, next: number): void {
    writeAddrLen(this.descriptors, index, gpa, length);
    this.descriptors[index * 4 + 3] = flags | (next << 16);
  }

  /** The device's own index, as it stands in the ring. */
  get usedIdx(): number {
    return Atomics.load(this.used, USED_IDX / 2);
  }

  usedTokens(): number[] {
    const count = Math.min((this.usedIdx - this.nextUsed) & 0xffff, this.size);
    const at = (i: number) => USED_RING / 4 + ((this.nextUsed + i) & (this.size - 1)) * 2;
    return Array.from({ length: count }, (_, i) => this.usedWords[at(i)]!);
  }

  takeKickWish(): boolean {
    const before = this.kickedAvail;
    this.kickedAvail = this.publishedAvail;
    if (!this.eventIdx) return (Atomics.load(this.used, USED_FLAGS / 2) & VIRTQ_USED_F_NO_NOTIFY) === 0;
    return passedEvent(Atomics.load(this.used, this.availEventAt), this.publishedAvail, before);
  }

  private writeChain(head: number, segments: readonly Segment[]): void {
    let index = head;
    for (let i = 0; i < segments.length; i++) {
      const next = this.nextOf[index]!;
      writeLinked(this.descriptors, index, segments[i]!, i + 1 < segments.length ? next : -1);
      index = next;
    }
    this.firstFree = index;
  }

  private writeIndirect(head: number, segments: readonly Segment[], given: AddOptions["table"]): void {
    const gpa = this.tableFor(head, segments.length, given, (words) => {
      for (let i = 0; i < segments.length; i++) {
        writeLinked(words, i, segments[i]!, i + 1 < segments.length ? i + 1 : -1);
      }
    });
    writeAddrLen(this.descriptors, head, gpa, segments.length * DESC_SIZE);
    this.descriptors[head * 4 + 3] = VIRTQ_DESC_F_INDIRECT;
    this.firstFree = this.nextOf[head]!;
  }

  private freeChain(head: number): void {
    const entries = this.entriesOf[head]!;
    let last = head;
    for (let i = 1; i < entries; i++) last = this.nextOf[last]!;
    // Behind all others, so that places are taken in turn.
    if (this.freeCount === 0) this.firstFree = head;
    else this.nextOf[this.lastFree] = head;
    this.lastFree = last;
    this.freeCount += entries;
    this.entriesOf[head] = 0;
  }
}

function writeLinked(words: Uint32Array, index: number, segment: Segment, next: number): void {
  writeAddrLen(words, index, segment.gpa, segment.length);
  const flags = (segment.writable ? VIRTQ_DESC_F_WRITE : 0) | (next === -1 ? 0 : VIRTQ_DESC_F_NEXT);
  words[index * 4 + 3] = flags | ((next === -1 ? 0 : next) << 16);
}
