// The guest: its requests (virtio 1.4, 5.2.6), the buffers they use, and what has become of them.

import {
  BLK_HEADER_SECTOR,
  BLK_HEADER_SIZE,
  RANGE_NUM_SECTORS,
  RANGE_SECTOR,
  RANGE_SIZE,
  SECTOR_SIZE,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "../../assembly/spec/virtio-blk.ts";
import {
  DESC_ADDR,
  DESC_FLAGS,
  DESC_LEN,
  DESC_SIZE,
  PACKED_DESC_FLAGS,
} from "../../assembly/spec/virtqueue.ts";
import type { Segment } from "../driver/ring.ts";
import type { RingConfig } from "./config.ts";
import { type DemoRing, makeRing } from "./demo-ring.ts";
import { letters } from "./disk.ts";
import type { GuestMemory } from "./guest-memory.ts";
import { SLOT_SIZE, SLOTS_GPA } from "./memory-map.ts";

export type RequestKind = "read" | "write" | "flush" | "discard";

export interface Wish {
  kind: RequestKind;
  sector: number;
  sectorCount: number;
  isIndirect: boolean;
}

export interface GuestRequest extends Wish {
  serial: number;
  token: number;
  slot: number;
  /** What a write writes, or what a read has read. */
  letters: string;
  /** VIRTIO_BLK_S_*, once used. */
  status?: number;
  /** Given up when the guest reset its device. */
  isAbandoned?: true;
}

const TYPES = {
  read: VIRTIO_BLK_T_IN,
  write: VIRTIO_BLK_T_OUT,
  flush: VIRTIO_BLK_T_FLUSH,
  discard: VIRTIO_BLK_T_DISCARD,
};

/** A slot: header, status, ranges, indirect table, and two sectors that don't touch. */
const STATUS_AT = 0x10;
const RANGES_AT = 0x20;
const TABLE_AT = 0x40;
const DATA_AT = [0x200, 0x500];

/** What the status byte is before the device writes it: no status of the specification. */
export const STATUS_UNWRITTEN = 0xff;

export class Guest {
  readonly requests: GuestRequest[] = [];
  /** By place of a split ring's used ring: the request that was last taken back from there. */
  private readonly takenFrom: (number | undefined)[] = [];
  ring: DemoRing;

  constructor(
    readonly memory: GuestMemory,
    private readonly config: RingConfig,
  ) {
    memory.clear();
    this.ring = makeRing(this.memory, this.config);
  }

  get pending(): GuestRequest[] {
    return this.requests.filter(({ status, isAbandoned }) => status === undefined && !isAbandoned);
  }

  request(serial: number | undefined): GuestRequest | undefined {
    return serial === undefined ? undefined : this.requests[serial - 1];
  }

  lastUsed(place: number): number | undefined {
    return this.takenFrom[place];
  }

  hasRoomFor(wish: Wish): boolean {
    return this.ring.freeCount >= descriptorsOf(wish);
  }

  add(wish: Wish): GuestRequest {
    const serial = this.requests.length + 1;
    const slot = this.freeSlot();
    const letter = String.fromCharCode(0x41 + ((serial - 1) % 26));
    const segments = this.writeBuffers(wish, SLOTS_GPA + slot * SLOT_SIZE, letter.charCodeAt(0));
    const table = wish.isIndirect ? SLOTS_GPA + slot * SLOT_SIZE + TABLE_AT : undefined;
    const token = this.ring.add(segments, serial, table);
    const request = { ...wish, serial, token, slot, letters: wish.kind === "write" ? letter : "" };
    this.requests.push(request);
    return request;
  }

  /** Takes all that is used, and asks for a call at the next. */
  takeUsed(): { request: GuestRequest; byteLength: number }[] {
    const taken: ReturnType<Guest["takeUsed"]> = [];
    while (this.ring.hasUsed()) {
      const place = this.ring.position.used % this.config.size;
      const { token, byteLength } = this.ring.popUsed();
      const request = this.pending.find((candidate) => candidate.token === token);
      if (request === undefined) throw new Error(`the device used ${token}, which nobody waits for`);
      this.finish(request);
      this.takenFrom[place] = request.serial;
      taken.push({ request, byteLength });
    }
    this.ring.enableCalls();
    return taken;
  }

  /** Begins anew with an empty ring. Returns the requests that are given up. */
  reset(): GuestRequest[] {
    const abandoned = this.pending;
    for (const request of abandoned) request.isAbandoned = true;
    this.memory.clear();
    this.takenFrom.length = 0;
    this.ring = makeRing(this.memory, this.config);
    return abandoned;
  }

  /** The descriptors in a request's indirect table. */
  tableOf(request: GuestRequest): { gpa: number; byteLength: number; flags: number }[] {
    const table = SLOTS_GPA + request.slot * SLOT_SIZE + TABLE_AT;
    const flagsAt = this.config.isPacked ? PACKED_DESC_FLAGS : DESC_FLAGS;
    const count = descriptorsOf({ ...request, isIndirect: false });
    return Array.from({ length: count }, (_, i) => {
      const at = table + i * DESC_SIZE;
      return {
        gpa: this.memory.u64(at + DESC_ADDR),
        byteLength: this.memory.u32(at + DESC_LEN),
        flags: this.memory.u16(at + flagsAt),
      };
    });
  }

  private finish(request: GuestRequest): void {
    const at = SLOTS_GPA + request.slot * SLOT_SIZE;
    request.status = this.memory.u8(at + STATUS_AT);
    if (request.kind !== "read" || request.status !== VIRTIO_BLK_S_OK) return;
    const parts = DATA_AT.slice(0, request.sectorCount);
    request.letters = parts.map((offset) => letters(this.memory.bytes(at + offset, SECTOR_SIZE))).join(" ");
  }

  private freeSlot(): number {
    const taken = new Set(this.pending.map(({ slot }) => slot));
    let slot = 0;
    while (taken.has(slot)) slot++;
    return slot;
  }

  private writeBuffers(wish: Wish, at: number, letter: number): Segment[] {
    const { kind, sector, sectorCount } = wish;
    this.memory.bytes(at, SLOT_SIZE).fill(0);
    this.memory.setU32(at, TYPES[kind]);
    this.memory.setU64(at + BLK_HEADER_SECTOR, kind === "read" || kind === "write" ? sector : 0);
    this.memory.setU8(at + STATUS_AT, STATUS_UNWRITTEN);
    const header = { gpa: at, length: BLK_HEADER_SIZE, writable: false };
    const status = { gpa: at + STATUS_AT, length: 1, writable: true };
    if (kind === "flush") return [header, status];
    if (kind === "discard") return [header, this.writeRange(wish, at + RANGES_AT), status];
    const data = DATA_AT.slice(0, sectorCount).map((offset) => {
      this.memory.bytes(at + offset, SECTOR_SIZE).fill(kind === "write" ? letter : 0);
      return { gpa: at + offset, length: SECTOR_SIZE, writable: kind === "read" };
    });
    return [header, ...data, status];
  }

  private writeRange({ sector, sectorCount }: Wish, at: number): Segment {
    this.memory.setU64(at + RANGE_SECTOR, sector);
    this.memory.setU32(at + RANGE_NUM_SECTORS, sectorCount);
    return { gpa: at, length: RANGE_SIZE, writable: false };
  }
}

/** Places of the ring that a request takes. */
function descriptorsOf({ kind, sectorCount, isIndirect }: Wish): number {
  if (isIndirect) return 1;
  if (kind === "flush") return 2;
  return kind === "discard" ? 3 : 2 + sectorCount;
}

/** "write of sectors 3-4" */
export function nameOf({ kind, sector, sectorCount }: Wish): string {
  if (kind === "flush") return "flush";
  return `${kind} ${sectorCount === 1 ? `sector ${sector}` : `sectors ${sector}–${sector + sectorCount - 1}`}`;
}
