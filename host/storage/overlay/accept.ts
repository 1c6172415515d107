// Takes a base as it is: whoever asks for it knows that it holds what the overlay was made over.
import type { BlockDisk } from "../../engines/block-disk.ts";
import { StartError } from "../../errors.ts";
import { halfCommitted } from "../file/commit-mark.ts";
import { FileDisk } from "../file/file-disk.ts";
import { baseFactsOf, lastingName } from "./base.ts";
import { isThere, openOverlayFile } from "./files.ts";
import { type OverlayHeader, writeBase, writeCommit } from "./header.ts";

export interface AcceptOptions {
  /** Of the overlay. */
  path: string;
  base: string;
  /** Ends a wait for locks. */
  signal: AbortSignal;
}

/** Throws StartError. */
export async function accept({ path, base: basePath, signal }: AcceptOptions): Promise<void> {
  const base = await FileDisk.open({ path: basePath, readOnly: true, isBase: true, signal });
  try {
    if (!isThere(path, base)) throw new StartError(`${path}: there is no such overlay`);
    const { storage, header } = await openOverlayFile({ path, signal });
    try {
      checkSize(base, header, basePath, path);
      const { changedNs, mark } = baseFactsOf(base);
      if (mark !== undefined && mark.id !== header.commit?.id) throw halfCommitted(basePath, mark);
      if (header.commit !== undefined) {
        if (mark === undefined) throw otherBase(path);
        await writeCommit(storage, { id: mark.id, baseChangedNs: changedNs });
      } else {
        const identity = { baseChangedNs: changedNs, baseName: lastingName(basePath) };
        await writeBase(storage, header.byteLength, identity);
      }
    } finally {
      await storage.close();
    }
  } finally {
    await base.close();
  }
}

/** Throws StartError for a base that has another size than the overlay. */
export function checkSize(
  base: BlockDisk,
  { byteLength }: OverlayHeader,
  basePath: string,
  path: string,
): void {
  if (base.byteLength === byteLength) return;
  throw new StartError(
    `${basePath} has ${base.byteLength} bytes, and ${path} is one of ${byteLength}; name a base of that size`,
  );
}

/** Throws StartError for one of which a commit has begun: the mark on its base would stay for ever. */
export function refuseHalfCommitted({ commit }: OverlayHeader, path: string): void {
  if (commit !== undefined) throw otherBase(path);
}

function otherBase(path: string): StartError {
  return new StartError(
    `a commit of ${path} into its base has begun and not ended; end it first: vringd overlay commit ${path}`,
  );
}
