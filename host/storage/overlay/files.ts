// The files of an overlay: opened, locked, and found to belong together.
import { type BigIntStats, closeSync, constants, openSync, statSync } from "node:fs";
import type { BlockDisk } from "../../engines/block-disk.ts";
import { reasonOf, StartError } from "../../errors.ts";
import { fileStatus } from "../../linux/file-status.ts";
import { type Log, SILENT } from "../../process/log.ts";
import { LimitedLog } from "../../process/log-limiter.ts";
import { filePath } from "../../process/paths.ts";
import { DiskFile } from "../file/disk-file.ts";
import { FileDisk } from "../file/file-disk.ts";
import { FileHandover } from "../file/file-handover.ts";
import { identityOf, serialFrom } from "../file/identity.ts";
import { lockUnlessUnsupported } from "../file/lock.ts";
import { currentBootId, decodeHeader, HEADER_BYTES, type OverlayHeader } from "./format.ts";
import { makeOverlay } from "./make.ts";
import type { OverlayParts } from "./overlay-disk.ts";

/** Which base, and which file keeps the changes. */
export interface OverlayOptions {
  /** The file of the changes. It is made if there is none. */
  path: string;
  /** What lies beneath, never written: a file's path, or any disk. Closed with the overlay. */
  base: string | BlockDisk;
  /** Left out: false. */
  readOnly?: boolean;
  /** "raw": whatever the base seems to hold. Left out: one of another format than raw is refused. */
  format?: "raw";
  /** "auto": keep other writers away from both files, with the locks that QEMU takes. Left out: "auto". */
  lock?: "auto" | "off";
  /** How long to wait for the I/O of a killed process that still locks a file, in milliseconds. Left out: 30,000. */
  lockTimeoutMs?: number;
  /** Another process has it, and hands it over when its guest is moved here. Left out: false. */
  incoming?: boolean;
  /** Ends that wait. */
  signal?: AbortSignal;
  /** Where it says that it waits, or that a file system has no locks. Left out: nowhere. */
  log?: Log;
}

const PATIENCE_MS = 30_000;

/** Throws StartError, with nothing left open. */
export async function openFiles(given: OverlayOptions): Promise<OverlayParts> {
  const options = { ...given, log: LimitedLog.over(given.log ?? SILENT) };
  const base = await openBase(options);
  try {
    const header = { byteLength: base.byteLength, baseChangedNs: changedNsOf(base) };
    const { path, readOnly = false, incoming = false } = options;
    if (!exists(path, base) && !readOnly && !incoming) await makeOverlay(path, header);
    const { storage, isLocking } = await openChanges(options, header);
    // The guest's disk is what the overlay makes of its base.
    const serial = serialFrom(identityOf(storage.fd).parts);
    const file = readOnly ? undefined : handoverOf(storage.fd, isLocking, options);
    return { base, storage, readOnly, serial, bootId: currentBootId(), file };
  } catch (error) {
    await base.close?.();
    throw error;
  }
}

async function openBase({ base, ...options }: OverlayOptions): Promise<BlockDisk> {
  return typeof base === "string" ? FileDisk.open({ ...options, path: base, readOnly: true }) : base;
}

/** Of disks that know it, in nanoseconds. */
function changedNsOf(base: BlockDisk & { readonly changedNs?: unknown }): bigint {
  return typeof base.changedNs === "bigint" ? base.changedNs : 0n;
}

/** A file whose overlay lies over itself would wait for its own lock. Throws StartError for whatever can't be an overlay. */
function exists(path: string, base: BlockDisk): boolean {
  let stats: BigIntStats | undefined;
  try {
    stats = statSync(filePath(path), { throwIfNoEntry: false, bigint: true });
  } catch (error) {
    throw new StartError(`can't open ${path}: ${reasonOf(error)}`, error);
  }
  if (stats === undefined) return false;
  if (base instanceof FileDisk && base.isFile(stats))
    throw new StartError(`can't use ${path}: the overlay is the base; name another file for the changes`);
  // To open a pipe would wait for its other end.
  if (!stats.isFile()) throw new StartError(`${path} is no file; name a file for the changes`);
  return true;
}

async function openChanges(
  options: OverlayOptions & { log: Log },
  expected: OverlayHeader,
): Promise<{ storage: DiskFile; isLocking: boolean }> {
  const {
    path,
    readOnly = false,
    lock = "auto",
    lockTimeoutMs = PATIENCE_MS,
    incoming = false,
    log,
  } = options;
  const stopping = options.signal ?? new AbortController().signal;
  const fd = openForUse(path, readOnly);
  try {
    const isLater = incoming && !readOnly;
    const choice = { path, readOnly, lockTimeoutMs };
    const isLocking =
      lock === "auto" && (isLater || (await lockUnlessUnsupported([fd], choice, stopping, log)));
    const storage = new DiskFile(fd);
    const bytes = Buffer.alloc(HEADER_BYTES);
    await storage.read(0, [bytes]);
    checkBase(decodeHeader(bytes, path), expected, options);
    return { storage, isLocking };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function handoverOf(
  fd: number,
  isLocking: boolean,
  { path, lock = "auto", lockTimeoutMs = PATIENCE_MS, incoming, log }: OverlayOptions & { log: Log },
): FileHandover {
  const image = { fd, bufferedFd: fd, status: fileStatus(fd), isAdopted: false };
  return new FileHandover(image, { path, lock, lockTimeoutMs, incoming }, isLocking, log);
}

function openForUse(path: string, readOnly: boolean): number {
  try {
    return openSync(filePath(path), readOnly ? constants.O_RDONLY : constants.O_RDWR);
  } catch (error) {
    throw new StartError(`can't open the overlay ${path}: ${reasonOf(error)}`, error);
  }
}

function checkBase(made: OverlayHeader, now: OverlayHeader, { path, base }: OverlayOptions): void {
  const name = typeof base === "string" ? base : "its base";
  const advice = "restore it as it was, or name a new file for the changes";
  if (made.byteLength !== now.byteLength) {
    const sizes = `${made.byteLength} bytes then, ${now.byteLength} now`;
    throw new StartError(`${name} has another size than when ${path} was made over it (${sizes}); ${advice}`);
  }
  if (made.baseChangedNs !== now.baseChangedNs) {
    const date =
      now.baseChangedNs === 0n ? "" : ` (${new Date(Number(now.baseChangedNs / 1_000_000n)).toISOString()})`;
    throw new StartError(`${name} has changed${date} since ${path} was made over it; ${advice}`);
  }
}
