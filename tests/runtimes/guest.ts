// A guest's driver of a disk, or of chains, in a few lines: one request a slot, in a split or in a packed ring (virtio 1.4, 2.7 and 2.8).
import * as layout from "../../assembly/abi/index.ts";
import * as blk from "../../assembly/spec/virtio-blk.ts";
import * as virtq from "../../assembly/spec/virtqueue.ts";
import type { GuestRam, RingStart } from "./embedder.ts";

export type RingFormat = "split" | "packed";

/** A request that the device has used: its slot, and how many bytes the device says it wrote. */
export interface Used {
  slot: number;
  writtenBytes: number;
}

/** A request has three descriptors: header, data, status. */
const CHAIN = 3;
const SLOTS = 8;
export const RING_SIZE = 32;

/** Guest memory, as offsets: the ring's three parts, then the slots. */
const DESC = 0;
const DRIVER = 0x1000;
const DEVICE = 0x2000;
const FIRST_SLOT = 0x10000;
const SLOT_STRIDE = 0x4000;
const SLOT_STATUS = 16;
const SLOT_DATA = 0x1000;
const SLOT_ROOM = 0x3000;
/** A chain's room is in two buffers, which do not touch. */
const ROOM_STEP = 0x100;
export const ROOM_PART = 8;
export const RAM_SIZE = FIRST_SLOT + SLOTS * SLOT_STRIDE;

/** Both wrap counters 1, both indices 0. */
const PACKED_INITIAL_BASE = 0x80008000;

export class Guest {
  private readonly view: DataView;
  private readonly bytes: Uint8Array;
  private readonly free = Array.from({ length: SLOTS }, (_, slot) => slot);
  private nextAvail = 0;
  private nextUsed = 0;
  private availWrap = true;
  private usedWrap = true;

  constructor(
    memory: { buffer: ArrayBuffer },
    private readonly ram: GuestRam,
    private readonly format: RingFormat,
    /** QUEUE_F_*, beside that of the format. */
    private readonly queueFlags = 0,
  ) {
    this.view = new DataView(memory.buffer, ram.ptr, ram.byteLength);
    this.bytes = new Uint8Array(memory.buffer, ram.ptr, ram.byteLength);
    this.bytes.fill(0);
  }

  get ring(): RingStart {
    const isPacked = this.format === "packed";
    return {
      size: RING_SIZE,
      flags: (isPacked ? layout.QUEUE_F_PACKED : 0) | this.queueFlags,
      desc: this.ram.ptr + DESC,
      driver: this.ram.ptr + DRIVER,
      device: this.ram.ptr + DEVICE,
      base: isPacked ? PACKED_INITIAL_BASE : 0,
    };
  }

  /** Returns the slot. */
  write(sector: number, data: Uint8Array): number {
    return this.submit(blk.VIRTIO_BLK_T_OUT, sector, data.length, data);
  }

  read(sector: number, byteLength: number): number {
    return this.submit(blk.VIRTIO_BLK_T_IN, sector, byteLength);
  }

  flush(): number {
    return this.submit(blk.VIRTIO_BLK_T_FLUSH, 0, 0);
  }

  /** A chain of these bytes, and of room for two times ROOM_PART. Returns the slot. */
  send(data: Uint8Array): number {
    const slot = this.takeSlot();
    const at = slotAt(slot);
    this.bytes.set(data, at + SLOT_DATA);
    this.add(slot, [
      [at + SLOT_DATA, data.length, 0],
      [at + SLOT_ROOM, ROOM_PART, virtq.VIRTQ_DESC_F_WRITE],
      [at + SLOT_ROOM + ROOM_STEP, ROOM_PART, virtq.VIRTQ_DESC_F_WRITE],
    ]);
    return slot;
  }

  /** What was written into a chain's room. */
  answer(slot: number, byteLength: number): Uint8Array {
    const at = slotAt(slot) + SLOT_ROOM;
    const room = [at, at + ROOM_STEP].flatMap((part) => [...this.bytes.subarray(part, part + ROOM_PART)]);
    return Uint8Array.from(room.slice(0, byteLength));
  }

  status(slot: number): number {
    return this.view.getUint8(slotAt(slot) + SLOT_STATUS);
  }

  data(slot: number, byteLength: number): Uint8Array {
    const start = slotAt(slot) + SLOT_DATA;
    return this.bytes.slice(start, start + byteLength);
  }

  /** What the device has used since this was last asked, in its order. */
  takeUsed(): Used[] {
    const used: Used[] = [];
    for (let one = this.nextUsedOne(); one; one = this.nextUsedOne()) {
      used.push(one);
      this.free.push(one.slot);
    }
    return used;
  }

  private submit(type: number, sector: number, byteLength: number, data?: Uint8Array): number {
    const slot = this.takeSlot();
    const at = slotAt(slot);
    this.view.setUint32(at + blk.BLK_HEADER_TYPE, type, true);
    this.view.setBigUint64(at + blk.BLK_HEADER_SECTOR, BigInt(sector), true);
    this.view.setUint8(at + SLOT_STATUS, 0xff);
    if (data) this.bytes.set(data, at + SLOT_DATA);
    const dataFlags = data ? 0 : virtq.VIRTQ_DESC_F_WRITE;
    this.add(slot, [
      [at, blk.BLK_HEADER_SIZE, 0],
      [at + SLOT_DATA, byteLength, dataFlags],
      [at + SLOT_STATUS, 1, virtq.VIRTQ_DESC_F_WRITE],
    ]);
    return slot;
  }

