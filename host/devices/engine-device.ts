// A device whose requests the core takes apart itself, and whose operations engines serve: a disk. All others are handed their
// chains (device.ts).
import type { DiskFailure } from "../engines/disk-failure.ts";
import type { EngineName } from "../engines/engine.ts";
import type { EngineRecipe, FileEngine } from "../engines/recipe.ts";
import type { LinearMemory } from "../memory/linear-memory.ts";
import type { Log } from "../process/log.ts";
import type { Device, VirtioDevice } from "./device.ts";

export interface WorkerChoice {
  readonly threads: number;
  readonly engine: FileEngine;
  /** How long a worker may look at its rings before it sleeps, in microseconds. */
  readonly pollUs: number;
}

/** What such a device is given. */
export interface EngineHost {
  /** The device block in it is the device's own. */
  readonly memory: LinearMemory;
  readonly log: Log;
  /** The config space has changed: the driver is told, if the front-end has a way. */
  configChanged(): void;
  /** Changes the disk while no ring runs and nothing is in flight; the rings that ran go on then. */
  whileStopped(change: () => Promise<void>): Promise<void>;
  /** The driver got errors. */
  requestFailed(failure: DiskFailure): void;
}

/** What the workers of such a device say unasked. */
export interface EngineNews {
  /** The engine of a worker has failed operations, for the first time since its FailureBell was reset. */
  operationsFailed(worker: number): void;
  /** Workers go on with another engine, since theirs lacks what it needs. */
  fellBack(engine: EngineName): void;
  /** Bits of step() that are the device's own. */
  deviceNews(bits: number): void;
}

export interface EngineDevice extends Device {
  readonly workers: WorkerChoice;
  /** Whether its workers run in threads of their own. */
  readonly hasOwnThreads: boolean;
  /** Once, before its workers are there: where each gets its engine from. */
  openEngines(host: EngineHost): EngineRecipe;
  /** All workers have ended. */
  closeEngines(): void;
  readonly news: EngineNews;
  /** How many of its rings run, whenever that has changed. */
  ringsRun(count: number): void;
}

export type AnyDevice = VirtioDevice | EngineDevice;

export function isEngineDevice(device: AnyDevice): device is EngineDevice {
  return "openEngines" in device;
}
