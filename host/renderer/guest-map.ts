// Guest memory as the renderer's process has it: mapped from the same descriptors, and looked up by guest address.
import { GPU_MEM_ENTRY_SIZE } from "../../assembly/spec/virtio-gpu.ts";
import { close } from "../linux/libc.ts";
import { mapShared, unmap } from "../linux/mapping.ts";
import type { Ranges } from "../linux/virglrenderer.ts";
import { whole } from "./messages.ts";

/** In SET_MEMORY. */
export const REGION_WORDS = 7;
const IOVEC_SIZE = 16;

interface Region {
  readonly gpa: bigint;
  readonly byteLength: bigint;
  /** Where `gpa` is. */
  readonly address: number;
  readonly mapped: { readonly address: number; readonly byteLength: number };
}

export class GuestMap {
  private regions: Region[] = [];

  /** Takes the descriptors. Nothing may point to what was mapped before. Throws SystemError, with nothing mapped. */
  replace(words: readonly number[], fds: readonly number[]): void {
    this.clear();
    try {
      for (const [i, fd] of fds.entries()) {
        const word = (at: number) => words[i * REGION_WORDS + at]!;
        const [gpa, byteLength, offset] = [0, 2, 4].map((at) => whole(word(at), word(at + 1)));
        this.regions.push(mapRegion(gpa!, byteLength!, offset!, word(6), fd));
      }
    } catch (error) {
      this.clear();
      throw error;
    } finally {
      for (const fd of fds) close(fd);
    }
  }

  clear(): void {
    for (const { mapped } of this.regions.splice(0)) unmap(mapped.address, mapped.byteLength);
  }

  /** `entries`: of struct virtio_gpu_mem_entry. Throws RangeError where there is no memory. */
  ranges(entries: Uint8Array): Ranges {
    const view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength);
    const spans: { address: number; byteLength: number }[] = [];
    for (let at = 0; at < entries.length; at += GPU_MEM_ENTRY_SIZE)
      this.append(spans, view.getBigUint64(at, true), view.getUint32(at + 8, true));
    const iovecs = new Uint8Array(new ArrayBuffer(spans.length * IOVEC_SIZE));
    const numbers = new BigUint64Array(iovecs.buffer);
    spans.forEach(({ address, byteLength }, i) => {
      numbers.set([BigInt(address), BigInt(byteLength)], i * 2);
    });
    return { iovecs, count: spans.length };
  }

  private append(spans: { address: number; byteLength: number }[], gpa: bigint, byteLength: number): void {
    for (let at = gpa, rest = byteLength; rest > 0; ) {
      const region = this.regions.find((each) => at >= each.gpa && at < each.gpa + each.byteLength);
      if (region === undefined) throw new RangeError(`the guest has no memory at 0x${at.toString(16)}`);
      const offset = Number(at - region.gpa);
      const length = Math.min(rest, Number(region.byteLength) - offset);
      const address = region.address + offset;
      const last = spans.at(-1);
      if (last && last.address + last.byteLength === address) last.byteLength += length;
      else spans.push({ address, byteLength: length });
      at += BigInt(length);
      rest -= length;
    }
  }
}

function mapRegion(gpa: bigint, byteLength: bigint, offset: bigint, granularity: number, fd: number): Region {
  const lead = Number(offset % BigInt(granularity));
  const length = Math.ceil((lead + Number(byteLength)) / granularity) * granularity;
  const address = mapShared(fd, offset - BigInt(lead), length);
  return { gpa, byteLength, address: address + lead, mapped: { address, byteLength: length } };
}
