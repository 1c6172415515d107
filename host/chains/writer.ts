// The writable part of a descriptor chain: stores, and the count of what was stored.
import type { ChainWriter } from "../devices/device.ts";
import type { ChainCursor } from "./cursor.ts";

const number = new DataView(new ArrayBuffer(8));
const numberBytes = new Uint8Array(number.buffer);

export class BufferWriter implements ChainWriter {
  constructor(private readonly cursor: ChainCursor) {}

  get left(): number {
    return this.cursor.left;
  }

  get written(): number {
    return this.cursor.passed;
  }

  u8(value: number): void {
    number.setUint8(0, value);
    this.store(1);
  }

  u16(value: number): void {
    number.setUint16(0, value, true);
    this.store(2);
  }

  u32(value: number): void {
    number.setUint32(0, value, true);
    this.store(4);
  }

  u64(value: bigint): void {
    number.setBigUint64(0, value, true);
    this.store(8);
  }

  bytes(bytes: Uint8Array): void {
    this.cursor.copyFrom(bytes);
  }

  views(byteLength: number): Uint8Array[] {
    return this.cursor.views(byteLength);
  }

  private store(byteLength: number): void {
    this.cursor.copyFrom(numberBytes, byteLength);
  }
}
