// What a program says of a disk or a device, and of how to serve it; left out, it is what the command line has.
import { BLOCK_OPTIONS, threadCount } from "../devices/block/options.ts";
import type { VirtioDevice } from "../devices/device.ts";
import type { WorkerChoice } from "../devices/engine-device.ts";
import type { BlockDisk } from "../engines/block-disk.ts";
import { StartError } from "../errors.ts";
import { checkValue, type Option } from "../options/option.ts";
import { fileMode } from "../options/types.ts";
import type { Log } from "../process/log.ts";
import { textOfBytes } from "../process/paths.ts";
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
  /**
   * Another process has the file, and hands it over when its guest is moved here: it is locked and written from the first ring's start.
   * Left out: false.
   */
  incoming?: boolean;
  /** Keep what the guest writes in this file instead, which is made if there is none. */
  overlay?: string | Buffer;
}

/** Where to serve, and how. One of `socketPath`, `connect` and `fd`. */
export interface EntranceOptions {
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
  /** Close when the first front-end has left, and no other is connected. Left out: false. */
  once?: boolean;
  /** Offer packed virtqueues too. Left out: false. */
  packed?: boolean;
  /** Closes the server when it aborts. */
  signal?: AbortSignal;
  /** Where log lines go; a logger of pino will do. Left out: nowhere. */
  log?: Log;
}

/** A disk to serve. */
export interface ServeOptions extends EntranceOptions {
  /** An object of yours, or a file. */
  disk: BlockDisk | FileOptions;
  /** Queues that the guest may use, 1 to 256. Left out: 256. */
  queues?: number;
  /** Queue size to expect, 4 to 1024: requests may have two segments less. Left out: 128. */
  queueSize?: number;
  /** How to do a file's I/O. Left out: "auto", the first that works. */
  engine?: "auto" | "io_uring" | "threads";
  /** Worker threads for a file, up to 13. Left out: one a queue, up to the cores. An object is served in the calling thread. */
  threads?: number;
  /** Microseconds that a busy thread may look for more before it sleeps, with io_uring. Left out: 32. */
  pollUs?: number;
}

/** A device of yours to serve, in the calling thread. */
export interface ServeDeviceOptions extends EntranceOptions {
  /** It is closed in the end. */
  device: VirtioDevice;
}

/** Throws StartError for what no disk can be. */
export function diskChoice(file: FileOptions): StorageChoice {
  const { discard, rangeSegments, lock, lockTimeout } = BLOCK_OPTIONS;
  for (const name of CHECKED) checkGiven(BLOCK_OPTIONS[name], file[name], name);
  return {
    readOnly: false,
    direct: false,
    discard: discard.default,
    rangeSegments: rangeSegments.default,
    lock: lock.default,
    lockTimeoutMs: lockTimeout.default * 1000,
    ...file,
    path: textOf(file.path),
    overlay: file.overlay === undefined ? undefined : textOf(file.overlay),
  };
}

/** What a program gives as a command line has it. */
const CHECKED = ["discard", "serial", "format", "rangeSegments", "lock"] as const;

function textOf(path: string | Buffer): string {
  return typeof path === "string" ? path : textOfBytes(path);
}

/** Throws StartError for what no back-end can do. */
export function queueChoice(options: ServeOptions): {
  queues: { queueCount: number; queueSize: number };
  workers: WorkerChoice;
} {
  const { numQueues, queueSize, engine, threads, pollUs } = BLOCK_OPTIONS;
  const queueCount = options.queues ?? numQueues.default;
  checkValue(numQueues, queueCount, "queues");
  checkGiven(queueSize, options.queueSize, "queueSize");
  checkGiven(engine, options.engine, "engine");
  checkGiven(threads, options.threads, "threads");
  checkGiven(pollUs, options.pollUs, "pollUs");
  return {
    queues: { queueCount, queueSize: options.queueSize ?? queueSize.default },
    workers: {
      threads: threadCount({ threads: options.threads, numQueues: queueCount }),
      engine: options.engine ?? engine.default,
      pollUs: options.pollUs ?? pollUs.default,
    },
  };
}

function checkGiven(option: Option<unknown>, value: unknown, name: string): void {
  if (value !== undefined) checkValue(option, value, name);
}

/** Throws StartError unless there is one. */
export function entranceOf({ socketPath, connect, fd }: EntranceOptions): Entrance {
  const given: Entrance[] = [];
  if (socketPath !== undefined) given.push({ socketPath });
  if (connect !== undefined) given.push({ connect });
  if (fd !== undefined) given.push({ fd });
  const [entrance, ...others] = given;
  if (entrance !== undefined && others.length === 0) return entrance;
  throw new StartError("give one of socketPath, connect and fd: where we and front-ends meet");
}

export function accessOf({
  socketPath,
  socketMode: mode,
  socketGroup: group,
}: EntranceOptions): AccessChoice {
  if (mode === undefined && group === undefined) return {};
  if (socketPath === undefined)
    throw new StartError("socketMode and socketGroup are for a socket at socketPath");
  if (mode !== undefined && !fileMode.accepts(mode))
    throw new StartError(`socketMode is ${mode}; give ${fileMode.takes}`);
  return { mode, group: group === undefined ? undefined : String(group) };
}
