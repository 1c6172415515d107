// The files of an overlay: opened, locked, and found to belong together.
import { type BigIntStats, closeSync, constants, openSync, statSync } from "node:fs";
import type { BlockDisk } from "../../engines/block-disk.ts";
import { reasonOf, StartError } from "../../errors.ts";
import { fileStatus } from "../../linux/file-status.ts";
import { type Log, SILENT } from "../../process/log.ts";
import { LimitedLog } from "../../process/log-limiter.ts";
import { filePath } from "../../process/paths.ts";
import { halfCommitted } from "../file/commit-mark.ts";
import { DiskFile } from "../file/disk-file.ts";
import { FileDisk } from "../file/file-disk.ts";
import { FileHandover } from "../file/file-handover.ts";
import { identityOf, serialFrom } from "../file/identity.ts";
import { lockUnlessUnsupported } from "../file/lock.ts";
import { baseFactsOf, checkBase, lastingName, type Names, type Standing } from "./base.ts";
import { currentBootId } from "./format.ts";
import { type OverlayHeader, readHeader } from "./header.ts";
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

export interface FilesOptions extends OverlayOptions {
  /** The base is written, too. Left out: false. */
  writesBase?: boolean;
}

export interface OverlayFiles extends OverlayParts {
  storage: DiskFile;
  header: OverlayHeader;
}

const PATIENCE_MS = 30_000;

/** Throws StartError, with nothing left open. */
export async function openFiles(given: FilesOptions): Promise<OverlayFiles> {
  const options = { ...given, log: LimitedLog.over(given.log ?? SILENT) };
  const base = await openBase(options);
  try {
    const { path, readOnly = false, incoming = false } = options;
    if (!isThere(path, base) && !readOnly && !incoming) await makeOver(base, options);
    const { storage, isLocking, header } = await openOverlayFile(options);
    try {
      warnOfCommit(checkBase(header, baseFactsOf(base), namesOf(options)), options);
    } catch (error) {
      await storage.close();
      throw error;
    }
    // The guest's disk is what the overlay makes of its base.
    const serial = serialFrom(identityOf(storage.fd).parts);
    const file = readOnly ? undefined : handoverOf(storage.fd, isLocking, options);
    return { base, storage, header, readOnly, serial, bootId: currentBootId(), file };
  } catch (error) {
    await base.close?.();
    throw error;
  }
}

async function openBase({ base, writesBase = false, ...options }: FilesOptions): Promise<BlockDisk> {
  if (typeof base !== "string") return base;
  return FileDisk.open({ ...options, path: base, readOnly: !writesBase, isBase: true });
}

async function makeOver(base: BlockDisk, options: OverlayOptions): Promise<void> {
  const { byteLength, changedNs, mark } = baseFactsOf(base);
  if (mark !== undefined) throw halfCommitted(String(options.base), mark);
  const baseName = typeof options.base === "string" ? lastingName(options.base) : undefined;
  await makeOverlay(options.path, { byteLength, baseChangedNs: changedNs, baseName });
}

/** A file whose overlay lies over itself would wait for its own lock. Throws StartError for whatever can't be an overlay. */
export function isThere(path: string, base: BlockDisk): boolean {
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

function namesOf({ path, base }: OverlayOptions): Names {
  return { overlay: path, base: typeof base === "string" ? base : "its base" };
}

/** The file of the changes alone. Throws StartError, with nothing left open. */
export async function openOverlayFile({
  path,
  readOnly = false,
  lock = "auto",
  lockTimeoutMs = PATIENCE_MS,
  incoming = false,
  log = SILENT,
  signal: stopping = new AbortController().signal,
}: Omit<OverlayOptions, "base">): Promise<{ storage: DiskFile; isLocking: boolean; header: OverlayHeader }> {
  const fd = openForUse(path, readOnly);
  try {
    const isLater = incoming && !readOnly;
    const choice = { path, readOnly, lockTimeoutMs };
    const isLocking =
      lock === "auto" && (isLater || (await lockUnlessUnsupported([fd], choice, stopping, log)));
    const storage = new DiskFile(fd);
    return { storage, isLocking, header: await readHeader(storage, path) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

const HALF_COMMITTED = "a commit into the base has begun and not ended: vringd overlay commit ends it";

function warnOfCommit(standing: Standing, { path, base, log = SILENT }: OverlayOptions): void {
  if (standing === "half-committed") log.warn({ file: String(base), overlay: path }, HALF_COMMITTED);
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
