// A back-end in a program: what the daemon does, without its signals, its exit status and its command line.
import { EventEmitter } from "node:events";
import { availableParallelism } from "node:os";
import { WORKERS_MAX } from "../assembly/spec/layout.ts";
import { Device, serveAll } from "./daemon.ts";
import type { Counters } from "./dataplane/data-plane.ts";
import type { DiskOperation } from "./dataplane/disk-engine.ts";
import { describeObject } from "./device/object-disk.ts";
import { type DiskChoice, openDisk } from "./device/open-disk.ts";
import type { BlockDisk } from "./disk/block-disk.ts";
import { diskErrorLog } from "./disk/error-log.ts";
import { BusyError, StartError } from "./errors.ts";
import { type Log, SILENT } from "./log.ts";
import type { Connection } from "./protocol/connection.ts";
import { adopt, type FrontEnds, listenAt, vacateSocketPath } from "./protocol/listener.ts";

/** A file or a block device to serve. */
export interface FileOptions {
  /** A path; or what --blk-file takes in its place, such as "memory:512M". */
  path: string;
  /** Never write to it; the guest sees a read-only disk. Left out: false. */
  readOnly?: boolean;
  /** Past the page cache, with O_DIRECT. Left out: false. */
  direct?: boolean;
  /** What the guest sees: 512, 1024, 2048 or 4096 bytes. Left out: what the file needs. */
  blockSize?: number;
  /** Whether a discard gives space back. Left out: "unmap". */
  discard?: "unmap" | "ignore";
  /** Up to 20 ASCII characters. Left out: the file's name. */
  serial?: string;
  /** Segments that one discard or write-zeroes request may have, 1 to 256. Left out: 1. */
  rangeSegments?: number;
  /** "auto": keep other writers away with the locks that QEMU takes. Left out: "auto". */
  lock?: "auto" | "off";
  /** How long to wait for the I/O of a killed process that still locks the file, in milliseconds. Left out: 30,000. */
  lockTimeoutMs?: number;
  /** Keep what the guest writes in this file instead, which is made if there is none. */
  overlay?: string;
}

/** What to serve, where, and how. Either `socketPath` or `fd`. */
export interface ServeOptions {
  /** An object of yours, or a file. */
  disk: BlockDisk | FileOptions;
  /** Listen on a Unix socket at this path. */
  socketPath?: string;
  /** Take this descriptor, of a listening or a connected Unix stream socket. It is closed in the end. */
  fd?: number;
  /** Queues that the guest may use, 1 to 64. Left out: 16. */
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

/** Requests by what became of them, bytes, notifications, and rings that broke: since the server started, or of one front-end. */
export type Stats = Counters;

/** What a server emits, with the arguments of each. */
export interface ServerEvents {
  /** A front-end has come. */
  connect: [];
  /** It has left, after so many requests. */
  disconnect: [stats: Stats];
  /** The guest broke a ring, which takes nothing more until the front-end starts it anew. */
  broken: [ring: number, reason: string];
  /** The disk failed a request: the guest sees an I/O error. */
  requestFailed: [operation: DiskOperation, error: unknown];
  /** The server itself has failed, by a bug or the kernel's doing, and serves no more. Unheard, it is thrown. */
  error: [error: Error];
  /** All is closed. */
  close: [];
}

/** A back-end that listens: one front-end after the other, until it is closed. */
export class Server extends EventEmitter<ServerEvents> {
  /** Resolves when all is closed, however that came about. */
  readonly closed: Promise<void>;

  /** @internal */
  constructor(
    private readonly device: Device,
    private readonly stopping: AbortController,
    run: (server: Server) => Promise<void>,
  ) {
    super();
    const { dataPlane } = device;
    dataPlane.onFailure = (error) => this.fail(error);
    dataPlane.observeBroken = (ring, reason) => this.emit("broken", ring, reason);
    // In a turn of its own: listeners of "connect" are added once the caller has the server.
    this.closed = new Promise((resolve) => {
      setImmediate(() =>
        run(this)
          .catch((error) => this.fail(error))
          .finally(() => {
            resolve();
            this.emit("close");
          }),
      );
    });
  }

  /** What serves: "disk" is an object in this thread. */
  get engine(): "io_uring" | "threads" | "disk" {
    return this.device.dataPlane.engine;
  }

  /** Counts since the start. */
  stats(): Stats {
    return this.device.dataPlane.counters();
  }

