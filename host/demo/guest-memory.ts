// Guest memory as a driver sees it: little-endian fields at guest physical addresses.
import { GUEST_PTR, GUEST_SIZE, ptrOfGpa } from "./memory-map.ts";

export class GuestMemory {
  constructor(private readonly view: DataView) {}

  clear(): void {
    new Uint8Array(this.view.buffer, GUEST_PTR, GUEST_SIZE).fill(0);
  }

  bytes(gpa: number, byteLength: number): Uint8Array {
    return new Uint8Array(this.view.buffer, ptrOfGpa(gpa), byteLength);
  }

  u8(gpa: number): number {
    return this.view.getUint8(ptrOfGpa(gpa));
  }

  u16(gpa: number): number {
    return this.view.getUint16(ptrOfGpa(gpa), true);
  }

  u32(gpa: number): number {
    return this.view.getUint32(ptrOfGpa(gpa), true);
  }

  u64(gpa: number): number {
    return Number(this.view.getBigUint64(ptrOfGpa(gpa), true));
  }

  setU8(gpa: number, value: number): void {
    this.view.setUint8(ptrOfGpa(gpa), value);
  }

  setU32(gpa: number, value: number): void {
    this.view.setUint32(ptrOfGpa(gpa), value, true);
  }

  setU64(gpa: number, value: number): void {
    this.view.setBigUint64(ptrOfGpa(gpa), BigInt(value), true);
  }
}
