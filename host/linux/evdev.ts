// Event devices (<linux/input.h>): what one is, its events, and holding it for oneself. It knows nothing of who wants them.
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import {
  ABS_CNT,
  ABS_MT_SLOT,
  EV_ABS,
  EV_CNT,
  EV_KEY,
  EV_LED,
  EV_MSC,
  EV_REL,
  EV_REP,
  EV_SND,
  EV_SW,
  EV_SYN,
  INPUT_PROP_CNT,
  KEY_CNT,
} from "./input-event-codes.ts";
import * as libc from "./libc.ts";

export interface InputEvent {
  readonly type: number;
  readonly code: number;
  /** Signed. */
  readonly value: number;
}

/** struct input_absinfo, without the value. */
export interface AxisRange {
  readonly minimum: number;
  readonly maximum: number;
  readonly fuzz: number;
  readonly flat: number;
  readonly resolution: number;
}

/** What a device is, and which events can come from it or go to it. */
export interface InputDescription {
  readonly name: Uint8Array;
  readonly serial: Uint8Array;
  readonly ids: { bustype: number; vendor: number; product: number; version: number };
  /** A bitmap, as are `codes`, by type. */
  readonly properties: Uint8Array;
  readonly codes: ReadonlyMap<number, Uint8Array>;
  /** By the axis' code. */
  readonly axes: ReadonlyMap<number, AxisRange>;
}

/** _IOC(_IOC_READ, 'E', number, byteLength). */
const reads = (number: number, byteLength: number) => 0x80000000 + (byteLength << 16) + (0x45 << 8) + number;
const EVIOCGVERSION = reads(0x01, 4);
const EVIOCGID = reads(0x02, 8);
const EVIOCGNAME = 0x06;
const EVIOCGUNIQ = 0x08;
const EVIOCGPROP = 0x09;
const EVIOCGKEY = 0x18;
const EVIOCGSW = 0x1b;
const EVIOCGBIT = 0x20;
const EVIOCGABS = 0x40;
const EVIOCGRAB = 0x40044590;

/** struct input_event: seconds and microseconds of 8 bytes each, type u16, code u16, value i32. */
export const INPUT_EVENT_SIZE = 24;
const EVENT_TYPE = 16;
const EVENT_CODE = 18;
const EVENT_VALUE = 20;
const EVENTS_A_READ = 64;

/** As many as a driver of virtio can be told. */
const TEXT_BYTES = 128;

/** Those whose codes the kernel tells. What a device does for force feedback takes more than events. */
const TYPES = [EV_KEY, EV_REL, EV_ABS, EV_MSC, EV_SW, EV_LED, EV_SND];

export class EventDevice {
  private readonly buffer = Buffer.alloc(EVENTS_A_READ * INPUT_EVENT_SIZE);

  private constructor(readonly fd: number) {}

  /** Never waits. Throws SystemError, or what Node throws; ENOTTY is of what is no event device. */
  static open(path: string): EventDevice {
    const { O_RDWR, O_NONBLOCK, O_NOCTTY } = constants;
    const device = new EventDevice(openSync(path, O_RDWR | O_NONBLOCK | O_NOCTTY));
    try {
      device.ask(EVIOCGVERSION, Buffer.alloc(4));
      return device;
    } catch (error) {
      device.close();
      throw error;
    }
  }

  describe(): InputDescription {
    const ids = this.ask(EVIOCGID, Buffer.alloc(8));
    const types = this.bits(EVIOCGBIT, EV_CNT);
    const codes = new Map<number, Uint8Array>(
      TYPES.map((type) => [type, this.bits(EVIOCGBIT + type, KEY_CNT)]),
    );
    // The kernel has no list of its codes, which are two: the delay, and the period.
    if (hasBit(types, EV_REP)) codes.set(EV_REP, Uint8Array.of(0b11));
    const axes = bitsOf(codes.get(EV_ABS)!).map((code): [number, AxisRange] => {
      // Where it stands is no part of what it is.
      const { value: _, ...range } = this.axis(code);
      return [code, range];
    });
    return {
      name: this.text(EVIOCGNAME),
      serial: this.text(EVIOCGUNIQ),
      ids: {
        bustype: ids.readUInt16LE(0),
        vendor: ids.readUInt16LE(2),
        product: ids.readUInt16LE(4),
        version: ids.readUInt16LE(6),
      },
      properties: this.bits(EVIOCGPROP, INPUT_PROP_CNT),
      codes,
      axes: new Map(axes),
    };
  }

