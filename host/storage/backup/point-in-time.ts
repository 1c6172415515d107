// A copy of a disk as it was at one moment, while it goes on being written: before a part changes that was not copied yet, it is
// copied. Whoever changes it waits for that.
import type { BlockDisk } from "../../engines/block-disk.ts";
import type { ChangeGuard } from "../../engines/change-guard.ts";
import type { DiskFile } from "../file/disk-file.ts";
import { RangeLock } from "../range-lock.ts";
import { partsOf } from "../sparse.ts";
import { doPieces, Interrupted, PIECE_BYTES, type Work } from "../work.ts";

/** What is copied as a whole before a change. */
const PART_BYTES = 64 << 10;

export class PointInTime {
  /** A bit a part. */
  private readonly copied: Uint8Array;
  private readonly locks = new RangeLock();
  private failure: unknown;

  /** The moment is now: nothing is in flight. `target` reads as zeroes. */
  constructor(
    private readonly disk: BlockDisk,
    private readonly byteLength: number,
    private readonly target: DiskFile,
    private readonly guard: ChangeGuard,
  ) {
    this.copied = new Uint8Array(Math.ceil(this.byteLength / PART_BYTES / 8));
    guard.before = (offset, byteLength) => this.before(Number(offset), Number(byteLength));
  }

  /** Copies what no change has had copied. Rejects with whatever has kept a part from being copied. */
  async run(work: Work): Promise<void> {
    await doPieces(
      () => this.pieces(),
      work,
      async ({ start, end }) => {
        if (this.failure !== undefined) throw this.failure;
        await this.copy(start, end);
      },
    );
    if (this.failure !== undefined) throw this.failure;
  }

  /** Changes wait for nothing any more. */
  end(): void {
    this.guard.before = undefined;
    this.failure ??= new Interrupted();
  }

  /** A copy that fails is no reason to keep the guest from writing: the copy is not whole then. */
  private async before(offset: number, byteLength: number): Promise<void> {
    if (this.failure !== undefined) return;
    try {
      await this.copy(offset, Math.min(offset + byteLength, this.byteLength));
    } catch (error) {
      this.failure ??= error;
    }
  }

  private async copy(start: number, end: number): Promise<void> {
    if (start >= end) return;
    const [first, last] = [Math.floor(start / PART_BYTES), Math.ceil(end / PART_BYTES) - 1];
    const release = await this.locks.acquire(first, last);
    try {
      for (let part = first; part <= last; ) {
        let next = part + 1;
        const isCopied = this.isCopied(part);
        while (next <= last && next - part < PIECE_BYTES / PART_BYTES && this.isCopied(next) === isCopied)
          next++;
        if (!isCopied) await this.copyParts(part, next);
        part = next;
      }
    } finally {
      release();
    }
  }

  private async copyParts(first: number, end: number): Promise<void> {
    const start = first * PART_BYTES;
    const bytes = Buffer.alloc(Math.min(end * PART_BYTES, this.byteLength) - start);
    await this.disk.read(BigInt(start), [bytes]);
    for (const part of partsOf(bytes)) {
      if (!part.isZero) await this.target.write(start + part.start, [bytes.subarray(part.start, part.end)]);
    }
    for (let part = first; part < end; part++) this.copied[part >>> 3]! |= 1 << (part & 7);
  }

  private isCopied(part: number): boolean {
    return (this.copied[part >>> 3]! & (1 << (part & 7))) !== 0;
  }

  private *pieces(): Generator<{ start: number; end: number }> {
    for (let start = 0; start < this.byteLength; start += PIECE_BYTES) {
      yield { start, end: Math.min(start + PIECE_BYTES, this.byteLength) };
    }
  }
}
