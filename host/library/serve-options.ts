// What a program says of the disk and of how to serve it; left out, it is what the command line has.
import { availableParallelism } from "node:os";
import { QUEUES_MAX, WORKERS_MAX } from "../../assembly/abi/layout.ts";
import type { BlockDisk } from "../engines/block-disk.ts";
import { StartError } from "../errors.ts";
import type { Log } from "../process/log.ts";
import { textOfBytes } from "../process/paths.ts";
import type { DeviceOptions } from "../programs/daemon.ts";
import type { AccessChoice, Entrance } from "../protocol/entrance.ts";
import type { StorageChoice } from "../storage/open.ts";

/** A file or a block device to serve. */
export interface FileOptions {
  /**
   * A path; or what --blk-file takes in its place, such as "memory:512M", or "fd:3" for a descriptor, which is closed in the
   * end. A Buffer for a path that isn't UTF-8.
   */
  path: string | Buffer;
  /** Never write to it; the guest sees a read-only disk. Left out: false. */
  readOnly?: boolean;
  /** Past the page cache, with O_DIRECT. Left out: false. */
  direct?: boolean;
  /** What the guest sees: 512, 1024, 2048 or 4096 bytes. Left out: 512, whatever the file or device has. */
  blockSize?: number;
  /** Whether a discard gives space back. Left out: "unmap". */
  discard?: "unmap" | "ignore";
  /** Up to 20 ASCII characters. Left out: made from the file's inode and file system, or the device's own identity. */
  serial?: string;
  /** "raw": whatever the image seems to hold. Left out: one of another format, such as qcow2, is refused. */
  format?: "raw";
  /** Write to a device although the host has it mounted, or others hold it. Left out: false. */
  force?: boolean;
  /** Segments that one discard or write-zeroes request may have, 1 to 256. Left out: 1. */
  rangeSegments?: number;
  /** "auto": keep other writers away with the locks that QEMU takes. Left out: "auto". */
  lock?: "auto" | "off";
  /** How long to wait for the I/O of a killed process that still locks the file, in milliseconds. Left out: 30,000. */
  lockTimeoutMs?: number;
  /** Keep what the guest writes in this file instead, which is made if there is none. */
  overlay?: string | Buffer;
}

/** What to serve, where, and how. One of `socketPath`, `connect` and `fd`. */
export interface ServeOptions {
  /** An object of yours, or a file. */
  disk: BlockDisk | FileOptions;
  /** Listen on a Unix socket at this path; or at an abstract name, "@NAME", for front-ends of root or the same user. */
  socketPath?: string;
  /** Mode of the socket at `socketPath`, such as 0o660. Left out: what the umask leaves; with `socketGroup` 0o660. */
  socketMode?: number;
  /** Group of the socket at `socketPath`, by name or number. Left out: the process's own. */
  socketGroup?: string | number;
  /** Connect to a front-end that listens at this path or abstract name, and again whenever it has gone. */
  connect?: string;
  /** Take this descriptor, of a listening or a connected Unix stream socket. It is closed in the end. */
  fd?: number;
  /** Close when the first front-end has left. Left out: false. */
  once?: boolean;
  /** Queues that the guest may use, 1 to 256. Left out: 256. */
  queues?: number;
  /** Queue size to expect, 4 to 1024: requests may have two segments less. Left out: 128. */
  queueSize?: number;
  /** Offer packed virtqueues too. Left out: false. */
  packed?: boolean;
  /** How to do a file's I/O. Left out: "auto", the first that works. */
  engine?: "auto" | "io_uring" | "threads";
  /** Worker threads for a file, up to 13. Left out: one a queue, up to the cores. An object is served in the calling thread. */
  threads?: number;
  /** Microseconds that a busy thread may look for more before it sleeps, with io_uring. Left out: 32. */
  pollUs?: number;
  /** Closes the server when it aborts. */
  signal?: AbortSignal;
  /** Where log lines go; a logger of pino will do. Left out: nowhere. */
  log?: Log;
}

export function diskChoice(file: FileOptions): StorageChoice {
  return {
    readOnly: false,
    direct: false,
    discard: "unmap",
    rangeSegments: 1,
    lock: "auto",
    lockTimeoutMs: 30_000,
    ...file,
    path: textOf(file.path),
    overlay: file.overlay === undefined ? undefined : textOf(file.overlay),
  };
}

function textOf(path: string | Buffer): string {
  return typeof path === "string" ? path : textOfBytes(path);
}

/** Throws StartError for what no back-end can do. */
export function deviceOptions(options: ServeOptions): DeviceOptions {
  const { queues = QUEUES_MAX, queueSize = 128, packed = false, engine = "auto", pollUs = 32 } = options;
  const threads = options.threads ?? Math.min(availableParallelism(), WORKERS_MAX);
  checkRange("queues", queues, 1, QUEUES_MAX);
  checkRange("queueSize", queueSize, 4, 1024);
  checkRange("threads", threads, 1, WORKERS_MAX);
  checkRange("pollUs", pollUs, 0, 1000);
  const blk = { queueCount: queues, queueSize, packed };
  return { blk, engine, threads: Math.min(threads, queues), pollUs };
}

/** Throws StartError unless there is one. */
export function entranceOf({ socketPath, connect, fd }: ServeOptions): Entrance {
  const given: Entrance[] = [];
  if (socketPath !== undefined) given.push({ socketPath });
  if (connect !== undefined) given.push({ connect });
  if (fd !== undefined) given.push({ fd });
  const [entrance, ...others] = given;
  if (entrance !== undefined && others.length === 0) return entrance;
  throw new StartError("give one of socketPath, connect and fd: where we and front-ends meet");
}

export function accessOf({ socketPath, socketMode: mode, socketGroup: group }: ServeOptions): AccessChoice {
  if (mode === undefined && group === undefined) return {};
  if (socketPath === undefined)
    throw new StartError("socketMode and socketGroup are for a socket at socketPath");
  if (mode !== undefined) checkRange("socketMode", mode, 0, 0o777);
  return { mode, group: group === undefined ? undefined : String(group) };
}

function checkRange(name: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new StartError(`${name} is ${value}; give a whole number from ${min} to ${max}`);
}
