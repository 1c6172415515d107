// Gets at the file or block device behind a disk: by its path, or as a descriptor that somebody else has opened.
import { type BigIntStats, closeSync, constants, openSync, statSync } from "node:fs";
import { reasonOf, StartError } from "../../errors.ts";
import { blockDeviceFacts } from "../../linux/block-device.ts";
import { BlockSysfs } from "../../linux/block-sysfs.ts";
import { hostUseOf, loopUseOf } from "../../linux/device-users.ts";
import {
  deviceNumber,
  type FileStatus,
  fileStatus,
  S_IFBLK,
  S_IFDIR,
  S_IFREG,
} from "../../linux/file-status.ts";
import * as libc from "../../linux/libc.ts";
import { addStatusFlags, O_ACCMODE, O_PATH, openFlags, removeStatusFlags } from "../../linux/status-flags.ts";
import { choice } from "../../process/choices.ts";
import type { Log } from "../../process/log.ts";
import { filePath } from "../../process/paths.ts";
import type { HandoverWanted } from "../handover-wanted.ts";
import type { InheritedFile } from "../storage.ts";
import { inUse, openClaimed } from "./claim.ts";

export interface ImageChoice extends HandoverWanted {
  /** Or "fd:N". */
  path: string;
  readOnly: boolean;
  direct: boolean;
  lock: "auto" | "off";
  lockTimeoutMs: number;
  /** Although the host uses it. */
  force?: boolean | undefined;
}

export interface OpenImage {
  fd: number;
  /** The same file through the page cache, for what O_DIRECT refuses; without O_DIRECT the same descriptor. */
  bufferedFd: number;
  status: FileStatus;
  /** Opened by somebody else. */
  isAdopted: boolean;
}

const DIRECT = choice("direct");
const READ_ONLY = choice("readOnly");
const MAY_SERVE = `${READ_ONLY} may serve it`;

/** "fd:3", and what shells and libraries write for it. */
const DESCRIPTOR = /^(?:fd:|\/dev\/fd\/|\/proc\/self\/fd\/)(\d{1,9})$/;

/** Throws StartError, with nothing left open. */
export async function openImage(choice: ImageChoice, stopping: AbortSignal, log: Log): Promise<OpenImage> {
  const number = DESCRIPTOR.exec(choice.path)?.[1];
  const image =
    number === undefined ? await openPath(choice, stopping, log) : openAdopted(Number(number), choice);
  try {
    checkUsers(image, choice, log);
    if (image.status.type === S_IFBLK) checkDevice(image, choice);
    return image;
  } catch (error) {
    closeImage(image);
    throw error;
  }
}

/** As a predecessor has opened it. Takes the descriptors. */
export function inheritedImage({ image, buffered, isAdopted }: InheritedFile): OpenImage {
  return { fd: image.fd, bufferedFd: buffered.fd, status: fileStatus(image.fd), isAdopted };
}

export function closeImage({ fd, bufferedFd, isAdopted }: OpenImage): void {
  if (bufferedFd !== fd) closeSync(bufferedFd);
  // node:fs knows only descriptors of its own in some runtimes.
  if (isAdopted) libc.close(fd);
  else closeSync(fd);
}

async function openPath(choice: ImageChoice, stopping: AbortSignal, log: Log): Promise<OpenImage> {
  const { path, readOnly, direct, lock, lockTimeoutMs: timeoutMs, force = false } = choice;
  // Asked before opening: to open a pipe would wait for its other end.
  const stats = attempt(`can't open ${path}`, () => statSync(filePath(path), { bigint: true }));
  checkType(path, typeOf(stats));
  const access = accessFor(readOnly);
  const flags = direct ? access | constants.O_DIRECT : access;
  try {
    const claim = {
      path,
      number: deviceNumber(stats.rdev),
      force,
      keep: lock === "auto",
      timeoutMs,
      stopping,
    };
    const isClaimed = stats.isBlockDevice() && !readOnly && !choice.incoming;
    const fd = isClaimed ? await openClaimed(claim, flags, log) : openSync(filePath(path), flags);
    return completed(fd, access, direct, path, false);
  } catch (error) {
    throw explained(error, path, flags);
  }
}

/** Takes over a descriptor: its right to the file is all that is needed. */
function openAdopted(fd: number, { path, readOnly, direct, standby }: ImageChoice): OpenImage {
  if (standby)
    throw new StartError(
      `${path} is open in this process alone, and another can't open it: leave out ${choice("standby")}`,
    );
  const flags = attempt(`can't use ${path}`, () => openFlags(fd));
  const refuse = (why: string) => new StartError(`can't use ${path}: it is open ${why}`);
  if (flags & O_PATH) throw refuse("as a path alone (O_PATH); open it for reading and writing");
  checkType(path, fileStatus(fd).type);
  const access = flags & O_ACCMODE;
  if (access === constants.O_WRONLY) throw refuse("for writing only; open it for reading and writing");
  if (access === constants.O_RDONLY && !readOnly) throw refuse(`for reading only; ${MAY_SERVE}`);
  if (flags & constants.O_APPEND) throw refuse("for appending, where every write goes to the end");
  if (!direct) removeStatusFlags(fd, constants.O_DIRECT);
  else if (!addStatusFlags(fd, constants.O_DIRECT)) throw noDirect(path);
  return completed(fd, access, direct, path, true);
}

