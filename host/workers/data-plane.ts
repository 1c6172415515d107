// The workers as the control plane sees them: rings are started and stopped here, and answered for later.
import { EventEmitter } from "node:events";
import { DEVICE_MEMORY_HOST_ADDRESS } from "../../assembly/abi/device-block.ts";
import { DEVICE_PTR } from "../../assembly/abi/memory.ts";
import { QUEUE_F_EVENT_IDX, QUEUE_F_PACKED } from "../../assembly/abi/queue.ts";
import { compileCore } from "../core/core.ts";
import type { EngineName } from "../engines/engine.ts";
import type { EngineRecipe } from "../engines/recipe.ts";
import { closePeerSignals, openPeerSignals } from "../linux/peer-notifier.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { placeOf, queueIndexAt, queuesOf, workerCountFor } from "../memory/worker-part.ts";
import type { Log } from "../process/log.ts";
import type { RingPlace } from "./commands.ts";
import { describeFault } from "./faults.ts";
import { Statistics } from "./statistics.ts";
import { allReady, WorkerHandle } from "./worker-handle.ts";

/** What the workers are, and what they serve. */
export interface DataPlanePlan {
  queueCount: number;
  /** Workers at the most. What lives in this thread has one. */
  threads: number;
  /** How long a worker may look at its rings before it sleeps, in microseconds. */
  pollUs: number;
  /** Where each worker gets its engine from. */
  recipe: EngineRecipe;
}

/** A ring to start. The caller keeps the descriptors open until stop() has resolved. */
export interface VringStart extends RingPlace {
  index: number;
  packed: boolean;
  eventIdx: boolean;
}

/** What workers say unasked. */
export interface DataPlaneEvents {
  /** A ring broke: it takes nothing more until it is stopped and started again. */
  broken: [index: number, reason: string];
  /** The engine of a worker has failed operations, for the first time since its FailureBell was reset. */
  operationsFailed: [worker: number];
  /** Workers go on with another engine, since theirs lacks what it needs. */
  fellBack: [engine: EngineName];
  /** What the device's part of the core has to say: bits of step(). */
  deviceNews: [bits: number];
  /** A worker has failed, which it must not: I/O in flight can't be accounted for without it. Unheard, the error is thrown. */
  error: [error: Error];
}

export class DataPlane extends EventEmitter<DataPlaneEvents> {
  /** Of each ring that is broken or was: why it broke last. */
  readonly faults = new Map<number, string>();
  readonly statistics: Statistics;
  private brokenCount = 0;

  private constructor(
    private readonly memory: GuestMemory,
    queueCount: number,
    private readonly workers: readonly WorkerHandle[],
    private currentEngine: EngineName,
  ) {
    super();
    this.statistics = new Statistics(memory.linear.view, queueCount, workers.length);
    workers.forEach((worker, w) => {
      worker.on("broken", (queue, fault) => this.noteBroken(w, queue, fault));
      worker.on("failed", () => this.emit("operationsFailed", w));
      worker.on("fellBack", (engine) => this.noteEngine(engine));
      worker.on("deviceNews", (bits) => this.emit("deviceNews", bits));
      worker.on("error", (error) => this.emit("error", error));
    });
  }

  /** Starts the workers. What their core must know of the device is in linear memory before this is called. */
  static async open(memory: GuestMemory, plan: DataPlanePlan, log: Log): Promise<DataPlane> {
    const { queueCount, threads, pollUs, recipe } = plan;
    const core = await compileCore();
    const count = recipe.place === "this-thread" ? 1 : workerCountFor(threads, queueCount);
    const { wasm, hostAddress, view } = memory.linear;
    // Of the device block, this is what the core needs of any device.
    view.setBigUint64(DEVICE_PTR + DEVICE_MEMORY_HOST_ADDRESS, BigInt(hostAddress), true);
    const shared = { memory: wasm, memoryHostAddress: hostAddress, core, pollUs };
    const workers = Array.from(
      { length: count },
      (_, index) =>
        new WorkerHandle({ ...shared, index, queueCount: queuesOf(index, count, queueCount) }, recipe),
    );
    const { engine, whyNotUring } = await allReady(workers);
    // For the session, which signals in this thread.
    openPeerSignals();
    log.info({ engine, threads: count }, "workers started");
    if (whyNotUring !== undefined)
      log.warn(
        { reason: whyNotUring },
        "io_uring can't be used, so threads serve, which is slower: ask vringd doctor",
      );
    return new DataPlane(memory, queueCount, workers, engine);
  }

  /** That of the worker which was the last to change it, if any did. */
  get engine(): EngineName {
    return this.currentEngine;
  }

  get threads(): number {
    return this.workers.length;
  }

  async start({ index, packed, eventIdx, ...ring }: VringStart): Promise<void> {
    const flags = (packed ? QUEUE_F_PACKED : 0) | (eventIdx ? QUEUE_F_EVENT_IDX : 0);
    const { worker, queue } = this.locate(index);
    this.memory.holdRing(index, [ring.descPtr, ring.driverPtr, ring.devicePtr]);
    await worker.send({ type: "start", queue, start: { ...ring, flags }, windows: this.memory.windowPlan });
  }

  /** Takes nothing more from the ring and completes what is in flight. Resolves with the vring base. */
  stop(index: number): Promise<number> {
    return this.end(index, false);
  }

  /** The same, but what can be cancelled stays in flight, recorded for a successor. Only for a ring that is tracked. */
  suspend(index: number): Promise<number> {
    return this.end(index, true);
  }

  private async end(index: number, isSuspend: boolean): Promise<number> {
    const { worker, queue } = this.locate(index);
    const { base } = await worker.send({ type: "stop", queue, isSuspend });
    this.memory.releaseRing(index);
    return base!;
  }

  /** Resolves when the ring no longer uses its former call descriptor. */
  async setCall(index: number, callFd: number): Promise<void> {
    const { worker, queue } = this.locate(index);
    await worker.send({ type: "set-call", queue, callFd });
  }

  /** Resolves when every worker logs what it writes from then on, or no longer does. The log must be there as long as one may. */
  async setLogging(isOn: boolean): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.send({ type: "set-logging", isOn })));
  }

  /** Rings that broke since the data plane was opened, and under a predecessor. */
  get brokenRings(): number {
    return this.brokenCount;
  }

  /** Under a predecessor so many broke. */
  set brokenRings(count: number) {
    this.brokenCount = count;
  }

  /** Ends the workers. All rings must have been stopped. */
  async close(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.quit()));
    closePeerSignals();
  }

  private noteBroken(worker: number, queue: number, fault: number): void {
    const index = queueIndexAt({ worker, queue }, this.workers.length);
    const reason = describeFault(fault);
    this.brokenCount++;
    this.faults.set(index, reason);
    this.emit("broken", index, reason);
  }

  private noteEngine(engine: EngineName): void {
    // Other workers meet the same limit.
    if (engine === this.currentEngine) return;
    this.currentEngine = engine;
    this.emit("fellBack", engine);
  }

  private locate(index: number): { worker: WorkerHandle; queue: number } {
    const { worker, queue } = placeOf(index, this.workers.length);
    return { worker: this.workers[worker]!, queue };
  }
}
