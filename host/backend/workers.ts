// The workers of a device: the one place that knows which kind of workers a device has, and how the data plane takes it.

import { ChainsEngine } from "../chains/engine.ts";
import { GuestViews } from "../chains/memory.ts";
import type { VirtioDevice } from "../devices/device.ts";
import type { AnyDevice, EngineDevice } from "../devices/engine-device.ts";
import { isEngineDevice } from "../devices/engine-device.ts";
import type { DiskFailure } from "../engines/disk-failure.ts";
import type { EngineRecipe } from "../engines/recipe.ts";
import { reasonOf, StartError } from "../errors.ts";
import { hasAddressSpace } from "../linux/mapping.ts";
import { GuestMemory } from "../memory/guest-memory.ts";
import type { InflightRegion } from "../memory/inflight-region.ts";
import { NO_ADDRESSES } from "../memory/linear-memory.ts";
import { choice } from "../process/choices.ts";
import type { Log } from "../process/log.ts";
import { isTooManyFiles, TOO_MANY_FILES } from "../process/open-files.ts";
import type { RingRunner } from "../session/vrings.ts";
import { DataPlane, type VringStart } from "../workers/data-plane.ts";
import type { Counters } from "./activity.ts";
import { OwnRecords } from "./own-records.ts";

/** What workers and their device have to say, at any time. */
export interface WorkerEvents {
  configChanged(): void;
  /** Rings are to stop for a change, and to go on then. */
  whileStopped(change: () => Promise<void>): Promise<void>;
  /** The driver broke a ring, which takes nothing more until it is stopped and started again. */
  broken(ring: number, reason: string): void;
  /** A worker has failed, which it must not: I/O in flight can't be accounted for without it. */
  failed(error: Error): void;
  requestFailed(failure: DiskFailure): void;
}

export interface Workers extends RingRunner {
  readonly engine: DataPlane["engine"];
  readonly threads: number;
  /** Of each ring that is broken or was: why it broke last. */
  readonly faults: ReadonlyMap<number, string>;
  readonly counters: Counters;
  brokenRings: number;
  /** Ends them. All rings must have been stopped. */
  close(): Promise<void>;
}

/** What V8 reserves for a thread: its code range, heap and stacks. */
const WORKER_ADDRESSES = 704 << 20;

/** Throws StartError where limits leave no room for it, or for the workers' own: V8 ends the process for that. */
export function reserveMemory(device: AnyDevice): GuestMemory {
  const count = isEngineDevice(device) ? device.workers.threads : 1;
  const memory = new GuestMemory(count);
  const isOwnThread = isEngineDevice(device) && device.hasOwnThreads;
  if (isOwnThread && !hasAddressSpace(count * WORKER_ADDRESSES)) throw new StartError(NO_ADDRESSES);
  return memory;
}

/** Throws StartError. */
export async function openWorkers(
  device: AnyDevice,
  memory: GuestMemory,
  inflight: InflightRegion,
  events: WorkerEvents,
  log: Log,
): Promise<Workers> {
  if (!isEngineDevice(device)) return openChainWorker(device, memory, inflight, events, log);
  const { workers, queues } = device;
  const { configChanged, whileStopped, requestFailed } = events;
  try {
    const host = { memory: memory.linear, log, configChanged, whileStopped, requestFailed };
    const recipe = device.openEngines(host);
    const { threads, pollUs } = workers;
    const plane = await DataPlane.open(memory, { queueCount: queues.length, threads, pollUs, recipe }, log);
    plane.on("broken", (ring, reason) => events.broken(ring, reason));
    plane.on("error", (error) => events.failed(error));
    plane.on("operationsFailed", (worker) => device.news.operationsFailed(worker));
    plane.on("fellBack", (engine) => device.news.fellBack(engine));
    plane.on("deviceNews", (bits) => device.news.deviceNews(bits));
    return new EngineWorkers(plane, device);
  } catch (error) {
    device.closeEngines();
    throw new StartError(`can't start with ${choice("engine", workers.engine)}: ${whyNoWorkers(error)}`);
  }
}

/** A device of chains is served in the thread in which it was made, which is this one. */
async function openChainWorker(
  device: VirtioDevice,
  memory: GuestMemory,
  inflight: InflightRegion,
  { configChanged, broken, failed }: WorkerEvents,
  log: Log,
): Promise<Workers> {
  device.attach?.({ memory: new GuestViews(memory), log, configChanged });
  const recipe: EngineRecipe = {
    place: "this-thread",
    open: (worker) => new ChainsEngine(worker, device, log),
  };
  const queueCount = device.queues.length;
  const plane = await DataPlane.open(memory, { queueCount, threads: 1, pollUs: 0, recipe }, log);
  plane.on("broken", broken);
  plane.on("error", failed);
  return new ChainWorkers(plane, new OwnRecords(inflight, memory, queueCount));
}

class PlaneWorkers implements Workers {
  constructor(private readonly plane: DataPlane) {}

  get engine(): DataPlane["engine"] {
    return this.plane.engine;
  }

  get threads(): number {
    return this.plane.threads;
  }

  get faults(): ReadonlyMap<number, string> {
    return this.plane.faults;
  }

  get counters(): Counters {
    return this.plane.statistics;
  }

  get brokenRings(): number {
    return this.plane.brokenRings;
  }

  set brokenRings(count: number) {
    this.plane.brokenRings = count;
  }

  start(vring: VringStart): Promise<void> {
    return this.plane.start(vring);
  }

  stop(index: number): Promise<number> {
    return this.plane.stop(index);
  }

  suspend(index: number): Promise<number> {
    return this.plane.suspend(index);
  }

  setCall(index: number, callFd: number): Promise<void> {
    return this.plane.setCall(index, callFd);
  }

  setLogging(isOn: boolean): Promise<void> {
    return this.plane.setLogging(isOn);
  }

  close(): Promise<void> {
    return this.plane.close();
  }
}

/** Records what a device holds, where nobody else does. */
class ChainWorkers extends PlaneWorkers {
  constructor(
    plane: DataPlane,
    private readonly records: OwnRecords,
  ) {
    super(plane);
  }

  override start(vring: VringStart): Promise<void> {
    return super.start(this.records.recorded(vring));
  }
}

/** Tells the device how many of its rings run. */
class EngineWorkers extends PlaneWorkers {
  private runningRings = 0;

  constructor(
    plane: DataPlane,
    private readonly device: EngineDevice,
  ) {
    super(plane);
  }

  override async start(vring: VringStart): Promise<void> {
    await super.start(vring);
    this.device.ringsRun(++this.runningRings);
  }

  override stop(index: number): Promise<number> {
    return this.stopped(super.stop(index));
  }

  override suspend(index: number): Promise<number> {
    return this.stopped(super.suspend(index));
  }

  override async close(): Promise<void> {
    await super.close();
    this.device.closeEngines();
  }

  private async stopped(base: Promise<number>): Promise<number> {
    const value = await base;
    this.device.ringsRun(--this.runningRings);
    return value;
  }
}

function whyNoWorkers(error: unknown): string {
  const { syscall } = error as NodeJS.ErrnoException;
  // Node gives each thread the directory of its process.
  if (syscall === "uv_cwd") return "the working directory is gone: change to another one first";
  return isTooManyFiles(error as NodeJS.ErrnoException) ? TOO_MANY_FILES : reasonOf(error);
}