  /**
   * Ends the connection, when the request at hand is done, and closes the socket and the disk. What is in flight is waited
   * for, 5 s at the most: throws {@link BusyError} then, while guest memory stays mapped until it has settled.
   */
  async close(): Promise<void> {
    this.stopping.abort();
    let timer: NodeJS.Timeout | undefined;
    const expired = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new BusyError()), CLOSE_MS);
    });
    await Promise.race([this.closed, expired]).finally(() => clearTimeout(timer));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private fail(error: Error): void {
    this.emit("error", error);
  }
}

/** Requests that never settle must not keep whoever closes. */
const CLOSE_MS = 5000;

/**
 * Starts a vhost-user-blk back-end and resolves once it listens. It installs no signal handler and never ends the
 * process. Throws {@link StartError}, with nothing left behind, if it can't start.
 *
 * @example
 * await using server = await serve({ disk: new MemoryDisk(1n << 30n), socketPath: "/tmp/blk.sock" });
 */
export async function serve(options: ServeOptions): Promise<Server> {
  const { log = SILENT, signal } = options;
  const deviceOptions = checkedOptions(options);
  signal?.throwIfAborted();
  const { socketPath, fd } = options;
  // Asked first: it is cheaper to refuse than to find the image in use by the same program.
  if (socketPath !== undefined) vacateSocketPath(socketPath);
  const adopted = fd === undefined ? undefined : adopt(fd);
  const stopping = new AbortController();
  const abort = () => stopping.abort();
  signal?.addEventListener("abort", abort);
  const undo: (() => unknown)[] = [() => signal?.removeEventListener("abort", abort)];
  try {
    const disk = await openAny(options.disk, stopping.signal, log);
    undo.unshift(() => disk.close());
    const frontEnds = adopted ?? listenAt(socketPath!);
    undo.unshift(() => frontEnds.close());
    const logError = diskErrorLog(log);
    let server: Server | undefined;
    const device = await Device.open(disk, deviceOptions, log, (operation, error) => {
      logError(operation, error);
      server?.emit("requestFailed", operation, error);
    });
    server = new Server(device, stopping, (self) => run(self, device, frontEnds, stopping.signal, log, undo));
    return server;
  } catch (error) {
    adopted?.close();
    await endAll(undo);
    signal?.throwIfAborted();
    throw error;
  }
}

async function run(
  server: Server,
  device: Device,
  frontEnds: FrontEnds,
  stopping: AbortSignal,
  log: Log,
  undo: readonly (() => unknown)[],
): Promise<void> {
  const serveOne = async (connection: Connection) => {
    const before = device.dataPlane.counters();
    server.emit("connect");
    await device.serve(connection, stopping, log);
    server.emit("disconnect", difference(device.dataPlane.counters(), before));
  };
  try {
    await serveAll(frontEnds, { serve: serveOne }, stopping, log);
    await device[Symbol.asyncDispose]();
  } finally {
    await endAll(undo);
  }
}

async function endAll(undo: readonly (() => unknown)[]): Promise<void> {
  for (const end of undo) await end();
}

function openAny(disk: BlockDisk | FileOptions, stopping: AbortSignal, log: Log) {
  if ("path" in disk) return openDisk(diskChoice(disk), stopping, log);
  return Promise.resolve(describeObject(disk, { name: "the disk" }));
}

function diskChoice(file: FileOptions): DiskChoice {
  return {
    readOnly: false,
    direct: false,
    discard: "unmap",
    rangeSegments: 1,
    lock: "auto",
    lockTimeoutMs: 30_000,
    ...file,
  };
}

function checkedOptions(options: ServeOptions) {
  const { queues = 16, queueSize = 128, packed = false, engine = "auto", pollUs = 32 } = options;
  if ((options.socketPath === undefined) === (options.fd === undefined)) {
    throw new StartError("give either socketPath or fd: where front-ends connect");
  }
  const threads = options.threads ?? Math.min(availableParallelism(), WORKERS_MAX);
  checkRange("queues", queues, 1, 64);
  checkRange("queueSize", queueSize, 4, 1024);
  checkRange("threads", threads, 1, WORKERS_MAX);
  checkRange("pollUs", pollUs, 0, 1000);
  const blk = { queueCount: queues, queueSize, packed };
  return { blk, engine, threads: Math.min(threads, queues), pollUs };
}

function checkRange(name: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new StartError(`${name} is ${value}; give a whole number from ${min} to ${max}`);
}

function difference(after: Stats, before: Stats): Stats {
  const names = Object.keys(after) as (keyof Stats)[];
  return Object.fromEntries(names.map((name) => [name, after[name] - before[name]])) as Stats;
}
