// A disk in this process's memory. What was never written, or was zeroed, takes none.
import type { BlockDisk } from "../engines/block-disk.ts";

/** Memory is taken and given back by this much, in bytes. */
const PAGE_BYTES = 65536;

/**
 * A sparse disk in memory. Its contents end with the process.
 *
 * @example
 * const server = await serve({ disk: new MemoryDisk(1n << 30n), socketPath: "/run/blk.sock" });
 */
export class MemoryDisk implements BlockDisk {
  readonly byteLength: bigint;
  private readonly pages = new Map<number, Uint8Array>();

  /** `byteLength`: bytes, a multiple of 512. Throws RangeError for any other. */
  constructor(byteLength: bigint | number) {
    this.byteLength = BigInt(byteLength);
    if (this.byteLength <= 0n || this.byteLength % 512n !== 0n) {
      throw new RangeError(`a memory disk of ${byteLength} bytes; give it a multiple of 512`);
    }
  }

  /** Bytes of memory that hold data now. */
  get allocatedBytes(): number {
    return this.pages.size * PAGE_BYTES;
  }

  async read(offset: bigint, buffers: readonly Uint8Array[]): Promise<void> {
    let at = Number(offset);
    for (const buffer of buffers) {
      for (const { page, from, start, end } of parts(at, buffer.length)) {
        const bytes = this.pages.get(page);
        if (bytes) buffer.set(bytes.subarray(from, from + end - start), start);
        else buffer.fill(0, start, end);
      }
      at += buffer.length;
    }
  }

  async write(offset: bigint, buffers: readonly Uint8Array[]): Promise<void> {
    let at = Number(offset);
    for (const buffer of buffers) {
      for (const { page, from, start, end } of parts(at, buffer.length)) {
        this.pageToWrite(page).set(buffer.subarray(start, end), from);
      }
      at += buffer.length;
    }
  }

  discard(offset: bigint, byteLength: bigint): Promise<void> {
    return this.writeZeroes(offset, byteLength);
  }

  async writeZeroes(offset: bigint, byteLength: bigint): Promise<void> {
    for (const { page, from, start, end } of parts(Number(offset), Number(byteLength))) {
      if (end - start === PAGE_BYTES) this.pages.delete(page);
      else this.pages.get(page)?.fill(0, from, from + end - start);
    }
  }

  private pageToWrite(page: number): Uint8Array {
    let bytes = this.pages.get(page);
    if (bytes === undefined) {
      bytes = new Uint8Array(PAGE_BYTES);
      this.pages.set(page, bytes);
    }
    return bytes;
  }
}

/** A range of the disk page by page: from where in the page, and which part of the range that is. */
function* parts(at: number, byteLength: number) {
  for (let start = 0; start < byteLength; ) {
    const from = (at + start) % PAGE_BYTES;
    const end = Math.min(start + PAGE_BYTES - from, byteLength);
    yield { page: Math.floor((at + start) / PAGE_BYTES), from, start, end };
    start = end;
  }
}
