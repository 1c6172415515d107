// Writes what an overlay has into its base. Each step is stable before the next begins:
//
//   1  the overlay's blocks, and the durable map that names them
//   2  in the overlay: a commit is under way, and its id
//   3  on the base: the same id. From here on the base alone is not served
//   4  the blocks, into the base, with its time of last change
//   5  in the overlay: that time, so that the base counts as it is
//   6  in the overlay: no blocks in either map; then their space is given back
//   7  on the base: no id
//   8  in the overlay: no commit
//
// Died anywhere, the overlay shows what it showed: up to step 6 it hides all that was written into the base, and from step 5 on
// the base has the same. To begin again at step 1 ends the work, whatever the guest wrote meanwhile.
import { randomBytes } from "node:crypto";
import type { ByteStore } from "../file/disk-file.ts";
import { partsOf } from "../sparse.ts";
import { doPieces, Interrupted, PIECE_BYTES, type Work } from "../work.ts";
import { type OverlayHeader, writeBase, writeCommit } from "./header.ts";
import type { OverlayDisk } from "./overlay-disk.ts";

/** The base, for whom it is to be changed. */
export interface CommitTarget {
  write(position: number, bytes: Uint8Array): Promise<void>;
  /** The range reads as zeroes. */
  punch(position: number, byteLength: number): Promise<void>;
  /** All that was written is stable when it resolves, and so is the time of last change that it gives, in ns since 1970. */
  settle(): Promise<bigint>;
  /** Stable when it resolves. Undefined: there is none. */
  mark(id: string | undefined): Promise<void>;
}

export interface CommitParts {
  disk: OverlayDisk;
  /** Of the overlay. */
  storage: ByteStore;
  /** As it was when the overlay was opened. */
  header: OverlayHeader;
  /** What the base is called from now on. */
  baseName: string | undefined;
  target: CommitTarget;
}

const ID_BYTES = 16;

/** Resolves with the bytes that were written. Throws Interrupted, with the base's time of last change noted. */
export async function commit(parts: CommitParts, work: Work): Promise<number> {
  const { disk, storage, header, baseName, target } = parts;
  const id = header.commit?.id ?? randomBytes(ID_BYTES).toString("hex");
  await disk.flush();
  await writeCommit(storage, { id, baseChangedNs: 0n });
  await target.mark(id);
  const pieces = () => disk.pieces(true, PIECE_BYTES);
  let written: number;
  try {
    written = await doPieces(pieces, work, ({ start, end }) => copy(disk, target, start, end));
  } catch (error) {
    if (error instanceof Interrupted) {
      await writeCommit(storage, { id, baseChangedNs: await target.settle() });
    }
    throw error;
  }
  const baseChangedNs = await target.settle();
  await writeBase(storage, header.byteLength, { baseName, baseChangedNs });
  await disk.letGoOfAll();
  await target.mark(undefined);
  await writeCommit(storage, undefined);
  return written;
}

async function copy(disk: OverlayDisk, target: CommitTarget, start: number, end: number): Promise<void> {
  const bytes = Buffer.alloc(end - start);
  await disk.read(BigInt(start), [bytes]);
  for (const part of partsOf(bytes)) {
    if (part.isZero) await target.punch(start + part.start, part.end - part.start);
    else await target.write(start + part.start, bytes.subarray(part.start, part.end));
  }
}
