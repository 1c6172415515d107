// A driver for tests that stop the core anywhere. All that it knows lies in guest memory beside its rings, so a copy of
// guest memory is a copy of the driver too.
import {
  BLK_HEADER_SECTOR,
  BLK_HEADER_TYPE,
  RANGE_NUM_SECTORS,
  RANGE_SECTOR,
} from "../../assembly/spec/virtio-blk.ts";
import {
  AVAIL_IDX,
  AVAIL_RING,
  DESC_ADDR,
  DESC_FLAGS,
  DESC_LEN,
  DESC_NEXT,
  DESC_SIZE,
  EVENT_FLAGS,
  EVENT_OFF_WRAP,
  PACKED_DESC_FLAGS,
  PACKED_DESC_ID,
  PACKED_DESC_LEN,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  USED_ELEM_SIZE,
  USED_FIXED_SIZE,
  USED_FLAGS,
  USED_IDX,
  USED_RING,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../../assembly/spec/virtqueue.ts";
import { DATA_GPA, GUEST_GPA } from "./core-harness.ts";
import {
  ALL_KINDS,
  AREA_HEADER,
  AREA_RANGE,
  AREA_SIZE,
  AREA_STATUS,
  type Buffer,
  expectedLength,
  expectedStatus,
  isImmediate,
  type Kind,
  sectorOf,
} from "./scripted-requests.ts";

export interface RingShape {
  size: number;
  isPacked: boolean;
  hasEventIdx: boolean;
}

/** The largest ring that the places below have room for. */
export const RING_SIZE_MAX = 8;
const TABLE_SIZE = 4 * DESC_SIZE;

/** Places in guest memory. */
const DESC_RING = 0;
const DRIVER_AREA = 0x100;
const DEVICE_AREA = 0x140;
const TABLES = 0x1c0;
const AREAS = TABLES + RING_SIZE_MAX * TABLE_SIZE;
const STATE = AREAS + RING_SIZE_MAX * AREA_SIZE;
/** Of what driver and device share. */
export const RINGS_SIZE = STATE;
const STATE_WORDS = 48;
export const DRIVER_SIZE = STATE + 4 * STATE_WORDS;

/** Words of the driver's own state. */
const NEXT_SERIAL = 0;
const COMPLETED = 1;
const NEXT_AVAIL = 2;
const AVAIL_WRAP = 3;
const NEXT_USED = 4;
const USED_WRAP = 5;
const FREE_COUNT = 6;
const FIRST_FREE = 7;
const ADDED_SINCE_KICK = 8;
const PENDING_SLOT = 9;
const PENDING_FLAGS = 10;
const KICKED = 11;
const CALLED = 12;
const FREE_IDS = 13;
/** By token, which is a head or a buffer id. */
const SERIAL_OF = 16;
const ENTRIES_OF = SERIAL_OF + RING_SIZE_MAX;
const KIND_OF = ENTRIES_OF + RING_SIZE_MAX;
/** Split: the link of a descriptor. Packed: a stack of free buffer ids. */
const LINKS = KIND_OF + RING_SIZE_MAX;

const NONE = -1;
const WRAP_BIT = 0x8000;
const LAP_BITS = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
const UNWRITTEN_STATUS = 0xff;
/** What a driver does with memory that it has back: anything. */
const REUSED = 0xee;

/** How a request must end; a status of undefined is one that nobody writes. */
export type Outcome = (kind: Kind, serial: number) => { status: number | undefined; length: number };

export interface Outstanding {
  token: number;
  serial: number;
  kind: Kind;
}

export abstract class ScriptedDriver {
  /** Asked when a request is used. */
  outcomeOf: Outcome = (kind, serial) => ({
    status: expectedStatus(kind, serial),
    length: expectedLength(kind, serial),
  });
  protected readonly state: Int32Array;
  protected readonly bytes: Uint8Array;

  constructor(
    protected readonly view: DataView,
    /** Where the driver's guest memory begins in linear memory. */
    readonly ptr: number,
    readonly shape: RingShape,
  ) {
    this.state = new Int32Array(view.buffer, ptr + STATE, STATE_WORDS);
    this.bytes = new Uint8Array(view.buffer);
  }

  /** A ring that nobody has used, whose indices begin at `start`. */
  reset(start: number): void {
    this.fill(this.ptr, DRIVER_SIZE, 0);
    const { state } = this;
    state[NEXT_AVAIL] = state[NEXT_USED] = start;
    state[AVAIL_WRAP] = state[USED_WRAP] = 1;
    state[FREE_COUNT] = this.shape.size;
    state[PENDING_SLOT] = NONE;
    state.fill(NONE, SERIAL_OF, SERIAL_OF + RING_SIZE_MAX);
    this.resetRing();
    this.armCalls();
  }

  protected abstract resetRing(): void;
  /** Whether the device wants to be told of what was added since it last was. */
  protected abstract takeKickWish(): boolean;
  protected abstract showAdded(): void;
  protected abstract reserve(entries: number): number;
  protected abstract writeChain(token: number, buffers: [gpa: number, buffer: Buffer][]): void;
  protected abstract writeIndirect(token: number, buffers: [gpa: number, buffer: Buffer][]): void;
  protected abstract release(token: number): void;
  /** The token and length at the `ahead`th used chain from here; undefined if there are no more. */
  protected abstract usedAt(ahead: number): { token: number; length: number } | undefined;
  protected abstract moveUsed(entries: number): void;
  /** Asks for a call at the next used chain. */
  protected abstract armCalls(): void;
  /** Whether the device may write there at any time: its part of the ring. */
  abstract isDevicePart(address: number): boolean;

  get descPtr(): number {
    return this.ptr + DESC_RING;
  }

  get driverPtr(): number {
    return this.ptr + DRIVER_AREA;
  }

  get devicePtr(): number {
    return this.ptr + DEVICE_AREA;
  }

  get added(): number {
    return this.state[NEXT_SERIAL]!;
  }

  get completed(): number {
    return this.state[COMPLETED]!;
  }

  get nextUsed(): number {
    return this.state[NEXT_USED]!;
  }

  get usedWrap(): number {
    return this.state[USED_WRAP]!;
  }

  /** The kick eventfd: takes what was written to it. */
  takeKick(): boolean {
    const isKicked = this.state[KICKED] !== 0;
    this.state[KICKED] = 0;
    return isKicked;
  }

  /** The call eventfd was written. */
  call(): void {
    this.state[CALLED] = 1;
  }

  get isCalled(): boolean {
    return this.state[CALLED] !== 0;
  }

  hasUsed(): boolean {
    return this.usedAt(0) !== undefined;
  }

  hasRoom(kind: Kind): boolean {
    return entriesOf(kind) <= this.state[FREE_COUNT]!;
  }

  /** Adds a request, which the device sees after publish(). */
  add(kind: Kind): void {
    const { state } = this;
    const serial = state[NEXT_SERIAL]!++;
    const token = this.reserve(entriesOf(kind));
    state[SERIAL_OF + token] = serial;
    state[ENTRIES_OF + token] = entriesOf(kind);
    state[KIND_OF + token] = ALL_KINDS.indexOf(kind);
    this.writeArea(token, kind, serial);
    const buffers = kind.buffers.map((buffer): [number, Buffer] => [
      this.gpaOf(token, serial, buffer),
      buffer,
    ]);
    if (kind.isIndirect) this.writeIndirect(token, buffers);
    else this.writeChain(token, buffers);
  }

  publish(): void {
    this.showAdded();
    if (this.takeKickWish()) this.state[KICKED] = 1;
  }

  /** Takes used chains, up to `most` of them, and checks that each is owed and ended as it should. */
  consume(most: number): void {
    this.state[CALLED] = 0;
    for (let i = 0; i < most; i++) {
      const used = this.usedAt(0);
      if (used === undefined) break;
      this.check(used.token, used.length);
      this.moveUsed(this.state[ENTRIES_OF + used.token]!);
      this.giveBack(used.token);
    }
    this.armCalls();
  }

  /** All requests that are not completed for the driver, as it sees the ring, in the order it made them available. */
  outstanding(): Outstanding[] {
    const { state } = this;
    const all: Outstanding[] = [];
    for (let token = 0; token < this.shape.size; token++) {
      const serial = state[SERIAL_OF + token]!;
      if (serial === NONE || this.isUsed(token)) continue;
      all.push({ token, serial, kind: ALL_KINDS[state[KIND_OF + token]!]! });
    }
    return all.sort((a, b) => a.serial - b.serial);
  }

  /** The buffers of a request in flight, in the order of its chain. */
  buffersOf({ token, serial, kind }: Outstanding): { gpa: number; length: number; writable: boolean }[] {
    return kind.buffers.map((buffer) => ({
      gpa: this.gpaOf(token, serial, buffer),
      length: buffer.length,
      writable: buffer.writable,
    }));
  }

  /** The device may write a status byte only as long as the request is its own. */
  isOwedStatus(address: number): boolean {
    const offset = address - (this.ptr + AREAS);
    const token = Math.floor(offset / AREA_SIZE);
    if (token < 0 || token >= this.shape.size || offset % AREA_SIZE !== AREA_STATUS) return false;
    return this.state[SERIAL_OF + token] !== NONE && !this.isUsed(token);
  }

  protected get freeCount(): number {
    return this.state[FREE_COUNT]!;
  }

  protected ptrOfTable(token: number): number {
    return this.ptr + TABLES + token * TABLE_SIZE;
  }

  protected gpaOfTable(token: number): number {
    return GUEST_GPA + TABLES + token * TABLE_SIZE;
  }

  protected writeAddrLen(desc: number, gpa: number, length: number): void {
    this.view.setBigUint64(desc + DESC_ADDR, BigInt(gpa), true);
    this.view.setUint32(desc + DESC_LEN, length, true);
  }

  protected fill(address: number, byteLength: number, value: number): void {
    this.bytes.fill(value, address, address + byteLength);
  }

  private isUsed(token: number): boolean {
    for (let i = 0; i < this.shape.size; i++) {
      const used = this.usedAt(i);
      if (used === undefined) return false;
      if (used.token === token) return true;
    }
    return false;
  }

  private check(token: number, length: number): void {
    const serial = token < this.shape.size ? this.state[SERIAL_OF + token]! : NONE;
    if (serial === NONE) throw new Error(`${token} was used, which is not in flight`);
    const kind = ALL_KINDS[this.state[KIND_OF + token]!]!;
    const name = `request ${serial} (${kind.name})`;
    const expected = this.outcomeOf(kind, serial);
    if (length !== expected.length) {
      throw new Error(`${name} was used with length ${length}, not ${expected.length}`);
    }
    const status = expected.status ?? UNWRITTEN_STATUS;
    const found = this.view.getUint8(this.areaPtr(token) + AREA_STATUS);
    if (found !== status) throw new Error(`${name} has status ${found}, not ${status}`);
  }

  private giveBack(token: number): void {
    const { state } = this;
    this.fill(this.areaPtr(token), AREA_SIZE, REUSED);
    this.fill(this.ptrOfTable(token), TABLE_SIZE, REUSED);
    this.release(token);
    state[FREE_COUNT]! += state[ENTRIES_OF + token]!;
    state[SERIAL_OF + token] = NONE;
    state[COMPLETED]!++;
  }

  private areaPtr(token: number): number {
    return this.ptr + AREAS + token * AREA_SIZE;
  }

  private gpaOf(token: number, serial: number, buffer: Buffer): number {
    return buffer.where === "data"
      ? dataGpa(serial) + buffer.offset
      : GUEST_GPA + AREAS + token * AREA_SIZE + buffer.offset;
  }

  private writeArea(token: number, kind: Kind, serial: number): void {
    const { view } = this;
    const area = this.areaPtr(token);
    const sector = BigInt(sectorOf(kind, serial));
    view.setUint32(area + AREA_HEADER + BLK_HEADER_TYPE, kind.type, true);
    view.setBigUint64(area + AREA_HEADER + BLK_HEADER_SECTOR, sector, true);
    view.setBigUint64(area + AREA_RANGE + RANGE_SECTOR, sector, true);
    // The flags behind it are 0.
    view.setBigUint64(area + AREA_RANGE + RANGE_NUM_SECTORS, 1n, true);
    view.setUint8(area + AREA_STATUS, UNWRITTEN_STATUS);
  }
}

/** Where a request's data lies: memory that the core never touches. */
export function dataGpa(serial: number): number {
  return DATA_GPA + (serial % 256) * 0x1000;
}

function entriesOf(kind: Kind): number {
  return kind.isIndirect ? 1 : kind.buffers.length;
}

/** vring_need_event() (virtio 1.4, 2.7.10). */
function passedEvent(event: number, after: number, before: number): boolean {
  return ((after - event - 1) & 0xffff) < ((after - before) & 0xffff);
}

export class ScriptedSplitDriver extends ScriptedDriver {
  protected resetRing(): void {
    const { state, shape } = this;
    for (let i = 0; i < shape.size; i++) state[LINKS + i] = i + 1;
    this.setAvailIdx(state[NEXT_AVAIL]!);
    this.view.setUint16(this.devicePtr + USED_IDX, state[NEXT_USED]!, true);
  }

  protected takeKickWish(): boolean {
    const { state, view, shape } = this;
    const after = state[NEXT_AVAIL]!;
    const before = after - state[ADDED_SINCE_KICK]!;
    state[ADDED_SINCE_KICK] = 0;
    if (!shape.hasEventIdx) {
      return (view.getUint16(this.devicePtr + USED_FLAGS, true) & VIRTQ_USED_F_NO_NOTIFY) === 0;
    }
    const event = view.getUint16(this.devicePtr + USED_RING + shape.size * USED_ELEM_SIZE, true);
    return passedEvent(event, after, before);
  }

  protected showAdded(): void {
    this.setAvailIdx(this.state[NEXT_AVAIL]!);
  }

  protected reserve(entries: number): number {
    const { state } = this;
    const head = state[FIRST_FREE]!;
    for (let i = 0; i < entries; i++) state[FIRST_FREE] = state[LINKS + state[FIRST_FREE]!]!;
    state[FREE_COUNT]! -= entries;
    return head;
  }

  protected writeChain(token: number, buffers: [number, Buffer][]): void {
    let index = token;
    buffers.forEach(([gpa, buffer], i) => {
      const next = this.state[LINKS + index]!;
      this.writeLinked(this.descPtr + index * DESC_SIZE, gpa, buffer, i + 1 < buffers.length ? next : NONE);
      index = next;
    });
    this.makeAvailable(token);
  }

  protected writeIndirect(token: number, buffers: [number, Buffer][]): void {
    const table = this.ptrOfTable(token);
    buffers.forEach(([gpa, buffer], i) => {
      this.writeLinked(table + i * DESC_SIZE, gpa, buffer, i + 1 < buffers.length ? i + 1 : NONE);
    });
    const desc = this.descPtr + token * DESC_SIZE;
    this.writeAddrLen(desc, this.gpaOfTable(token), buffers.length * DESC_SIZE);
    this.view.setUint16(desc + DESC_FLAGS, VIRTQ_DESC_F_INDIRECT, true);
    this.makeAvailable(token);
  }

  /** The freed descriptors are spoilt, since nobody may read them any more. */
  protected release(token: number): void {
    const { state } = this;
    let last = token;
    for (let i = 0; ; i++) {
      this.fill(this.descPtr + last * DESC_SIZE, DESC_SIZE, REUSED);
      if (i + 1 === state[ENTRIES_OF + token]) break;
      last = state[LINKS + last]!;
    }
    state[LINKS + last] = state[FIRST_FREE]!;
    state[FIRST_FREE] = token;
  }

  protected usedAt(ahead: number): { token: number; length: number } | undefined {
    const { view } = this;
    const at = (this.nextUsed + ahead) & 0xffff;
    const visible = (view.getUint16(this.devicePtr + USED_IDX, true) - this.nextUsed) & 0xffff;
    if (visible > this.shape.size) throw new Error(`used.idx is ${visible} ahead of the driver`);
    if (ahead >= visible) return undefined;
    const element = this.devicePtr + USED_RING + (at & (this.shape.size - 1)) * USED_ELEM_SIZE;
    return { token: view.getUint32(element, true), length: view.getUint32(element + 4, true) };
  }

  protected moveUsed(): void {
    this.state[NEXT_USED] = (this.nextUsed + 1) & 0xffff;
  }

  protected armCalls(): void {
    const usedEvent = this.driverPtr + AVAIL_RING + this.shape.size * 2;
    if (this.shape.hasEventIdx) this.view.setUint16(usedEvent, this.nextUsed, true);
  }

  isDevicePart(address: number): boolean {
    const offset = address - this.devicePtr;
    return offset >= 0 && offset < USED_FIXED_SIZE + this.shape.size * USED_ELEM_SIZE;
  }

  private writeLinked(desc: number, gpa: number, buffer: Buffer, next: number): void {
    this.writeAddrLen(desc, gpa, buffer.length);
    const flags = (buffer.writable ? VIRTQ_DESC_F_WRITE : 0) | (next === NONE ? 0 : VIRTQ_DESC_F_NEXT);
    this.view.setUint16(desc + DESC_FLAGS, flags, true);
    this.view.setUint16(desc + DESC_NEXT, next === NONE ? 0 : next, true);
  }

  private makeAvailable(head: number): void {
    const { state } = this;
    const slot = state[NEXT_AVAIL]! & (this.shape.size - 1);
    this.view.setUint16(this.driverPtr + AVAIL_RING + slot * 2, head, true);
    state[NEXT_AVAIL] = (state[NEXT_AVAIL]! + 1) & 0xffff;
    state[ADDED_SINCE_KICK]!++;
  }

  private setAvailIdx(idx: number): void {
    this.view.setUint16(this.driverPtr + AVAIL_IDX, idx, true);
  }
}

export class ScriptedPackedDriver extends ScriptedDriver {
  protected resetRing(): void {
    const { state, shape } = this;
    for (let i = 0; i < shape.size; i++) state[LINKS + i] = shape.size - 1 - i;
    state[FREE_IDS] = shape.size;
  }

  protected takeKickWish(): boolean {
    const { state, view, shape } = this;
    const after = state[NEXT_AVAIL]!;
    const before = after - state[ADDED_SINCE_KICK]!;
    state[ADDED_SINCE_KICK] = 0;
    const flags = view.getUint16(this.devicePtr + EVENT_FLAGS, true);
    if (flags !== RING_EVENT_FLAGS_DESC) return flags !== RING_EVENT_FLAGS_DISABLE;
    const event = view.getUint16(this.devicePtr + EVENT_OFF_WRAP, true);
    const isThisLap = event >> 15 === state[AVAIL_WRAP];
    return passedEvent((event & (WRAP_BIT - 1)) - (isThisLap ? 0 : shape.size), after, before);
  }

  protected showAdded(): void {
    const { state } = this;
    if (state[PENDING_SLOT] === NONE) return;
    this.view.setUint16(this.slotPtr(state[PENDING_SLOT]!) + PACKED_DESC_FLAGS, state[PENDING_FLAGS]!, true);
    state[PENDING_SLOT] = NONE;
  }

  protected reserve(entries: number): number {
    const { state } = this;
    state[FREE_COUNT]! -= entries;
    state[FREE_IDS]!--;
    return state[LINKS + state[FREE_IDS]!]!;
  }

  protected writeChain(token: number, buffers: [number, Buffer][]): void {
    buffers.forEach(([gpa, buffer], i) => {
      const hasNext = i + 1 < buffers.length;
      const flags = (buffer.writable ? VIRTQ_DESC_F_WRITE : 0) | (hasNext ? VIRTQ_DESC_F_NEXT : 0);
      this.writeNext(token, gpa, buffer.length, flags);
    });
  }

  /** A table has no links and no identifiers: its descriptors follow one another (2.8.7). */
  protected writeIndirect(token: number, buffers: [number, Buffer][]): void {
    buffers.forEach(([gpa, buffer], i) => {
      const desc = this.ptrOfTable(token) + i * DESC_SIZE;
      this.writeAddrLen(desc, gpa, buffer.length);
      this.view.setUint16(desc + PACKED_DESC_FLAGS, buffer.writable ? VIRTQ_DESC_F_WRITE : 0, true);
    });
    this.writeNext(token, this.gpaOfTable(token), buffers.length * DESC_SIZE, VIRTQ_DESC_F_INDIRECT);
  }

  protected release(token: number): void {
    const { state } = this;
    state[LINKS + state[FREE_IDS]!] = token;
    state[FREE_IDS]!++;
  }

  protected usedAt(ahead: number): { token: number; length: number } | undefined {
    let slot = this.nextUsed;
    let wrap = this.usedWrap;
    for (let i = 0; ; i++) {
      const flags = this.view.getUint16(this.slotPtr(slot) + PACKED_DESC_FLAGS, true);
      // Both bits equal the wrap counter (2.8.1).
      if ((flags & LAP_BITS) !== (wrap === 0 ? 0 : LAP_BITS)) return undefined;
      const token = this.view.getUint16(this.slotPtr(slot) + PACKED_DESC_ID, true);
      if (i === ahead)
        return { token, length: this.view.getUint32(this.slotPtr(slot) + PACKED_DESC_LEN, true) };
      const entries = this.state[SERIAL_OF + token] === NONE ? 0 : (this.state[ENTRIES_OF + token] ?? 0);
      if (entries === 0) throw new Error(`${token} was used, which is not in flight`);
      slot += entries;
      if (slot < this.shape.size) continue;
      slot -= this.shape.size;
      wrap ^= 1;
    }
  }

  protected moveUsed(entries: number): void {
    const { state } = this;
    state[NEXT_USED]! += entries;
    if (state[NEXT_USED]! < this.shape.size) return;
    state[NEXT_USED]! -= this.shape.size;
    state[USED_WRAP]! ^= 1;
  }

  protected armCalls(): void {
    if (!this.shape.hasEventIdx) return;
    const offWrap = this.nextUsed | (this.usedWrap === 0 ? 0 : WRAP_BIT);
    this.view.setUint16(this.driverPtr + EVENT_OFF_WRAP, offWrap, true);
    this.view.setUint16(this.driverPtr + EVENT_FLAGS, RING_EVENT_FLAGS_DESC, true);
  }

  isDevicePart(address: number): boolean {
    const inRing = address - this.descPtr;
    const inEvent = address - this.devicePtr;
    return (inRing >= 0 && inRing < this.shape.size * DESC_SIZE) || (inEvent >= 0 && inEvent < 4);
  }

  private slotPtr(slot: number): number {
    return this.descPtr + slot * DESC_SIZE;
  }

  private writeNext(token: number, gpa: number, length: number, ownFlags: number): void {
    const { state } = this;
    const slot = state[NEXT_AVAIL]!;
    const flags = ownFlags | (state[AVAIL_WRAP] === 0 ? VIRTQ_DESC_F_USED : VIRTQ_DESC_F_AVAIL);
    this.writeAddrLen(this.slotPtr(slot), gpa, length);
    this.view.setUint16(this.slotPtr(slot) + PACKED_DESC_ID, token, true);
    if (state[PENDING_SLOT] === NONE) {
      // The first descriptor's flags make the whole batch available, so they are written last.
      state[PENDING_SLOT] = slot;
      state[PENDING_FLAGS] = flags;
    } else {
      this.view.setUint16(this.slotPtr(slot) + PACKED_DESC_FLAGS, flags, true);
    }
    state[ADDED_SINCE_KICK]!++;
    state[NEXT_AVAIL]!++;
    if (state[NEXT_AVAIL]! < this.shape.size) return;
    state[NEXT_AVAIL] = 0;
    state[AVAIL_WRAP]! ^= 1;
  }
}

export function createDriver(view: DataView, ptr: number, shape: RingShape): ScriptedDriver {
  return shape.isPacked
    ? new ScriptedPackedDriver(view, ptr, shape)
    : new ScriptedSplitDriver(view, ptr, shape);
}

/** Those that need an operation: each must lead to exactly one, in this order. */
export function withOperations(requests: readonly Outstanding[]): Outstanding[] {
  return requests.filter(({ kind }) => !isImmediate(kind));
}
