// A front-end's state as it lies in memory that outlives the process which writes it, at whatever instant that is killed.
//
//   0   u32  STATE_VERSION, of all that follows
//   4   u32  1: a request may have been read that was not answered, or answered and not written down here
//   8   two slots, of which the one that is written is never the one that counts:
//         0   u32  CRC-32 of all that follows in the slot
//         4   u32  sequence number, from 1: the higher one counts
//         8   u32  bytes of text
//        12   the text
//
// What a killed process has stored is there: its pages are the file's.
import { crc32 } from "node:zlib";
import { addressOf, checked, close, pread, pwrite } from "../../linux/libc.ts";
import { createMemfd } from "../../linux/memfd.ts";
import { STATE_VERSION } from "../messages.ts";

const READING = 4;
const SLOTS = 8;
const SLOT_HEADER = 12;
/** Far more than 509 regions and 256 rings take. What is not written takes no memory. */
const TEXT_MAX = 16 << 20;
const SLOT_SIZE = SLOT_HEADER + TEXT_MAX;

interface Slot {
  readonly sequence: number;
  readonly text: string;
}

export class StateRecord {
  private sequence = 0;

  private constructor(readonly fd: number) {}

  static create(): StateRecord {
    const record = new StateRecord(createMemfd("vringd-state", SLOTS + 2 * SLOT_SIZE));
    record.writeU32(STATE_VERSION, 0);
    record.markReading(true);
    return record;
  }

  /** As a predecessor has left it. Takes the descriptor. */
  static of(fd: number): StateRecord {
    return new StateRecord(fd);
  }

  /** What it says. Throws RangeError, which says why it can't be gone by. */
  read(): string {
    const version = this.readU32(0);
    if (version !== STATE_VERSION)
      throw new RangeError(`its state is of version ${version}, and this release knows ${STATE_VERSION}`);
    if (this.readU32(READING) !== 0)
      throw new RangeError("the process that had it has died amid one of its requests");
    const [last] = [this.slot(0), this.slot(1)]
      .filter((slot) => slot !== undefined)
      .sort((a, b) => b.sequence - a.sequence);
    if (last === undefined) throw new RangeError("its state is not whole");
    this.sequence = last.sequence;
    return last.text;
  }

  write(text: string): void {
    const bytes = Buffer.from(text);
    if (bytes.length > TEXT_MAX) throw new RangeError(`a state of ${bytes.length} bytes`);
    const slot = Buffer.alloc(SLOT_HEADER + bytes.length);
    slot.writeUInt32LE(++this.sequence, 4);
    slot.writeUInt32LE(bytes.length, 8);
    bytes.copy(slot, SLOT_HEADER);
    slot.writeUInt32LE(crc32(slot.subarray(4)), 0);
    this.writeAt(slot, positionOf(this.sequence));
  }

  markReading(isReading: boolean): void {
    this.writeU32(isReading ? 1 : 0, READING);
  }

  close(): void {
    close(this.fd);
  }

  private slot(place: number): Slot | undefined {
    const header = this.readAt(SLOT_HEADER, positionOf(place));
    const byteLength = header.readUInt32LE(8);
    if (byteLength > TEXT_MAX) return undefined;
    const slot = this.readAt(SLOT_HEADER + byteLength, positionOf(place));
    if (crc32(slot.subarray(4)) !== slot.readUInt32LE(0)) return undefined;
    const sequence = slot.readUInt32LE(4);
    return sequence === 0 ? undefined : { sequence, text: slot.toString("utf8", SLOT_HEADER) };
  }

  private readU32(position: number): number {
    return this.readAt(4, position).readUInt32LE(0);
  }

  private writeU32(value: number, position: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value, 0);
    this.writeAt(bytes, position);
  }

  /** What lies past the end is 0. */
  private readAt(byteLength: number, position: number): Buffer {
    const bytes = Buffer.alloc(byteLength);
    checked("pread", pread(this.fd, addressOf(bytes), byteLength, position));
    return bytes;
  }

  private writeAt(bytes: Buffer, position: number): void {
    checked("pwrite", pwrite(this.fd, addressOf(bytes), bytes.length, position));
  }
}

function positionOf(sequence: number): number {
  return SLOTS + (sequence % 2) * SLOT_SIZE;
}
