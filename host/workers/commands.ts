// What the main thread and a worker say to each other. The worker looks when its control eventfd was written.
import type { MessagePort } from "node:worker_threads";
import type { EngineName } from "../engines/engine.ts";
import type { FilesRecipe } from "../engines/recipe.ts";
import type { WindowPlan } from "../memory/guest-memory.ts";
import type { QueueInflight } from "../memory/inflight-region.ts";

/** A worker's start: what it shares with the main thread. `queueCount` queues, numbered within the worker. */
export interface WorkerSetup {
  index: number;
  queueCount: number;
  memory: WebAssembly.Memory;
  memoryHostAddress: number;
  core: WebAssembly.Module;
  controlFd: number;
  /** How long the worker may look at its rings before it sleeps, in microseconds. */
  pollUs: number;
  port: MessagePort;
}

/** The start of a worker in a thread of its own. */
export interface ThreadSetup extends WorkerSetup {
  recipe: FilesRecipe;
}

/** Where a ring is, and where it begins. */
export interface RingPlace {
  size: number;
  descPtr: number;
  /** Avail ring, or driver event suppression. */
  driverPtr: number;
  /** Used ring, or device event suppression. */
  devicePtr: number;
  /** Where the descriptors, and what the device writes, lie for the guest. */
  descGpa: bigint;
  deviceGpa: bigint;
  /** As in VHOST_USER_SET_VRING_BASE. */
  base: number;
  /** -1: none, so the ring is polled. */
  kickFd: number;
  /** -1: none. */
  callFd: number;
  /** Where requests in flight are recorded, and left by a predecessor. */
  inflight: QueueInflight | undefined;
}

export interface QueueStart extends RingPlace {
  /** QUEUE_F_*: the ring's format, and how the core is to take its chains. */
  flags: number;
}

/** Each is answered by a Done with the same id; a stop when the queue has stopped, with its base. */
export type Command =
  | { type: "start"; id: number; queue: number; start: QueueStart; windows: WindowPlan | undefined }
  | { type: "stop"; id: number; queue: number; isSuspend: boolean }
  | { type: "set-call"; id: number; queue: number; callFd: number }
  | { type: "set-logging"; id: number; isOn: boolean }
  | { type: "quit"; id: number };

export type Report =
  | { type: "ready"; engine: EngineName; whyNotUring: string | undefined }
  | { type: "done"; id: number; base?: number }
  | { type: "broken"; queue: number; fault: number }
  /** The core has counted failures of the engine, for the first time since the main thread has looked. */
  | { type: "failed" }
  | { type: "fell-back"; engine: EngineName }
  /** Bits of step() that are the device's own. */
  | { type: "device-news"; bits: number };
