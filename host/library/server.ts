// A back-end in a program: what the daemon does, without its signals, its exit status and its command line.
import { EventEmitter } from "node:events";
import { constants } from "node:os";
import { blockCountsBetween } from "../devices/block/kinds.ts";
import type { BlockDisk } from "../engines/block-disk.ts";
import type { DiskFailure, DiskOperation } from "../engines/disk-failure.ts";
import { BusyError } from "../errors.ts";
import { SystemError } from "../linux/libc.ts";
import { type Log, SILENT } from "../process/log.ts";
import { LimitedLog } from "../process/log-limiter.ts";
import { Device, serveAll } from "../programs/daemon.ts";
import type { Connection } from "../protocol/connection.ts";
import { prepareEntrance } from "../protocol/entrance.ts";
import type { FrontEnds } from "../protocol/listener.ts";
import { ObjectStorage } from "../storage/object.ts";
import { openStorage } from "../storage/open.ts";
import type { Storage } from "../storage/storage.ts";
import {
  accessOf,
  deviceOptions,
  diskChoice,
  entranceOf,
  type FileOptions,
  type ServeOptions,
} from "./serve-options.ts";

/** What was done, over all rings: since the server started, or for one front-end. */
export interface Stats {
  /** Reads that succeeded. */
  reads: number;
  /** Bytes that they read. */
  readBytes: number;
  /** Writes that succeeded. */
  writes: number;
  /** Bytes that they wrote. */
  writtenBytes: number;
  /** Flushes that succeeded. */
  flushes: number;
  /** Discards that succeeded. */
  discards: number;
  /** Write-zeroes requests that succeeded. */
  writeZeroes: number;
  /** Requests for the serial number. */
  ids: number;
  /** Requests of any kind that the guest got an error for. */
  failures: number;
  /** Notifications by the guest. */
  kicks: number;
  /** Notifications of the guest. */
  calls: number;
  /** Rings that the guest broke. */
  brokenRings: number;
}

/** What a server emits, with the arguments of each. */
export interface ServerEvents {
  /** A front-end has come. */
  connect: [];
  /** It has left, after so many requests. `fault`: it broke the protocol, a {@link ProtocolError}, or a system call on what it gave failed. */
  disconnect: [stats: Stats, fault: Error | undefined];
  /** The guest broke a ring, which takes nothing more until the front-end starts it anew. */
  broken: [ring: number, reason: string];
  /**
   * The disk failed a request: the guest sees an I/O error. `error`: what the object threw. Of a file, a system error with `errno` and
   * `code`, told once for all that failed the same way within a tenth of a second.
   */
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
    dataPlane.on("error", (error) => this.fail(error));
    dataPlane.on("broken", (ring, reason) => this.emit("broken", ring, reason));
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
    return this.device.counts();
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

  /** The same as close(). */
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
  const { signal } = options;
  const log = new LimitedLog(options.log ?? SILENT);
  const how = deviceOptions(options);
  signal?.throwIfAborted();
  const openEntrance = prepareEntrance(entranceOf(options), accessOf(options), log);
  const stopping = new AbortController();
  const abort = () => stopping.abort();
  signal?.addEventListener("abort", abort);
  const undo: (() => unknown)[] = [() => signal?.removeEventListener("abort", abort)];
  try {
    const disk = await openAny(options.disk, stopping.signal, log);
    undo.unshift(() => disk.close());
    undo.push(() => log.flush());
    const memory = Device.reserveMemory(disk, how.threads);
    const frontEnds = openEntrance();
    undo.unshift(() => frontEnds.close());
    let server: Server | undefined;
    const device = await Device.open(disk, memory, how, log, (failure) => {
      server?.emit("requestFailed", failure.operation, errorOf(failure));
    });
    const ends = { stopping: stopping.signal, once: options.once ?? false };
    server = new Server(device, stopping, (self) => run(self, device, frontEnds, ends, log, undo));
    return server;
  } catch (error) {
    // A descriptor that was handed over is closed, however far we got.
    if (options.fd !== undefined) openEntrance().close();
    await endAll(undo);
    signal?.throwIfAborted();
    throw error;
  }
}

async function run(
  server: Server,
  device: Device,
  frontEnds: FrontEnds,
  ends: { stopping: AbortSignal; once: boolean },
  log: Log,
  undo: readonly (() => unknown)[],
): Promise<void> {
  const serveOne = async (connection: Connection) => {
    const before = device.counts();
    server.emit("connect");
    const fault = await device.serve(connection, ends.stopping, log);
    server.emit("disconnect", blockCountsBetween(before, device.counts()), fault);
  };
  try {
    await serveAll(frontEnds, { serve: serveOne }, ends, () => {}, log);
    await device[Symbol.asyncDispose]();
  } finally {
    await endAll(undo);
  }
}

/** Nothing moved is an I/O error to the guest, too. */
function errorOf({ operation, result, error }: DiskFailure): unknown {
  return error ?? new SystemError(operation, -result || constants.errno.EIO);
}

async function endAll(undo: readonly (() => unknown)[]): Promise<void> {
  for (const end of undo) await end();
}

async function openAny(disk: BlockDisk | FileOptions, stopping: AbortSignal, log: Log): Promise<Storage> {
  if ("path" in disk) return openStorage(diskChoice(disk), stopping, log);
  return new ObjectStorage(disk, { name: "the disk" });
}
