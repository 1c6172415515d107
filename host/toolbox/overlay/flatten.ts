// `vringd overlay flatten`
import { closeSync, constants, fstatSync, openSync, statSync } from "node:fs";
import { reasonOf, StartError } from "../../errors.ts";
import { filePath } from "../../process/paths.ts";
import { isImageHeld } from "../../storage/file/lock.ts";
import { makeFile } from "../../storage/new-file.ts";
import { flatten } from "../../storage/overlay/flatten.ts";
import { type OpenForWork, openForWork } from "../../storage/overlay/open-for-work.ts";
import { formatBytes } from "../units.ts";
import type { FlattenOptions } from "./command.ts";
import { working } from "./working.ts";

/** Resolves with the exit status. */
export function flattenOverlay(path: string, output: string, options: FlattenOptions): Promise<number> {
  const { force = false } = options;
  const sentences = {
    doing: "flattening",
    interrupted: `stopped before the end: ${output} was not made`,
    failed: `can't make ${output}`,
  };
  return working(sentences, async (work) => {
    const files = await openForWork({ ...options, path, writes: "nothing", signal: work.signal });
    const { disk } = files;
    try {
      checkOutput(output, force, files);
      await makeFile(output, (file) => flatten(disk, file, work), { replace: force });
      const { blocks } = statSync(filePath(output));
      return `${output} has what a guest sees: ${formatBytes(Number(disk.byteLength))}, of which ${formatBytes(blocks * 512)} take space.`;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") throw exists(output);
      throw error;
    } finally {
      await disk.close();
    }
  });
}

/** Before the work: nobody waits for minutes to be refused. Throws StartError. */
function checkOutput(output: string, force: boolean, { storage, base }: OpenForWork): void {
  const stats = statSync(filePath(output), { bigint: true, throwIfNoEntry: false });
  if (stats === undefined) return;
  if (!stats.isFile()) throw new StartError(`${output} is no file; name one that doesn't exist`);
  if (!force) throw exists(output);
  const own = fstatSync(storage.fd, { bigint: true });
  const isOverlay = own.dev === stats.dev && own.ino === stats.ino;
  if (isOverlay || base.isFile(stats))
    throw new StartError(`${output} is what it would be made from; name another file`);
  if (isHeld(output)) throw new StartError(`${output} is in use; end that first, or name another file`);
}

function exists(output: string): StartError {
  return new StartError(`${output} is there already; name another file, or replace it with --force`);
}

function isHeld(path: string): boolean {
  let fd: number;
  try {
    fd = openSync(filePath(path), constants.O_RDONLY);
  } catch (error) {
    throw new StartError(`can't tell whether ${path} is in use: ${reasonOf(error)}`);
  }
  try {
    return isImageHeld(fd, false);
  } catch {
    // Its file system has no locks.
    return false;
  } finally {
    closeSync(fd);
  }
}