  /**
   * Keys that are down, where switches are, and axes; not those of the fingers on a pad. Events of keys and switches that were not
   * read yet are gone then.
   */
  state(): InputEvent[] {
    const keys = this.keysDown().map((code) => ({ type: EV_KEY, code, value: 1 }));
    const switches = bitsOf(this.bits(EVIOCGSW, EV_CNT)).map((code) => ({ type: EV_SW, code, value: 1 }));
    const codes = bitsOf(this.bits(EVIOCGBIT + EV_ABS, ABS_CNT)).filter((code) => code < ABS_MT_SLOT);
    return [
      ...keys,
      ...switches,
      ...codes.map((code) => ({ type: EV_ABS, code, value: this.axis(code).value })),
    ];
  }

  /** Events of keys that were not read yet are gone then. */
  keysDown(): number[] {
    return bitsOf(this.bits(EVIOCGKEY, KEY_CNT));
  }

  /** Keeps its events from everybody else, until it is closed. Throws SystemError: EBUSY if somebody else does so. */
  grab(): void {
    // Not the number counts: that there is an argument.
    this.ask(EVIOCGRAB, Buffer.alloc(4));
  }

  /** The next events; none if there are none now. Throws ENODEV once the device has been unplugged. */
  read(): InputEvent[] {
    try {
      return decodeEvents(this.buffer.subarray(0, readSync(this.fd, this.buffer)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return [];
      throw error;
    }
  }

  /** Such as a light that is to go on. */
  write({ type, code, value }: InputEvent): void {
    const bytes = Buffer.alloc(INPUT_EVENT_SIZE);
    bytes.writeUInt16LE(type, EVENT_TYPE);
    bytes.writeUInt16LE(code, EVENT_CODE);
    bytes.writeInt32LE(value, EVENT_VALUE);
    writeSync(this.fd, bytes);
  }

  close(): void {
    closeSync(this.fd);
  }

  private bits(number: number, count: number): Buffer {
    const bytes = Buffer.alloc(count / 8);
    return this.ask(reads(number, bytes.length), bytes);
  }

  private text(number: number): Buffer {
    const bytes = Buffer.alloc(TEXT_BYTES + 1);
    // A device without a serial number has none, not an empty one.
    if (libc.ioctl(this.fd, reads(number, bytes.length), bytes) === -1) return Buffer.alloc(0);
    const end = bytes.indexOf(0);
    return bytes.subarray(0, Math.min(end === -1 ? TEXT_BYTES : end, TEXT_BYTES));
  }

  private axis(code: number): AxisRange & { value: number } {
    const numbers = this.ask(reads(EVIOCGABS + code, 24), Buffer.alloc(24));
    const [value, minimum, maximum, fuzz, flat, resolution] = new Int32Array(
      numbers.buffer,
      numbers.byteOffset,
      6,
    ) as unknown as [number, number, number, number, number, number];
    return { value, minimum, maximum, fuzz, flat, resolution };
  }

  private ask(request: number, bytes: Buffer): Buffer {
    libc.checked("ioctl", libc.ioctl(this.fd, request, bytes));
    return bytes;
  }
}

/** All whole ones of `size` bytes, of which the last 8 are what the event is. */
export function decodeEvents(bytes: Buffer, size = INPUT_EVENT_SIZE): InputEvent[] {
  return Array.from({ length: Math.floor(bytes.length / size) }, (_, i) => {
    const at = (i + 1) * size - INPUT_EVENT_SIZE;
    return {
      type: bytes.readUInt16LE(at + EVENT_TYPE),
      code: bytes.readUInt16LE(at + EVENT_CODE),
      value: bytes.readInt32LE(at + EVENT_VALUE),
    };
  });
}

/** Whether such a device has such events. Those that end groups are everybody's. */
export function hasEvent({ codes }: InputDescription, { type, code }: InputEvent): boolean {
  const bitmap = codes.get(type);
  return type === EV_SYN || (bitmap !== undefined && hasBit(bitmap, code));
}

/** Of a bitmap, whose first byte has the first eight. */
export function hasBit(bitmap: Uint8Array, bit: number): boolean {
  return ((bitmap[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0;
}

export function bitsOf(bitmap: Uint8Array): number[] {
  return Array.from({ length: bitmap.length * 8 }, (_, bit) => bit).filter((bit) => hasBit(bitmap, bit));
}

export function bitmapOf(bits: Iterable<number>): Uint8Array {
  const bitmap = new Uint8Array(KEY_CNT / 8);
  for (const bit of bits) bitmap[bit >> 3]! |= 1 << (bit & 7);
  return bitmap;
}
