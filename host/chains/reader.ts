// The readable part of a descriptor chain, as numbers, copies and views.
import type { ChainReader } from "../devices/device.ts";
import type { ChainCursor } from "./cursor.ts";

const number = new DataView(new ArrayBuffer(8));
const numberBytes = new Uint8Array(number.buffer);

export class BufferReader implements ChainReader {
  constructor(private readonly cursor: ChainCursor) {}

  get left(): number {
    return this.cursor.left;
  }

  u8(): number {
    return this.load(1).getUint8(0);
  }

  u16(): number {
    return this.load(2).getUint16(0, true);
  }

  u32(): number {
    return this.load(4).getUint32(0, true);
  }

  u64(): bigint {
    return this.load(8).getBigUint64(0, true);
  }

  bytes(byteLength: number): Uint8Array {
    // Before memory is taken: the length may be the guest's.
    this.cursor.check(byteLength);
    const bytes = new Uint8Array(byteLength);
    this.cursor.copyTo(bytes);
    return bytes;
  }

  views(byteLength: number): Uint8Array[] {
    return this.cursor.views(byteLength);
  }

  rest(): Uint8Array[] {
    return this.views(this.left);
  }

  private load(byteLength: number): DataView {
    this.cursor.copyTo(numberBytes, byteLength);
    return number;
  }
}
