// The guest's memory behind a resource: ranges by guest address, which are looked up anew at each use, since memory may come and go.
import { GPU_MEM_ENTRY_SIZE } from "../../assembly/spec/virtio-gpu.ts";
import type { DeviceMemory } from "../devices/device.ts";

export class Backing {
  /** In order, where ranges that follow each other in guest memory are one. */
  private readonly gpas: bigint[] = [];
  /** Where each ends, counted from the first byte of all. */
  private readonly ends: number[] = [];

  /** `entries`: of struct virtio_gpu_mem_entry. Throws RangeError where the guest has no memory. */
  constructor(
    private readonly memory: DeviceMemory,
    entries: Uint8Array,
  ) {
    const view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength);
    for (let at = 0; at < entries.length; at += GPU_MEM_ENTRY_SIZE)
      this.append(view.getBigUint64(at, true), view.getUint32(at + 8, true));
  }

  get byteLength(): number {
    return this.ends.at(-1) ?? 0;
  }

  get rangeCount(): number {
    return this.ends.length;
  }

  /** Copies bytes that there are. Throws RangeError where the guest has no memory any more. */
  copy(offset: number, into: Uint8Array): void {
    let at = offset;
    for (let index = this.rangeAt(offset), copied = 0; copied < into.length; index++) {
      const end = this.ends[index]!;
      const length = Math.min(end - at, into.length - copied);
      const gpa = this.gpas[index]! + BigInt(at - (this.ends[index - 1] ?? 0));
      for (const part of this.memory.buffers(gpa, length)) {
        into.set(part, copied);
        copied += part.length;
      }
      at = end;
    }
  }

  private append(gpa: bigint, byteLength: number): void {
    if (byteLength === 0) return;
    this.memory.buffers(gpa, byteLength);
    const { ends, gpas, byteLength: before } = this;
    const last = ends.length - 1;
    const begin = ends[last - 1] ?? 0;
    if (last >= 0 && gpas[last]! + BigInt(before - begin) === gpa) ends[last] = before + byteLength;
    else {
      gpas.push(gpa);
      ends.push(before + byteLength);
    }
  }

  /** The first that ends behind it. */
  private rangeAt(offset: number): number {
    let low = 0;
    for (let high = this.ends.length - 1; low < high; ) {
      const middle = (low + high) >> 1;
      if (this.ends[middle]! > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
