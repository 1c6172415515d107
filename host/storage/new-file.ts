// A file that is whole and stable before it has its name, on whatever file system.
import { randomBytes } from "node:crypto";
import { closeSync, constants, fsyncSync, linkSync, openSync, renameSync, unlinkSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import { renameWithoutReplacing } from "../linux/rename.ts";
import { filePath } from "../process/paths.ts";

export interface NewFileOptions {
  /** Takes the name from a file that has it. Left out: EEXIST. */
  replace?: boolean;
}

/** `fill` writes it. Rejects with whatever went wrong, and nothing is left behind. */
export async function makeFile(
  path: string,
  fill: (file: FileHandle) => Promise<void>,
  { replace = false }: NewFileOptions = {},
): Promise<void> {
  // Not by the process's number: in a container it is the same each time, and a killed one may have left its file.
  const unfinished = `${path}.new-${randomBytes(6).toString("hex")}`;
  try {
    const file = await open(filePath(unfinished), "wx", 0o600);
    try {
      await fill(file);
      await file.sync();
    } finally {
      await file.close();
    }
    if (replace) renameSync(filePath(unfinished), filePath(path));
    else giveName(unfinished, path);
    syncDirectory(dirname(path));
  } finally {
    removeIfThere(unfinished);
  }
}

/** Each for file systems that have none of those before: without renameat2's flags, then without hard links. */
const WAYS: readonly ((from: string, to: string) => void)[] = [
  renameWithoutReplacing,
  (from, to) => linkSync(filePath(from), filePath(to)),
  (from, to) => {
    // Whoever made the name may replace what has it. Killed in between, it leaves an empty file, which is refused later.
    closeSync(openSync(filePath(to), "wx", 0o600));
    try {
      renameSync(filePath(from), filePath(to));
    } catch (error) {
      unlinkSync(filePath(to));
      throw error;
    }
  },
];

/** Never takes the name from another file: EEXIST. */
function giveName(from: string, to: string): void {
  const failures: unknown[] = [];
  for (const give of WAYS) {
    try {
      give(from, to);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") throw error;
      failures.push(error);
    }
  }
  throw failures.at(-1);
}

function syncDirectory(path: string): void {
  const fd = openSync(filePath(path), constants.O_RDONLY);
  try {
    fsyncSync(fd);
  } catch (error) {
    // Some file systems have no fsync for directories.
    if (!["EINVAL", "ENOSYS", "ENOTSUP"].includes((error as NodeJS.ErrnoException).code!)) throw error;
  } finally {
    closeSync(fd);
  }
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(filePath(path));
  } catch {
    // It has its name, or was never made, or its directory can't be written: which is what is reported.
  }
}
