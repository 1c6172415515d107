// What serves the core's SQEs: the seam between the core and whoever does the I/O.
import type { Core } from "../core/core.ts";

/** "disk", "chains": a disk or a device that is an object, in the thread of whoever gave it. "rbd": an image in a Ceph cluster. */
export type EngineName = "io_uring" | "threads" | "disk" | "chains" | "rbd";

/**
 * Nothing to do until a completion comes; the same, but look again soon, or after so many microseconds; or there is more to do at
 * once.
 */
export type Patience = "wait" | "wait-briefly" | number | "go-on";

/** How long "wait-briefly" may take, in microseconds. */
export const BRIEF_WAIT_US = 200;

/** In microseconds, of a wait that ends by itself. */
export function waitUsOf(patience: Patience): number | undefined {
  if (patience === "wait-briefly") return BRIEF_WAIT_US;
  return typeof patience === "number" ? patience : undefined;
}

/** A worker as its engine sees it: the memory that it shares with its core, and where the worker's part of that lies. */
export interface EngineWorker {
  memory: WebAssembly.Memory;
  /** Where the memory begins in this process. */
  memoryHostAddress: number;
  workerPtr: number;
}

/** Makes the engine of a worker, in the thread of that worker. */
export type OpenEngine = (worker: EngineWorker) => Engine;

export interface Engine {
  readonly name: EngineName;
  /** Requests that may be in flight at a time. */
  readonly requestCount: number;
  /** Whether completions show in the rings while the thread does nothing but look. */
  readonly canPoll: boolean;
  /** Tells the core where the rings are. Once, before its first step. */
  attach(core: Core): void;
  /**
   * Takes the SQEs that the core has published, and waits as asked. When this returns, or when the promise it
   * returns resolves, nothing of the SQEs is read any more; what they point to must stay until they complete.
   */
  enter(count: number, patience: Patience): Promise<void> | undefined;
  /** Guest memory may have changed since the last ring started. */
  forgetMemory?(): void;
  /** A queue has stopped, and nothing of it is in flight: its descriptors may be closed from now on. */
  forgetDescriptors?(): void;
  /** QUEUE_F_* that a queue (its index in the worker) wants beside those of its format. */
  queueFlags?(queue: number): number;
  /** The core has started a ring of `size` entries. */
  queueStarted?(queue: number, size: number): void;
  /** A ring is to stop: the core is told once this has resolved. Until then completions go on. */
  queueStopping?(queue: number): Promise<void>;
  /** Ends a wait of enter() early, or keeps the next one from beginning: something outside of the core's turn wants one. */
  wake?(): void;
  /**
   * Another engine that goes on with all that this one holds, when the core says that this one lacks what it needs
   * (STEP_STARVED); undefined if there is none now.
   */
  fallBack?(core: Core): Engine | undefined;
  close(): void;
}
