// The device from start to end: opens the disk, serves one front-end after the other, and leaves nothing behind.

import { type Counters, DataPlane, type DataPlaneOptions } from "./dataplane/data-plane.ts";
import { FailureLog } from "./dataplane/failure-log.ts";
import type { OnDiskFailure } from "./dataplane/failures.ts";
import { BlkConfig, type BlkOptions, deviceFeatures } from "./device/blk-config.ts";
import type { Disk } from "./device/disk.ts";
import { type DiskChoice, openDisk as openAnyDisk } from "./device/open-disk.ts";
import { reasonOf, StartError } from "./errors.ts";
import { exitNow } from "./linux/libc.ts";
import { connectServiceManager, type Tell } from "./linux/service-manager.ts";
import type { Log } from "./log.ts";
import type { LimitedLog } from "./log-limiter.ts";
import { GuestMemory } from "./memory/guest-memory.ts";
import { InflightRegion } from "./memory/inflight-region.ts";
import type { Observability, ObservabilityOptions } from "./observability/observability.ts";
import type { Subject } from "./observability/subject.ts";
import type { Connection } from "./protocol/connection.ts";
import { adopt, type FrontEnds, listenAt, vacateSocketPath } from "./protocol/listener.ts";
import { Session } from "./session/session.ts";

export interface DaemonOptions {
  /** Where front-ends come in: a path to listen at, or a descriptor that was handed down. */
  entrance: { socketPath: string } | { fd: number };
  disk: DiskChoice;
  blk: BlkOptions;
  engine: DataPlaneOptions["engine"];
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
  const tell = connectServiceManager();
  stopping.addEventListener("abort", () => tell("STOPPING=1", "STATUS=stopping"));
  const { entrance } = options;
  // Asked first: it is cheaper to refuse than to find the image in use by the same daemon.
  if ("socketPath" in entrance) vacateSocketPath(entrance.socketPath);
  const adopted = "fd" in entrance ? adopt(entrance.fd) : undefined;
  const disk = await openDisk(options.disk, stopping, log);
  if (disk === undefined) return;
  // Before the workers have started: whoever connects meanwhile waits in the backlog.
  const frontEnds = adopted ?? listenAt((entrance as { socketPath: string }).socketPath);
  let observability: Observability | undefined;
  try {
    await using device = await Device.open(disk, options, log);
    observability = await observe(options.observability, device.subject(entrance), log);
    log.info({ ...entrance, file: disk.path, sectors: String(disk.capacitySectors) }, "ready");
    tell("READY=1");
    await serveAll(frontEnds, device, stopping, tell, log);
  } finally {
    observability?.close();
    frontEnds.close();
    await disk.close();
    log.flush();
  }
}

/** Undefined if a signal came while the image was waited for. */
async function openDisk(options: DiskChoice, stopping: AbortSignal, log: Log): Promise<Disk | undefined> {
  try {
    return await openAnyDisk(options, stopping, log);
  } catch (error) {
    if (stopping.aborted) return undefined;
    throw error;
  }
}

/** Costs nothing if nobody is to look. */
async function observe(
  options: ObservabilityOptions,
  subject: Subject,
  log: LimitedLog,
): Promise<Observability | undefined> {
  if (options.controlSocket === undefined && options.metrics === undefined) return undefined;
  const { Observability } = await import("./observability/observability.ts");
  return Observability.open(options, subject, log);
}

export async function serveAll(
  frontEnds: FrontEnds,
  device: { serve(connection: Connection, stopping: AbortSignal, log: Log): Promise<unknown> },
  stopping: AbortSignal,
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
    private readonly disk: Disk,
    private readonly memory: GuestMemory,
    private readonly inflight: InflightRegion,
    readonly dataPlane: DataPlane,
    private readonly failures: FailureLog,
    private readonly blk: BlkOptions,
  ) {
    this.features = deviceFeatures(disk, blk.packed);
  }

  static async open(
    disk: Disk,
    { blk, engine, ...options }: DeviceOptions,
    log: Log,
    onDiskFailure: OnDiskFailure = () => {},
  ): Promise<Device> {
    const { queueCount } = blk;
    // An object belongs to the thread that it was given in.
    const threads = disk.object ? 1 : options.threads;
    const memory = new GuestMemory(threads);
    try {
      const planeOptions = { ...options, queueCount, threads, engine };
      const failures = new FailureLog(log, {
        file: disk.path,
        ...(disk.overlay && { overlay: disk.overlay }),
      });
      const dataPlane = await DataPlane.open(memory, disk, planeOptions, log, (failure) => {
        failures.add(failure);
        onDiskFailure(failure);
      });
      return new Device(disk, memory, new InflightRegion(memory.linear), dataPlane, failures, blk);
    } catch (error) {
      throw new StartError(`can't start with --engine=${engine}: ${reasonOf(error)}`);
    }
  }

  /** What others may see of it. */
  subject(entrance: DaemonOptions["entrance"]): Subject {
    const { disk, dataPlane } = this;
    return { entrance, disk, dataPlane, frontEnd: () => this.session };
  }

  /** Resolves when the front-end has left; with what it did wrong, if that is why. */
  async serve(connection: Connection, stopping: AbortSignal, log: Log): Promise<Error | undefined> {
    const { memory, inflight, dataPlane, features, blk } = this;
    const { queueCount } = blk;
    const before = dataPlane.counters();
    // A new config: the cache mode is the front-end's own, and starts with writeback.
    const config = new BlkConfig(this.disk, blk);
    log.info("front-end connected");
    const session = new Session(
      connection,
      { memory, inflight, dataPlane, features, config, queueCount },
      log,
    );
    this.session = session;
    const stop = () => session.stop();
    stopping.addEventListener("abort", stop);
    const fault = await session.run();
    stopping.removeEventListener("abort", stop);
    this.session = undefined;
    log.info(difference(dataPlane.counters(), before), "front-end left");
    return fault;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dataPlane.close();
    this.failures.close();
  }
}

function difference(after: Counters, before: Counters): Record<string, number> {
  const entries = Object.entries(after).map(([name, value]) => [
    name,
    value - before[name as keyof Counters],
  ]);
  return Object.fromEntries(entries);
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
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, stop);
  return controller.signal;
}
