// A driver for the packed virtqueue (virtio 1.4, 2.8).
import {
  EVENT_FLAGS,
  EVENT_OFF_WRAP,
  EVENT_SUPPRESS_SIZE,
  PACKED_DESC_ADDR,
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

const WRAP_BIT = 0x8000;
const NOTHING_PENDING = -1;

export class PackedVirtqueue extends Virtqueue {
  readonly isPacked = true;
  readonly addresses: RingAddresses;
  /** Both positions 0, both wrap counters 1 ("Vring descriptor indices for packed virtqueues"). */
  readonly initialBase = 0x80008000;

  /** The ring and the event suppression areas, for tests that write what a driver never would. */
  readonly descriptors: DataView;
  readonly driverEvent: Uint16Array;
  readonly deviceEvent: Uint16Array;

  private readonly words: Uint32Array;
  private readonly halves: Uint16Array;
  private readonly deviceEventWord: Uint32Array;
  private readonly freeIds: Uint16Array;
  private freeIdCount: number;
  private freeEntries: number;
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

  constructor(memory: QueueMemory, options: VirtqueueOptions) {
    super(memory, options);
    const { size } = this;
    this.addresses = {
      descriptor: this.allocateZeroed(size * PACKED_DESC_SIZE),
      available: this.allocateZeroed(EVENT_SUPPRESS_SIZE),
      used: this.allocateZeroed(EVENT_SUPPRESS_SIZE),
    };
    const ring = memory.view(this.addresses.descriptor, size * PACKED_DESC_SIZE);
    this.descriptors = new DataView(ring);
    this.words = new Uint32Array(ring);
    this.halves = new Uint16Array(ring);
    this.driverEvent = new Uint16Array(memory.view(this.addresses.available, EVENT_SUPPRESS_SIZE));
    const deviceEvent = memory.view(this.addresses.used, EVENT_SUPPRESS_SIZE);
    this.deviceEvent = new Uint16Array(deviceEvent);
    this.deviceEventWord = new Uint32Array(deviceEvent);
    this.freeIds = Uint16Array.from({ length: size }, (_, i) => size - 1 - i);
    this.freeIdCount = size;
    this.freeEntries = size;
  }

  add(segments: readonly Segment[], options?: AddOptions): number {
    const isIndirect = options?.indirect ?? false;
    const entries = isIndirect ? 1 : segments.length;
    if (entries === 0 || entries > this.freeEntries)
      throw new RangeError(`no room for ${entries} descriptors`);
    const id = this.freeIds[--this.freeIdCount]!;
    this.entriesOf[id] = entries;
    this.freeEntries -= entries;
    if (isIndirect) this.writeIndirect(id, segments, options?.tableAt);
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
    this.freeEntries += entries;
    this.freeIds[this.freeIdCount++] = id;
    return id;
  }

  /** Both bits equal the wrap counter (2.8.1). */
  hasUsed(): boolean {
    const flags = Atomics.load(this.halves, flagsAt(this.nextUsed));
    const isUsed = (flags & VIRTQ_DESC_F_USED) !== 0;
    return isUsed === ((flags & VIRTQ_DESC_F_AVAIL) !== 0) && isUsed === this.usedWrap;
  }

  enableCalls(): void {
    const offWrap = this.nextUsed | (this.usedWrap ? WRAP_BIT : 0);
    Atomics.store(this.driverEvent, EVENT_OFF_WRAP / 2, offWrap);
    const flags = this.eventIdx ? RING_EVENT_FLAGS_DESC : RING_EVENT_FLAGS_ENABLE;
    Atomics.store(this.driverEvent, EVENT_FLAGS / 2, flags);
  }

  disableCalls(): void {
    Atomics.store(this.driverEvent, EVENT_FLAGS / 2, RING_EVENT_FLAGS_DISABLE);
  }

  writeDescriptor(index: number, { addr, len, flags, id = 0 }: RawDescriptor): void {
    const at = index * PACKED_DESC_SIZE;
    this.descriptors.setBigUint64(at + PACKED_DESC_ADDR, addr, true);
    this.descriptors.setUint32(at + PACKED_DESC_LEN, len, true);
    this.descriptors.setUint16(at + PACKED_DESC_ID, id, true);
    Atomics.store(this.halves, flagsAt(index), flags);
  }

  /** The two bits that make a descriptor available at the driver's position, for writeDescriptor(). */
  get availFlags(): number {
    return this.availWrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
  }

  /** Where the driver writes next, for writeDescriptor(). */
  get availSlot(): number {
    return this.nextAvail;
  }

  protected needsKick(): boolean {
    const after = this.publishedAvail;
    const before = after - this.publishedSinceKick;
    this.publishedSinceKick = 0;
    // Both fields in one load: they belong together.
    const event = Atomics.load(this.deviceEventWord, 0);
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

  private writeIndirect(id: number, segments: readonly Segment[], tableAt?: number): void {
    const gpa = tableAt ?? this.writeTable(id, segments);
    this.writeNext(id, gpa, segments.length * PACKED_DESC_SIZE, VIRTQ_DESC_F_INDIRECT);
  }

  /** A table has no links and no identifiers: its descriptors follow one another (2.8.7). */
  private writeTable(id: number, segments: readonly Segment[]): number {
    const { gpa, words } = this.indirectTable(id, segments.length);
    for (let i = 0; i < segments.length; i++) {
      const segment = segments[i]!;
      writeAddrLen(words, i, segment.gpa, segment.length);
      words[i * 4 + 3] = (segment.writable ? VIRTQ_DESC_F_WRITE : 0) << 16;
    }
    return gpa;
  }

  private writeNext(id: number, gpa: number, length: number, ownFlags: number): void {
    const slot = this.nextAvail;
    const flags = ownFlags | this.availFlags;
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
