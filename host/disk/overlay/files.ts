// The files of an overlay: made where there is none, opened, locked, and found to belong together.
import { closeSync, constants, fsyncSync, linkSync, openSync, statSync, unlinkSync } from "node:fs";
import { open } from "node:fs/promises";
import { dirname } from "node:path";
import { lockUnlessUnsupported } from "../../device/disk.ts";
import { identityOf, serialFrom } from "../../device/identity.ts";
import { reasonOf, StartError } from "../../errors.ts";
import { allocate } from "../../linux/file-io.ts";
import { type Log, SILENT } from "../../log.ts";
import { filePath } from "../../paths.ts";
import type { BlockDisk } from "../block-disk.ts";
import { DiskFile } from "../disk-file.ts";
import { FileDisk } from "../file-disk.ts";
import {
  currentBootId,
  decodeHeader,
  encodeHeader,
  HEADER_BYTES,
  layoutOf,
  type OverlayHeader,
} from "./format.ts";
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
  /** Ends that wait. */
  signal?: AbortSignal;
  /** Where it says that it waits, or that a file system has no locks. Left out: nowhere. */
  log?: Log;
}

/** Throws StartError, with nothing left open. */
export async function openFiles(options: OverlayOptions): Promise<OverlayParts> {
  const base = await openBase(options);
  try {
    const header = { byteLength: base.byteLength, baseChangedNs: changedNsOf(base) };
    const { path, readOnly = false } = options;
    if (!readOnly && !exists(path)) await make(path, header);
    const storage = await openChanges(options, header);
    // The guest's disk is what the overlay makes of its base.
    const serial = serialFrom(identityOf(storage.fd).parts);
    return { base, storage, readOnly, serial, bootId: currentBootId() };
  } catch (error) {
    await base.close?.();
    throw error;
  }
}

async function openBase({ base, ...options }: OverlayOptions): Promise<BlockDisk> {
  return typeof base === "string" ? FileDisk.open({ ...options, path: base, readOnly: true }) : base;
}

function changedNsOf(base: BlockDisk): bigint {
  return base instanceof FileDisk ? base.changedNs : 0n;
}

function exists(path: string): boolean {
  try {
    return statSync(filePath(path), { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    throw new StartError(`can't open ${path}: ${reasonOf(error)}`);
  }
}

/** Whole or not at all: under another name until it is stable. */
async function make(path: string, header: OverlayHeader): Promise<void> {
  const unfinished = `${path}.new-${process.pid}`;
  const { workingMap, mapBytes, fileBytes } = layoutOf(header.byteLength);
  try {
    const file = await open(filePath(unfinished), "wx", 0o600);
    try {
      await file.truncate(fileBytes);
      // So that setting a bit never lacks space. Where the file system can't, it may.
      await allocate(file.fd, 0, BigInt(workingMap), BigInt(2 * mapBytes));
      await file.write(encodeHeader(header), 0, HEADER_BYTES, 0);
      await file.sync();
    } finally {
      await file.close();
    }
    linkSync(filePath(unfinished), filePath(path));
    syncDirectory(dirname(path));
  } catch (error) {
    // Another process was quicker: then it is the other's that is opened.
    if ((error as NodeJS.ErrnoException).code === "EEXIST" && exists(path)) return;
    throw new StartError(`can't make the overlay ${path}: ${reasonOf(error)}`);
  } finally {
    removeIfThere(unfinished);
  }
}

function syncDirectory(path: string): void {
  const fd = openSync(filePath(path), constants.O_RDONLY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(filePath(path));
  } catch {
    // It was never made, or its directory can't be written: which is what is reported.
  }
}

async function openChanges(options: OverlayOptions, expected: OverlayHeader): Promise<DiskFile> {
  const { path, readOnly = false, lock = "auto", lockTimeoutMs = 30_000, log = SILENT } = options;
  const stopping = options.signal ?? new AbortController().signal;
  const fd = openForUse(path, readOnly);
  try {
    if (lock === "auto") {
      await lockUnlessUnsupported([fd], { path, readOnly, lockTimeoutMs }, stopping, log);
    }
    const storage = new DiskFile(fd);
    const bytes = Buffer.alloc(HEADER_BYTES);
    await storage.read(0, [bytes]);
    checkBase(decodeHeader(bytes, path), expected, options);
    return storage;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function openForUse(path: string, readOnly: boolean): number {
  try {
    return openSync(filePath(path), readOnly ? constants.O_RDONLY : constants.O_RDWR);
  } catch (error) {
    throw new StartError(`can't open the overlay ${path}: ${reasonOf(error)}`);
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
