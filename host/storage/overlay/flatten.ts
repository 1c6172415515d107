// A raw image of what a disk shows, with holes where it shows zeroes.
import type { FileHandle } from "node:fs/promises";
import type { BlockDisk } from "../../engines/block-disk.ts";
import { DiskFile } from "../file/disk-file.ts";
import { partsOf } from "../sparse.ts";
import { doPieces, PIECE_BYTES, type Work } from "../work.ts";

/** Fills an empty file. Throws Interrupted. */
export async function flatten(disk: BlockDisk, file: FileHandle, work: Work): Promise<void> {
  const target = new DiskFile(file.fd);
  await file.truncate(Number(disk.byteLength));
  const pieces = () => rangesOf(Number(disk.byteLength));
  await doPieces(pieces, work, async ({ start, end }) => {
    const bytes = Buffer.alloc(end - start);
    await disk.read(BigInt(start), [bytes]);
    for (const part of partsOf(bytes)) {
      if (!part.isZero) await target.write(start + part.start, [bytes.subarray(part.start, part.end)]);
    }
  });
}

function* rangesOf(byteLength: number): Generator<{ start: number; end: number }> {
  for (let start = 0; start < byteLength; start += PIECE_BYTES) {
    yield { start, end: Math.min(start + PIECE_BYTES, byteLength) };
  }
}