  private takeSlot(): number {
    const slot = this.free.shift();
    if (slot === undefined) throw new Error("all slots are in use");
    return slot;
  }

  private add(slot: number, chain: Buffer[]): void {
    if (this.format === "packed") this.addPacked(slot, chain);
    else this.addSplit(slot, chain);
  }

  /** Each slot has its own three descriptors, so its head says which it is. */
  private addSplit(slot: number, chain: Buffer[]): void {
    const head = slot * CHAIN;
    chain.forEach((buffer, i) => {
      const desc = DESC + (head + i) * virtq.DESC_SIZE;
      const hasNext = i + 1 < chain.length;
      this.writeBuffer(desc, buffer);
      this.view.setUint16(desc + virtq.DESC_FLAGS, buffer[2] | (hasNext ? virtq.VIRTQ_DESC_F_NEXT : 0), true);
      this.view.setUint16(desc + virtq.DESC_NEXT, head + i + 1, true);
    });
    const entry = DRIVER + virtq.AVAIL_RING + (this.nextAvail % RING_SIZE) * virtq.AVAIL_RING_ENTRY_SIZE;
    this.view.setUint16(entry, head, true);
    this.nextAvail = (this.nextAvail + 1) & 0xffff;
    // Last: the device goes by it.
    this.view.setUint16(DRIVER + virtq.AVAIL_IDX, this.nextAvail, true);
  }

  /** The slot is the buffer id. The flags of the first descriptor are written last: the device goes by them. */
  private addPacked(slot: number, chain: Buffer[]): void {
    const flagsToWrite: [at: number, flags: number][] = [];
    chain.forEach((buffer, i) => {
      const desc = DESC + this.nextAvail * virtq.PACKED_DESC_SIZE;
      const next = i + 1 < chain.length ? virtq.VIRTQ_DESC_F_NEXT : 0;
      const lap = this.availWrap ? virtq.VIRTQ_DESC_F_AVAIL : virtq.VIRTQ_DESC_F_USED;
      this.writeBuffer(desc, buffer);
      this.view.setUint16(desc + virtq.PACKED_DESC_ID, slot, true);
      flagsToWrite.unshift([desc + virtq.PACKED_DESC_FLAGS, buffer[2] | next | lap]);
      if (++this.nextAvail === RING_SIZE) {
        this.nextAvail = 0;
        this.availWrap = !this.availWrap;
      }
    });
    for (const [at, flags] of flagsToWrite) this.view.setUint16(at, flags, true);
  }

  private writeBuffer(desc: number, [offset, byteLength]: Buffer): void {
    this.view.setBigUint64(desc + virtq.DESC_ADDR, this.ram.gpa + BigInt(offset), true);
    this.view.setUint32(desc + virtq.DESC_LEN, byteLength, true);
  }

  private nextUsedOne(): Used | undefined {
    return this.format === "packed" ? this.nextPackedUsed() : this.nextSplitUsed();
  }

  private nextSplitUsed(): Used | undefined {
    if (this.view.getUint16(DEVICE + virtq.USED_IDX, true) === this.nextUsed) return undefined;
    const element = DEVICE + virtq.USED_RING + (this.nextUsed % RING_SIZE) * virtq.USED_ELEM_SIZE;
    this.nextUsed = (this.nextUsed + 1) & 0xffff;
    return {
      slot: this.view.getUint32(element + virtq.USED_ELEM_ID, true) / CHAIN,
      writtenBytes: this.view.getUint32(element + virtq.USED_ELEM_LEN, true),
    };
  }

  private nextPackedUsed(): Used | undefined {
    const desc = DESC + this.nextUsed * virtq.PACKED_DESC_SIZE;
    const flags = this.view.getUint16(desc + virtq.PACKED_DESC_FLAGS, true);
    const isAvail = (flags & virtq.VIRTQ_DESC_F_AVAIL) !== 0;
    const isUsed = (flags & virtq.VIRTQ_DESC_F_USED) !== 0;
    if (isAvail !== this.usedWrap || isUsed !== this.usedWrap) return undefined;
    this.nextUsed += CHAIN;
    if (this.nextUsed >= RING_SIZE) {
      this.nextUsed -= RING_SIZE;
      this.usedWrap = !this.usedWrap;
    }
    return {
      slot: this.view.getUint16(desc + virtq.PACKED_DESC_ID, true),
      writtenBytes: this.view.getUint32(desc + virtq.PACKED_DESC_LEN, true),
    };
  }
}

/** Offset in guest memory, length, VIRTQ_DESC_F_WRITE or 0. */
type Buffer = [offset: number, byteLength: number, flags: number];

function slotAt(slot: number): number {
  return FIRST_SLOT + slot * SLOT_STRIDE;
}
