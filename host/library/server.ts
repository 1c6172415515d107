// A back-end in a program: what the daemon does, without its signals, its exit status and its command line.
import { EventEmitter } from "node:events";
import { constants } from "node:os";
import { Service } from "../backend/service.ts";
import { BlockDevice } from "../devices/block/device.ts";
import type { AnyDevice } from "../devices/engine-device.ts";
import type { DiskFailure, DiskOperation } from "../engines/disk-failure.ts";
import type { EngineName } from "../engines/engine.ts";
import { BusyError } from "../errors.ts";
import { SystemError } from "../linux/libc.ts";
import { onAbort } from "../process/abort.ts";
import { type Log, SILENT } from "../process/log.ts";
import { LimitedLog } from "../process/log-limiter.ts";
import { ObjectStorage } from "../storage/object.ts";
import { openStorage } from "../storage/open.ts";
import {
  accessOf,
  diskChoice,
  entranceOf,
  queueChoice,
  type ServeDeviceOptions,
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

/** The same of a device of yours. */
export interface DeviceStats {
  /** Chains that the device has used. */
  chains: number;
  /** Bytes that it wrote to them. */
  bytesIn: number;
  /** Bytes that the driver gave. */
  bytesOut: number;
  /** Chains that failed. */
  failures: number;
  /** Notifications by the guest. */
  kicks: number;
  /** Notifications of the guest. */
  calls: number;
  /** Rings that the guest broke. */
  brokenRings: number;
}

/** What a server emits, with the arguments of each. */
export interface ServerEvents<S = Stats> {
  /** A front-end has come. */
  connect: [];
  /** It has left, after so many requests. `fault`: it broke the protocol, a {@link ProtocolError}, or a system call on what it gave failed. */
  disconnect: [stats: S, fault: Error | undefined];
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
export class Server<S = Stats> extends EventEmitter<ServerEvents<S>> {
  /** Resolves when all is closed, however that came about. */
  readonly closed: Promise<void>;

  /** @internal */
  constructor(
    private readonly service: Service,
    private readonly stopping: AbortController,
    afterwards: () => void,
  ) {
    super();
    const { events } = service;
    // The emitter's types can't be told of an argument that is generic.
    const emitter = this as unknown as EventEmitter<ServerEvents<unknown>>;
    events.on("error", (error) => this.fail(error));
    events.on("broken", (ring, reason) => emitter.emit("broken", ring, reason));
    events.on("connect", () => emitter.emit("connect"));
    events.on("disconnect", (counts, fault) => emitter.emit("disconnect", counts, fault));
    events.on("requestFailed", (failure) =>
      emitter.emit("requestFailed", failure.operation, errorOf(failure)),
    );
    // In a turn of its own: listeners of "connect" are added once the caller has the server.
    this.closed = new Promise((resolve) => {
      setImmediate(() =>
        service
          .run()
          .finally(() => service.close())
          .finally(afterwards)
          .catch((error) => this.fail(error))
          .finally(() => {
            resolve();
            emitter.emit("close");
          }),
      );
    });
  }

  /** What serves: "disk" is an object in this thread. */
  get engine(): EngineName {
    return this.service.backend.workers.engine;
  }

  /** Counts since the start. */
  stats(): S {
    return this.service.backend.activity.counts() as S;
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
    (this as unknown as EventEmitter<ServerEvents<unknown>>).emit("error", error);
  }
}

/** Requests that never settle must not keep whoever closes. */
const CLOSE_MS = 5000;

/**
 * Starts a vhost-user back-end, for a disk or for a device of yours, and resolves once it listens. It installs no signal handler and never ends the
 * process. Throws {@link StartError}, with nothing left behind, if it can't start.
 *
 * @example
 * await using server = await serve({ disk: new MemoryDisk(1n << 30n), socketPath: "/tmp/blk.sock" });
 */
export function serve(options: ServeOptions): Promise<Server>;
/** The same for a device of yours, which is served in the calling thread. */
export function serve(options: ServeDeviceOptions): Promise<Server<DeviceStats>>;
export async function serve(options: ServeOptions | ServeDeviceOptions): Promise<Server<unknown>> {
  const { signal, packed = false, once = false } = options;
  const log = LimitedLog.over(options.log ?? SILENT);
  const stopping = new AbortController();
  const openDevice = deviceOpener(options, stopping.signal, log);
  signal?.throwIfAborted();
  const unhear = signal && onAbort(signal, () => stopping.abort());
  const afterwards = () => {
    unhear?.();
    log.flush();
  };
  try {
    const choice = { entrance: entranceOf(options), access: accessOf(options), once, packed, openDevice };
    return new Server(await Service.start(choice, stopping.signal, log), stopping, afterwards);
  } catch (error) {
    afterwards();
    signal?.throwIfAborted();
    throw error;
  }
}

/** Checks what can be checked at once. Throws StartError. */
function deviceOpener(
  options: ServeOptions | ServeDeviceOptions,
  stopping: AbortSignal,
  log: Log,
): () => Promise<AnyDevice> {
  if ("device" in options) return async () => options.device;
  const { disk } = options;
  const { queues, workers } = queueChoice(options);
  return async () => {
    const storage =
      "path" in disk
        ? await openStorage(diskChoice(disk), stopping, log)
        : new ObjectStorage(disk, { name: "the disk" });
    return new BlockDevice(storage, queues, workers);
  };
}

/** Nothing moved is an I/O error to the guest, too. */
function errorOf({ operation, result, error }: DiskFailure): unknown {
  return error ?? new SystemError(operation, -result || constants.errno.EIO);
}
