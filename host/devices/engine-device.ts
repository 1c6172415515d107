// A device whose requests the core takes apart itself, and whose operations engines serve: a disk. All others are handed their
// chains (device.ts).
import type { DiskFailure } from "../engines/disk-failure.ts";
import type { LinearMemory } from "../memory/linear-memory.ts";
import type { Log } from "../process/log.ts";
import type { Disk } from "../storage/disk.ts";
import type { Device, VirtioDevice } from "./device.ts";

export type EngineChoice = "io_uring" | "threads" | "auto";

export interface WorkerChoice {
  readonly threads: number;
  readonly engine: EngineChoice;
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
}

export interface EngineDevice extends Device {
  /** What the operations are done to. */
  readonly storage: Disk;
  readonly workers: WorkerChoice;
  /** Once, before its workers are there. */
  attach(host: EngineHost): void;
  /** How many of its rings run, whenever that has changed. */
  ringsRun(count: number): void;
  /** The driver got errors. */
  requestFailed(failure: DiskFailure): void;
}

export type AnyDevice = VirtioDevice | EngineDevice;

export function isEngineDevice(device: AnyDevice): device is EngineDevice {
  return "storage" in device;
}
