// The device from start to end: opens the disk, serves one front-end after the other, and leaves nothing behind.

import { SECTOR_SIZE } from "../../assembly/spec/virtio-blk.ts";
import { CacheMode } from "../devices/block/cache-mode.ts";
import { BlkConfig, type BlkOptions, deviceFeatures } from "../devices/block/config.ts";
import { writeDeviceBlock } from "../devices/block/device-block.ts";
import { DiskWatch } from "../devices/block/disk-watch.ts";
import { type BlockCounts, blockCounts, blockCountsBetween } from "../devices/block/kinds.ts";
import type { OnDiskFailure } from "../engines/disk-failure.ts";
import type { FileEngine } from "../engines/recipe.ts";
import { reasonOf, StartError } from "../errors.ts";
import { exitNow } from "../linux/libc.ts";
import { hasAddressSpace } from "../linux/mapping.ts";
import { connectServiceManager, type Tell } from "../linux/service-manager.ts";
import { GuestMemory } from "../memory/guest-memory.ts";
import { InflightRegion } from "../memory/inflight-region.ts";
import { NO_ADDRESSES } from "../memory/linear-memory.ts";
import { workerCountFor } from "../memory/worker-part.ts";
import type { Observability, ObservabilityOptions } from "../observability/observability.ts";
import { statusOf } from "../observability/status.ts";
import type { Subject } from "../observability/subject.ts";
import type { Log } from "../process/log.ts";
import type { LimitedLog } from "../process/log-limiter.ts";
import { isTooManyFiles, TOO_MANY_FILES } from "../process/open-files.ts";
import { isHangupIgnored, onStatusSignal } from "../process/signals.ts";
import { leaveDeletedDirectory } from "../process/working-directory.ts";
import type { Connection } from "../protocol/connection.ts";
import { type AccessChoice, type Entrance, prepareEntrance } from "../protocol/entrance.ts";
import type { FrontEnds } from "../protocol/listener.ts";
import { Session } from "../session/session.ts";
import { openStorage, type StorageChoice } from "../storage/open.ts";
import type { Storage, StorageEngines } from "../storage/storage.ts";
import { DataPlane } from "../workers/data-plane.ts";

export interface DaemonOptions {
  entrance: Entrance;
  /** Who may connect to `entrance`, where that is a socket of our own. */
  access: AccessChoice;
  /** End when the first front-end has left. */
  once: boolean;
  disk: StorageChoice;
  blk: BlkOptions;
  engine: FileEngine;
  threads: number;
  pollUs: number;
  observability: ObservabilityOptions;
}

/** EX_SOFTWARE of sysexits.h. */
const STATUS_BUG = 70;

/** Requests that the kernel doesn't finish must not hold up a shutdown for ever. */
const SHUTDOWN_MS = 5000;

/** Serves until a signal ends it, or until the one connection that it was given has ended. */
export async function runDaemon(options: DaemonOptions, log: LimitedLog): Promise<void> {
  const stopping = abortOnSignal(log);
  endOnBug(log);
  leaveDeletedDirectory(options);
  const tell = connectServiceManager();
  stopping.addEventListener("abort", () => tell("STOPPING=1", "STATUS=stopping"));
  const { entrance, once } = options;
  const openEntrance = prepareEntrance(entrance, options.access, log);
  const disk = await openDisk(options.disk, stopping, log);
  if (disk === undefined) return;
  let frontEnds: FrontEnds | undefined;
  let observability: Observability | undefined;
  try {
    const memory = Device.reserveMemory(disk, options.threads);
    // Before the workers have started: whoever connects meanwhile waits in the backlog.
    frontEnds = openEntrance();
    await using device = await Device.open(disk, memory, options, log);
    const subject = device.subject(entrance);
    observability = await observe(options.observability, subject, log);
    onStatusSignal(() => logStatus(subject, log));
    log.info(
      { ...entrance, file: disk.facts.name, sectors: String(disk.facts.byteLength / BigInt(SECTOR_SIZE)) },
      "ready",
    );
    tell("READY=1");
    await serveAll(frontEnds, device, { stopping, once }, tell, log);
  } finally {
    observability?.close();
    frontEnds?.close();
    await disk.close();
    log.flush();
  }
}

/** Undefined if a signal came while the image was waited for. */
async function openDisk(
  options: StorageChoice,
  stopping: AbortSignal,
  log: Log,
): Promise<Storage | undefined> {
  try {
    return await openStorage(options, stopping, log);
  } catch (error) {
    if (stopping.aborted) return undefined;
    throw error;
  }
}

/** What `vringd ctl` calls status, whatever the level: it was asked for. */
function logStatus(subject: Subject, log: LimitedLog): void {
  const { level } = log;
  const status = statusOf(subject, level);
  log.level = "info";
  log.info({ status }, "status");
  log.level = level;
}

/** Costs nothing if nobody is to look. */
async function observe(
  options: ObservabilityOptions,
  subject: Subject,
  log: LimitedLog,
): Promise<Observability | undefined> {
  if (options.controlSocket === undefined && options.metrics === undefined) return undefined;
  const { Observability } = await import("../observability/observability.ts");
  return Observability.open(options, subject, log);
}

export async function serveAll(
  frontEnds: FrontEnds,
  device: { serve(connection: Connection, stopping: AbortSignal, log: Log): Promise<unknown> },
  { stopping, once }: { stopping: AbortSignal; once: boolean },
  tell: Tell,
  log: Log,
): Promise<void> {
  const close = () => frontEnds.close();
  stopping.addEventListener("abort", close);
  try {
    while (!stopping.aborted) {
      tell("STATUS=waiting for a front-end");
      const connection = await frontEnds.next();
      if (connection === undefined) return;
      tell("STATUS=serving a front-end");
      await device.serve(connection, stopping, log);
      if (once && connection.hasSpoken) return;
    }
  } finally {
    close();
  }
}

