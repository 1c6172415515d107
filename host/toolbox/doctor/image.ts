// Whether an image can be served, or images in a directory: without reading it, changing it or locking it.
import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  openSync,
  type Stats,
  statfsSync,
  statSync,
} from "node:fs";
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import { reasonOf } from "../../errors.ts";
import { blockDeviceFacts } from "../../linux/block-device.ts";
import { directIoAlignment } from "../../linux/direct-io.ts";
import { findLockHolder } from "../../linux/lock-holder.ts";
import { filePath } from "../../process/paths.ts";
import { isImageHeld } from "../../storage/file/lock.ts";
import { formatBytes } from "../units.ts";
import { directoryLocks } from "./directory.ts";
import { type Finding, note, ok, problem } from "./finding.ts";

const CHECK = "image";

export function imageFindings(path: string): Finding[] {
  try {
    const stats = statSync(filePath(path));
    if (stats.isDirectory()) return [directoryLocks(path)];
    if (stats.isFile() || stats.isBlockDevice()) return fileFindings(path, stats);
    return [problem(CHECK, `${path} is neither a file nor a block device`, "name another")];
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const advice =
      code === "ENOENT" ? `make one: truncate -s 10G ${path}` : "correct the path, or its permissions";
    return [problem(CHECK, `${path}: ${reasonOf(error)}`, advice)];
  }
}

function fileFindings(path: string, stats: Stats): Finding[] {
  let fd: number;
  try {
    fd = openSync(filePath(path), constants.O_RDONLY);
  } catch (error) {
    return [
      problem(CHECK, `${path} can't be read: ${reasonOf(error)}`, "give yourself the right to read it"),
    ];
  }
  try {
    const isBlockDevice = stats.isBlockDevice();
    const byteLength = isBlockDevice ? Number(blockDeviceFacts(fd).byteLength) : stats.size;
    return [
      writable(path, isBlockDevice),
      size(path, byteLength),
      ...(isBlockDevice ? [] : [allocation(path, fd)]),
      direct(path),
      lock(path, fd),
    ];
  } finally {
    closeSync(fd);
  }
}

/** A block device is not opened for writing: to close it again would have udev look at it anew. */
function writable(path: string, isBlockDevice: boolean): Finding {
  try {
    if (isBlockDevice) accessSync(filePath(path), constants.W_OK);
    else closeSync(openSync(filePath(path), constants.O_RDWR));
    return ok(CHECK, `${path} can be read and written`);
  } catch (error) {
    return note(
      CHECK,
      `${path} can be read, but not written: ${reasonOf(error)}`,
      "serve it with --read-only",
    );
  }
}

function size(path: string, byteLength: number): Finding {
  if (byteLength === 0) return problem("size", "it is empty", `give it a size: truncate -s 10G ${path}`);
  const rest = byteLength % SECTOR_SIZE;
  if (rest === 0) return ok("size", `${formatBytes(byteLength)}, whole sectors`);
  const advice = `make it longer: truncate -s %${SECTOR_SIZE} ${path}`;
  if (byteLength < SECTOR_SIZE) return problem("size", `${byteLength} bytes are less than a sector`, advice);
  return note(
    "size",
    `${byteLength} bytes: the last ${rest} are no whole sector, and are not served`,
    advice,
  );
}

/** Whether a sparse image can grow to its size. */
function allocation(path: string, fd: number): Finding {
  const { size: byteLength, blocks } = fstatSync(fd);
  const allocated = blocks * 512;
  if (allocated >= byteLength) return ok("space", "all of it is allocated");
  const { bavail, bsize } = statfsSync(filePath(path));
  const sparse = `sparse: ${formatBytes(allocated)} of ${formatBytes(byteLength)} are allocated`;
  if (bavail * bsize >= byteLength - allocated) return ok("space", sparse);
  const free = formatBytes(bavail * bsize);
  return note(
    "space",
    `${sparse}, and ${free} are free`,
    "guests get errors when the file system is full: make room",
  );
}

function direct(path: string): Finding {
  try {
    const fd = openSync(filePath(path), constants.O_RDONLY | constants.O_DIRECT);
    try {
      const alignment = directIoAlignment(fd);
      return ok(
        "O_DIRECT",
        alignment === undefined ? "works" : `works, in units of ${formatBytes(alignment)}`,
      );
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    return note("O_DIRECT", `does not work: ${reasonOf(error)}`, "leave out --direct");
  }
}

function lock(path: string, fd: number): Finding {
  try {
    if (!isImageHeld(fd, false)) return ok("lock", "nobody has it in use");
    const holder = findLockHolder(fd);
    const who =
      holder === undefined
        ? "no process that can be seen from here"
        : `${holder.name} (process ${holder.pid})`;
    const canRead = !isImageHeld(fd, true);
    const advice = canRead ? "end that first, or share it with --read-only" : "end that first";
    return problem("lock", `${path} is in use by ${who}`, advice);
  } catch (error) {
    return note(
      "lock",
      `its file system has no locks: ${reasonOf(error)}`,
      "see to it that only one writes to it",
    );
  }
}
