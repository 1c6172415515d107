// A driver for the split virtqueue (virtio 1.4, 2.7).
import {
  AVAIL_FIXED_SIZE,
  AVAIL_FLAGS,
  AVAIL_IDX,
  AVAIL_RING,
  AVAIL_RING_ENTRY_SIZE,
  DESC_ADDR,
  DESC_FLAGS,
  DESC_LEN,
  DESC_NEXT,
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
  NOTHING_USED,
  passedEvent,
  type QueueMemory,
  type RawDescriptor,
  type RingAddresses,
  type Segment,
  Virtqueue,
  type VirtqueueOptions,
  writeAddrLen,
} from "./virtqueue.ts";

export class SplitVirtqueue extends Virtqueue {
  readonly isPacked = false;
  readonly addresses: RingAddresses;
  readonly initialBase = 0;

  /** The ring itself, for tests that write what a driver never would. */
  readonly descriptors: DataView;
  readonly avail: Uint16Array;
  readonly used: Uint16Array;

  private readonly descriptorWords: Uint32Array;
  private readonly usedWords: Uint32Array;
  private readonly usedEventAt: number;
  private readonly availEventAt: number;
  /** Links of chains and of the free list: the driver's own, which no device can spoil. */
  private readonly nextOf: Uint16Array;
  private firstFree = 0;
  private freeCount: number;
  private nextAvail = 0;
  private publishedAvail = 0;
  private kickedAvail = 0;
  private nextUsed = 0;

  constructor(memory: QueueMemory, options: VirtqueueOptions) {
    super(memory, options);
    const { size } = this;
    const availSize = AVAIL_FIXED_SIZE + size * AVAIL_RING_ENTRY_SIZE;
    const usedSize = USED_FIXED_SIZE + size * USED_ELEM_SIZE;
    this.addresses = {
      descriptor: this.allocateZeroed(size * DESC_SIZE),
      available: this.allocateZeroed(availSize),
      used: this.allocateZeroed(usedSize),
    };
    const descriptors = memory.view(this.addresses.descriptor, size * DESC_SIZE);
    this.descriptors = new DataView(descriptors);
    this.descriptorWords = new Uint32Array(descriptors);
    this.avail = new Uint16Array(memory.view(this.addresses.available, availSize));
    const used = memory.view(this.addresses.used, usedSize + 2);
    this.used = new Uint16Array(used);
    this.usedWords = new Uint32Array(used);
    this.usedEventAt = AVAIL_RING / 2 + size;
    this.availEventAt = (USED_RING + size * USED_ELEM_SIZE) / 2;
    this.nextOf = Uint16Array.from({ length: size }, (_, i) => i + 1);
    this.freeCount = size;
  }

  add(segments: readonly Segment[], options?: AddOptions): number {
    const isIndirect = options?.indirect ?? false;
    const entries = isIndirect ? 1 : segments.length;
    if (entries === 0 || entries > this.freeCount) throw new RangeError(`no room for ${entries} descriptors`);
    const head = this.firstFree;
    if (isIndirect) this.writeIndirect(head, segments, options?.tableAt);
    else this.writeChain(head, segments);
    this.freeCount -= entries;
    this.entriesOf[head] = entries;
    this.avail[AVAIL_RING / 2 + (this.nextAvail & (this.size - 1))] = head;
    this.nextAvail = (this.nextAvail + 1) & 0xffff;
    return head;
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

  writeDescriptor(index: number, { addr, len, flags, next = 0 }: RawDescriptor): void {
    const at = index * DESC_SIZE;
    this.descriptors.setBigUint64(at + DESC_ADDR, addr, true);
    this.descriptors.setUint32(at + DESC_LEN, len, true);
    this.descriptors.setUint16(at + DESC_FLAGS, flags, true);
    this.descriptors.setUint16(at + DESC_NEXT, next, true);
  }

  /** Makes a head available that add() knows nothing of. */
  publishRaw(head: number): void {
    this.writeAvailEntry(this.nextAvail, head);
    this.nextAvail = (this.nextAvail + 1) & 0xffff;
    this.publish();
  }

  writeAvailEntry(slot: number, head: number): void {
    this.avail[AVAIL_RING / 2 + (slot & (this.size - 1))] = head;
  }

  writeAvailIdx(idx: number): void {
    Atomics.store(this.avail, AVAIL_IDX / 2, idx);
  }

  /** The device's own index, as it stands in the ring. */
  get usedIdx(): number {
    return Atomics.load(this.used, USED_IDX / 2);
  }

  protected needsKick(): boolean {
    const before = this.kickedAvail;
    this.kickedAvail = this.publishedAvail;
    if (!this.eventIdx) return (Atomics.load(this.used, USED_FLAGS / 2) & VIRTQ_USED_F_NO_NOTIFY) === 0;
    return passedEvent(Atomics.load(this.used, this.availEventAt), this.publishedAvail, before);
  }

  private writeChain(head: number, segments: readonly Segment[]): void {
    let index = head;
    for (let i = 0; i < segments.length; i++) {
      const next = this.nextOf[index]!;
      writeLinked(this.descriptorWords, index, segments[i]!, i + 1 < segments.length ? next : -1);
      index = next;
    }
    this.firstFree = index;
  }

  private writeIndirect(head: number, segments: readonly Segment[], tableAt?: number): void {
    const gpa = tableAt ?? this.writeTable(head, segments);
    writeAddrLen(this.descriptorWords, head, gpa, segments.length * DESC_SIZE);
    this.descriptorWords[head * 4 + 3] = VIRTQ_DESC_F_INDIRECT;
    this.firstFree = this.nextOf[head]!;
  }

  private writeTable(head: number, segments: readonly Segment[]): number {
    const { gpa, words } = this.indirectTable(head, segments.length);
    for (let i = 0; i < segments.length; i++) {
      writeLinked(words, i, segments[i]!, i + 1 < segments.length ? i + 1 : -1);
    }
    return gpa;
  }

  private freeChain(head: number): void {
    const entries = this.entriesOf[head]!;
    let last = head;
    for (let i = 1; i < entries; i++) last = this.nextOf[last]!;
    this.nextOf[last] = this.firstFree;
    this.firstFree = head;
    this.freeCount += entries;
    this.entriesOf[head] = 0;
  }
}

function writeLinked(words: Uint32Array, index: number, segment: Segment, next: number): void {
  writeAddrLen(words, index, segment.gpa, segment.length);
  const flags = (segment.writable ? VIRTQ_DESC_F_WRITE : 0) | (next === -1 ? 0 : VIRTQ_DESC_F_NEXT);
  words[index * 4 + 3] = flags | ((next === -1 ? 0 : next) << 16);
}