export type DeviceOptions = Pick<DaemonOptions, "blk" | "engine" | "threads" | "pollUs">;

/** What stays from one front-end to the next. */
export class Device {
  private readonly features: bigint;
  private session: Session | undefined;

  private constructor(
    private readonly storage: Storage,
    private readonly engines: StorageEngines,
    private readonly memory: GuestMemory,
    private readonly inflight: InflightRegion,
    readonly dataPlane: DataPlane,
    private readonly watch: DiskWatch,
    private readonly cacheMode: CacheMode,
    private readonly blk: BlkOptions,
  ) {
    this.features = deviceFeatures(storage.facts, blk.packed);
    dataPlane.on("operationsFailed", (worker) => watch.heardOfFailures(worker));
    dataPlane.on("deviceNews", (bits) => watch.heardOfDevice(bits));
    dataPlane.on("fellBack", (name) => watch.heardOfEngine(name));
    dataPlane.on("started", () => cacheMode.ringStarted());
    dataPlane.on("stopped", () => cacheMode.ringStopped());
  }

  /** Throws StartError where limits leave no room for it, or for the workers' own: V8 ends the process for that. */
  static reserveMemory(storage: Storage, threads: number): GuestMemory {
    const count = threadsFor(storage, threads);
    const memory = new GuestMemory(count);
    if (!storage.isLocal && !hasAddressSpace(count * WORKER_ADDRESSES)) throw new StartError(NO_ADDRESSES);
    return memory;
  }

  static async open(
    storage: Storage,
    memory: GuestMemory,
    { blk, engine, threads, pollUs }: DeviceOptions,
    log: Log,
    onDiskFailure: OnDiskFailure = () => {},
  ): Promise<Device> {
    const { queueCount } = blk;
    const { linear } = memory;
    const workerCount = workerCountFor(threadsFor(storage, threads), queueCount);
    const watch = new DiskWatch(storage.facts, log, onDiskFailure);
    try {
      const engines = storage.openEngines({
        memory: linear,
        workerCount,
        engine,
        onFailure: (failure) => watch.failed(failure),
      });
      if (!engines.tellsFailures) watch.followCounts(linear, workerCount);
      writeDeviceBlock(linear, storage.facts, engines.form);
      const plan = { queueCount, threads: workerCount, pollUs, recipe: engines.recipe };
      const dataPlane = await DataPlane.open(memory, plan, log).catch((error) => {
        engines.close();
        throw error;
      });
      const cacheMode = new CacheMode(linear, log);
      const inflight = new InflightRegion(linear);
      return new Device(storage, engines, memory, inflight, dataPlane, watch, cacheMode, blk);
    } catch (error) {
      throw new StartError(`can't start with --engine=${engine}: ${whyNoWorkers(error)}`);
    }
  }

  /** What others may see of it. */
  subject(entrance: DaemonOptions["entrance"]): Subject {
    const { storage, dataPlane } = this;
    return { entrance, disk: storage.facts, dataPlane, frontEnd: () => this.session };
  }

  /** Resolves when the front-end has left; with what it did wrong, if that is why. */
  async serve(connection: Connection, stopping: AbortSignal, log: Log): Promise<Error | undefined> {
    const { memory, inflight, dataPlane, cacheMode, features, blk } = this;
    const { queueCount } = blk;
    const before = this.counts();
    // A new config: the cache mode is the front-end's own, and starts with writeback.
    const config = new BlkConfig(this.storage.facts, blk);
    log.info("front-end connected");
    const session = new Session(
      connection,
      { memory, inflight, dataPlane, cacheMode, features, config, queueCount },
      log,
    );
    this.session = session;
    const stop = () => session.stop();
    stopping.addEventListener("abort", stop);
    const fault = await session.run();
    stopping.removeEventListener("abort", stop);
    this.session = undefined;
    log.info({ ...blockCountsBetween(before, this.counts()) }, "front-end left");
    return fault;
  }

  /** Since the start. */
  counts(): BlockCounts {
    return blockCounts(this.dataPlane.counters());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dataPlane.close();
    this.watch.close();
    this.engines.close();
  }
}

/** What V8 reserves for a thread: its code range, heap and stacks. */
const WORKER_ADDRESSES = 704 << 20;

/** An object belongs to the thread that it was given in. */
function threadsFor(storage: Storage, threads: number): number {
  return storage.isLocal ? 1 : threads;
}

function whyNoWorkers(error: unknown): string {
  const { syscall } = error as NodeJS.ErrnoException;
  // Node gives each thread the directory of its process.
  if (syscall === "uv_cwd") return "the working directory is gone: change to another one first";
  return isTooManyFiles(error as NodeJS.ErrnoException) ? TOO_MANY_FILES : reasonOf(error);
}

/** A bug of ours, in a worker or here, ends the process at once: an ordinary exit would wait for workers in the kernel. */
function endOnBug(log: Log): void {
  process.on("uncaughtException", (error) => {
    log.error({ err: error }, "this should not have happened");
    exitNow(STATUS_BUG);
  });
}

function abortOnSignal(log: Log): AbortSignal {
  const controller = new AbortController();
  const stop = (signal: string) => {
    if (controller.signal.aborted) return;
    log.info({ signal }, "stopping");
    controller.abort();
    setTimeout(() => {
      log.error("requests are stuck; the image stays locked until the kernel has finished them");
      exitNow(1);
    }, SHUTDOWN_MS).unref();
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, stop);
  process.on("SIGHUP", isHangupIgnored() ? () => {} : stop);
  return controller.signal;
}
