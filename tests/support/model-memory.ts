// A guest's memory for a core in this process: rings and tables in one window, data in another.
import assert from "node:assert/strict";
import type { RingMemory } from "../../host/driver/ring.ts";
import { DATA_GPA, DATA_PTR, GUEST_GPA, GUEST_PTR, GUEST_WINDOW_SIZE } from "./core-harness.ts";

/** For rings and tables; slots for data lie in memory of their own. */
export class ModelMemory implements RingMemory {
  private end = 0;

  constructor(private readonly memory: Uint8Array) {}

  allocate(byteLength: number): number {
    const offset = this.end;
    this.end += Math.ceil(byteLength / 16) * 16;
    assert.ok(this.end <= GUEST_WINDOW_SIZE);
    return GUEST_GPA + offset;
  }

  bytes(gpa: number, byteLength: number): Uint8Array<ArrayBuffer> {
    return this.memory.subarray(ptrOf(gpa), ptrOf(gpa) + byteLength) as Uint8Array<ArrayBuffer>;
  }
}

export function gpaOf(ptr: number): number {
  return ptr >= DATA_PTR ? DATA_GPA + (ptr - DATA_PTR) : GUEST_GPA + (ptr - GUEST_PTR);
}

export function ptrOf(gpa: number): number {
  return gpa >= DATA_GPA ? DATA_PTR + (gpa - DATA_GPA) : GUEST_PTR + (gpa - GUEST_GPA);
}