/** Closes the descriptor if anything is wrong. */
function completed(fd: number, access: number, direct: boolean, path: string, isAdopted: boolean): OpenImage {
  const image = { fd, bufferedFd: fd, status: fileStatus(fd), isAdopted };
  try {
    // Since it was looked at the path may have come to name another file.
    checkType(path, image.status.type);
    // By descriptor, for the same reason.
    if (direct) image.bufferedFd = openBuffered(fd, access, path);
    return image;
  } catch (error) {
    closeImage(image);
    throw error;
  }
}

function openBuffered(fd: number, access: number, path: string): number {
  try {
    return openSync(`/proc/self/fd/${fd}`, access);
  } catch (error) {
    const why = `it can't be opened a second time, through the page cache: ${reasonOf(error)}`;
    throw new StartError(`can't use ${path} with ${DIRECT}: ${why}; leave out ${DIRECT}`);
  }
}

function accessFor(readOnly: boolean): number {
  return readOnly ? constants.O_RDONLY : constants.O_RDWR;
}

function typeOf(stats: BigIntStats): number {
  return Number(stats.mode) & constants.S_IFMT;
}

function checkType(path: string, type: number): void {
  if (type === S_IFREG || type === S_IFBLK) return;
  if (type === S_IFDIR)
    throw new StartError(`${path} is a directory; ${choice("path")} takes a file or a block device`);
  throw new StartError(`${path} is neither a file nor a block device`);
}

function noDirect(path: string): StartError {
  return new StartError(`can't open ${path}: its file system has no O_DIRECT, so leave out ${DIRECT}`);
}

function explained(error: unknown, path: string, flags: number): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (syscall !== "open") return error;
  const isDirect = (flags & constants.O_DIRECT) !== 0;
  const isWriting = (flags & constants.O_RDWR) !== 0;
  if (isDirect && code === "EINVAL") return noDirect(path);
  if (isWriting && code === "ETXTBSY")
    return new StartError(`can't open ${path} for writing: the kernel swaps to it, or runs it as a program`);
  if (isWriting && (code === "EACCES" || code === "EPERM" || code === "EROFS"))
    return new StartError(`can't open ${path} for writing: ${reasonOf(error)}; ${MAY_SERVE}`, error);
  return new StartError(`can't open ${path}: ${reasonOf(error)}`, error);
}

/** What nobody but the device itself can say: it opens as any other. */
function checkDevice({ fd, status }: OpenImage, { path, readOnly }: ImageChoice): void {
  const { byteLength, isReadOnly } = blockDeviceFacts(fd);
  if (byteLength === 0n) throw new StartError(`${path} is a device without a medium: it has 0 bytes`);
  if (readOnly) return;
  if (isReadOnly) throw new StartError(`${path} is a read-only device; ${MAY_SERVE}`);
  if (new BlockSysfs(status.represents).zoned === "host-managed") {
    const why = "it takes writes only where its zones' write pointers are";
    throw new StartError(
      `${path} is a zoned device, and ${why}; put dm-zoned over it, or serve it with ${READ_ONLY}`,
    );
  }
}

/**
 * A reader can't harm what the host does with the disk, but sees it change. A writer was refused by its claim already, save for
 * what no claim covers: a descriptor of somebody else's, and a file that a loop device shows.
 */
function checkUsers(
  { status, isAdopted }: OpenImage,
  { path, readOnly, force, incoming }: ImageChoice,
  log: Log,
): void {
  if (status.type === S_IFBLK) {
    const use = readOnly || isAdopted || incoming ? hostUseOf(status.represents) : undefined;
    if (use !== undefined) refuseOrWarn(use);
    return;
  }
  const loop = loopUseOf(status);
  if (loop?.use !== undefined) refuseOrWarn(`the file of ${loop.loop}, which is ${loop.use}`);
  else if (loop)
    log.warn({ file: path, device: loop.loop }, "a loop device shows the file, and may change it");

  function refuseOrWarn(use: string): void {
    if (!readOnly && !force) throw inUse(path, use);
    log.warn({ file: path, use }, "the host uses the disk, and is served all the same");
  }
}

function attempt<T>(what: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw new StartError(`${what}: ${reasonOf(error)}`, error);
  }
}
