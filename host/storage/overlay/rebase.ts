// Puts an overlay over another base, and what the guest sees stays as it is: where the bases differ, what the former has comes
// into the overlay first. Blocks and maps are stable before the header says which base it is: died before, the overlay is one of
// its former base, with some blocks more.
import type { BlockDisk } from "../../engines/block-disk.ts";
import type { ByteStore } from "../file/disk-file.ts";
import { doPieces, PIECE_BYTES, type Work } from "../work.ts";
import { BLOCK_BYTES } from "./format.ts";
import { type BaseIdentity, writeBase } from "./header.ts";
import type { OverlayDisk } from "./overlay-disk.ts";

export interface RebaseParts {
  /** Over its former base. */
  disk: OverlayDisk;
  /** Of the overlay. */
  storage: ByteStore;
  newBase: BlockDisk;
  /** Of the new base, from before it is read: a change after that is noticed. */
  identity: BaseIdentity;
}

/** Resolves with the bytes that were copied into the overlay. Throws Interrupted. */
export async function rebase({ disk, storage, newBase, identity }: RebaseParts, work: Work): Promise<number> {
  let copied = 0;
  const pieces = () => disk.pieces(false, PIECE_BYTES);
  await doPieces(pieces, work, async ({ start, end }) => {
    const [former, now] = [Buffer.alloc(end - start), Buffer.alloc(end - start)];
    await Promise.all([disk.read(BigInt(start), [former]), newBase.read(BigInt(start), [now])]);
    for (const { from, to } of differences(former, now)) {
      await disk.write(BigInt(start + from), [former.subarray(from, to)]);
      copied += to - from;
    }
  });
  await disk.flush();
  await writeBase(storage, disk.byteLength, identity);
  return copied;
}

/** Runs of whole blocks. */
function* differences(a: Buffer, b: Buffer): Generator<{ from: number; to: number }> {
  const differs = (at: number) => a.compare(b, at, endOf(at), at, endOf(at)) !== 0;
  const endOf = (at: number) => Math.min(at + BLOCK_BYTES, a.length);
  for (let from = 0; from < a.length; from += BLOCK_BYTES) {
    if (!differs(from)) continue;
    let to = endOf(from);
    while (to < a.length && differs(to)) to = endOf(to);
    yield { from, to };
    from = to;
  }
}
