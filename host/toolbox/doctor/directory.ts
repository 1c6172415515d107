// Whether locks keep writers apart in a directory, tried on a file that has no name there.
import { closeSync, constants, openSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { reasonOf } from "../../errors.ts";
import { isByteLocked, lockByte } from "../../linux/file-lock.ts";
import { filePath } from "../../process/paths.ts";
import { type Finding, note, ok } from "./finding.ts";

/** open(2); Node has no name for it. O_DIRECTORY is part of it. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;
const BYTE = 100;

export function directoryLocks(directory: string): Finding {
  let fd: number;
  try {
    fd = openNameless(directory);
  } catch (error) {
    return note(
      "locks",
      `can't be tried in ${directory}: ${reasonOf(error)}`,
      "name a directory that you can write to",
    );
  }
  try {
    return tryLocks(fd, directory);
  } catch (error) {
    return note("locks", `the file system of ${directory} has none: ${reasonOf(error)}`, ADVICE);
  } finally {
    closeSync(fd);
  }
}

const ADVICE = "see to it that only one process writes to an image there";

/** Two open files are as two processes. */
function tryLocks(fd: number, directory: string): Finding {
  const other = openSync(`/proc/self/fd/${fd}`, constants.O_RDWR);
  try {
    if (lockByte(fd, BYTE) && isByteLocked(other, BYTE)) return ok("locks", `work in ${directory}`);
    return note("locks", `have no effect in ${directory}`, ADVICE);
  } finally {
    closeSync(other);
  }
}

function openNameless(directory: string): number {
  try {
    return openSync(filePath(directory), O_TMPFILE | constants.O_RDWR, 0o600);
  } catch (error) {
    // File systems that have no such files.
    if (!["EOPNOTSUPP", "EISDIR", "EINVAL"].includes((error as NodeJS.ErrnoException).code ?? ""))
      throw error;
  }
  const path = join(directory, `.vringd-doctor-${process.pid}`);
  const fd = openSync(filePath(path), constants.O_CREAT | constants.O_EXCL | constants.O_RDWR, 0o600);
  unlinkSync(filePath(path));
  return fd;
}
