// A driver's ring as memory, for tests that write what a driver never would.
import {
  AVAIL_FIXED_SIZE,
  AVAIL_IDX,
  AVAIL_RING,
  AVAIL_RING_ENTRY_SIZE,
  DESC_ADDR,
  DESC_FLAGS,
  DESC_LEN,
  DESC_NEXT,
  DESC_SIZE,
  EVENT_SUPPRESS_SIZE,
  PACKED_DESC_ADDR,
  PACKED_DESC_FLAGS,
  PACKED_DESC_ID,
  PACKED_DESC_LEN,
  PACKED_DESC_SIZE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_USED,
} from "../../assembly/spec/virtqueue.ts";
import { PackedRing } from "../../host/driver/packed.ts";
import type { DriverRing } from "../../host/driver/ring.ts";
import { SplitRing } from "../../host/driver/split.ts";
import type { Virtqueue } from "../../host/front-end/virtqueue.ts";

/** A descriptor as it lies in a ring: whatever a hostile driver likes. The last field is `next` or `id`. */
export interface RawDescriptor {
  addr: bigint;
  len: number;
  flags: number;
  next?: number;
  id?: number;
}

export function rawRing({ ring }: Virtqueue): RawSplitRing | RawPackedRing {
  return ring instanceof SplitRing ? new RawSplitRing(ring) : new RawPackedRing(ring as PackedRing);
}

export function rawSplitRing({ ring }: Virtqueue): RawSplitRing {
  if (!(ring instanceof SplitRing)) throw new TypeError("not a split ring");
  return new RawSplitRing(ring);
}

export function rawPackedRing({ ring }: Virtqueue): RawPackedRing {
  if (!(ring instanceof PackedRing)) throw new TypeError("not a packed ring");
  return new RawPackedRing(ring);
}

export class RawSplitRing {
  readonly size: number;
  readonly descriptors: DataView;
  readonly avail: Uint16Array;

  constructor(private readonly ring: SplitRing) {
    this.size = ring.size;
    this.descriptors = new DataView(bufferAt(ring, ring.addresses.descriptor, ring.size * DESC_SIZE));
    const availSize = AVAIL_FIXED_SIZE + ring.size * AVAIL_RING_ENTRY_SIZE;
    this.avail = new Uint16Array(bufferAt(ring, ring.addresses.available, availSize));
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
    this.ring.addHead(head);
    this.ring.publish();
  }

  writeAvailEntry(slot: number, head: number): void {
    this.avail[AVAIL_RING / 2 + (slot & (this.size - 1))] = head;
  }

  writeAvailIdx(idx: number): void {
    Atomics.store(this.avail, AVAIL_IDX / 2, idx);
  }
}

export class RawPackedRing {
  readonly size: number;
  readonly descriptors: DataView;
  readonly driverEvent: Uint16Array;
  readonly deviceEvent: Uint16Array;
  private readonly halves: Uint16Array;

  constructor(private readonly ring: PackedRing) {
    const { descriptor, available, used } = ring.addresses;
    this.size = ring.size;
    const descriptors = bufferAt(ring, descriptor, ring.size * PACKED_DESC_SIZE);
    this.descriptors = new DataView(descriptors);
    this.halves = new Uint16Array(descriptors);
    this.driverEvent = new Uint16Array(bufferAt(ring, available, EVENT_SUPPRESS_SIZE));
    this.deviceEvent = new Uint16Array(bufferAt(ring, used, EVENT_SUPPRESS_SIZE));
  }

  writeDescriptor(index: number, { addr, len, flags, id = 0 }: RawDescriptor): void {
    const at = index * PACKED_DESC_SIZE;
    this.descriptors.setBigUint64(at + PACKED_DESC_ADDR, addr, true);
    this.descriptors.setUint32(at + PACKED_DESC_LEN, len, true);
    this.descriptors.setUint16(at + PACKED_DESC_ID, id, true);
    Atomics.store(this.halves, (at + PACKED_DESC_FLAGS) / 2, flags);
  }

  /** The two bits that make a descriptor available at the driver's position. */
  get availFlags(): number {
    return this.ring.position.availWrap === 1 ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
  }
}

/** The memory itself. A front-end's begins where it is asked for. */
function bufferAt({ memory }: DriverRing, gpa: number, byteLength: number): ArrayBuffer {
  const { buffer, byteOffset } = memory.bytes(gpa, byteLength);
  if (byteOffset !== 0) throw new TypeError("a ring within a larger buffer");
  return buffer as ArrayBuffer;
}
