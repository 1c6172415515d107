// An overlay and its base, opened and locked by whoever works on them while nobody serves them.
import { closeSync } from "node:fs";
import { reasonOf, StartError } from "../../errors.ts";
import { DiskFile } from "../file/disk-file.ts";
import type { FileDisk } from "../file/file-disk.ts";
import { lastingName } from "./base.ts";
import type { CommitTarget } from "./commit.ts";
import { type OverlayFiles, openFiles } from "./files.ts";
import { type OverlayHeader, readHeader } from "./header.ts";
import { openToLook } from "./inspect.ts";
import { OverlayDisk } from "./overlay-disk.ts";

export interface WorkFiles {
  path: string;
  /** Left out: as the overlay names it. */
  base?: string | undefined;
  writes: "nothing" | "overlay" | "overlay and base";
  /** Ends a wait for locks. */
  signal: AbortSignal;
}

export interface OpenForWork extends OverlayFiles {
  /** As it was opened. */
  basePath: string;
  base: FileDisk;
  disk: OverlayDisk;
}

/** Throws StartError, with nothing left open. Closing the disk closes all. */
export async function openForWork({ path, base, writes, signal }: WorkFiles): Promise<OpenForWork> {
  const basePath = base ?? baseNameIn(await peekHeader(path), path);
  const files = await openFiles({
    path,
    base: basePath,
    readOnly: writes === "nothing",
    writesBase: writes === "overlay and base",
    signal,
  });
  try {
    const disk = await OverlayDisk.over(files);
    return { ...files, basePath, base: files.base as FileDisk, disk };
  } catch (error) {
    await files.storage.close();
    await files.base.close?.();
    throw new StartError(`can't use the overlay ${path}: ${reasonOf(error)}`);
  }
}

/** Of an overlay that may be in use: no lock is taken. Throws StartError. */
export async function peekHeader(path: string): Promise<OverlayHeader> {
  const fd = openToLook(path);
  try {
    return await readHeader(new DiskFile(fd), path);
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw new StartError(`can't read the overlay ${path}: ${reasonOf(error)}`);
  } finally {
    closeSync(fd);
  }
}

/** Throws StartError if there is none. */
export function baseNameIn({ baseName }: OverlayHeader, path: string): string {
  if (baseName !== undefined) return baseName;
  throw new StartError(`${path} doesn't say which file it lies over; name it with --base`);
}

/** What a commit writes to. */
export function commitTargetOf(base: FileDisk, overlay: string): CommitTarget {
  return {
    write: (position, bytes) => base.write(BigInt(position), [bytes]),
    punch: (position, byteLength) => base.writeZeroes(BigInt(position), BigInt(byteLength)),
    async settle() {
      await base.flushAll();
      return base.changedNs;
    },
    async mark(id) {
      base.markCommit(id === undefined ? undefined : { id, overlay: lastingName(overlay) });
    },
  };
}
