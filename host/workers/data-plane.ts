// The workers as the control plane sees them: rings are started and stopped here, and answered for later.
import { MessageChannel, type MessagePort } from "node:worker_threads";
import * as layout from "../../assembly/abi/layout.ts";
import { compileCore } from "../core/core.ts";
import { clearFlushed, writeDeviceBlock, writeWriteThrough } from "../devices/block/device-block.ts";
import type { OnDiskFailure } from "../engines/disk-failure.ts";
import type { EngineName, OpenEngine } from "../engines/engine.ts";
import { DiskEngine } from "../engines/objects.ts";
import { createEventfd, signalEventfd } from "../linux/eventfd.ts";
import { close } from "../linux/libc.ts";
import { closePeerSignals, openPeerSignals } from "../linux/peer-notifier.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import type { QueueInflight } from "../memory/inflight-region.ts";
import type { Log } from "../process/log.ts";
import { startWorker } from "../process/own-files.ts";
import type { Disk } from "../storage/disk.ts";
import { BounceBuffers } from "./bounce-buffers.ts";
import type { Command, Report, WorkerSetup } from "./commands.ts";
import { FailureWatch } from "./failures.ts";
import { describeFault } from "./faults.ts";
import { startHere, type Thread } from "./local-worker.ts";
import { COUNTERS, type QueueCounters, Statistics } from "./statistics.ts";

export interface DataPlaneOptions {
  queueCount: number;
  threads: number;
  engine: "io_uring" | "threads" | "auto";
  /** How long a worker may look at its rings before it sleeps, in microseconds. */
  pollUs: number;
}

/** A ring to start. The caller keeps the descriptors open until stop() has resolved. */
export interface VringStart {
  index: number;
  size: number;
  packed: boolean;
  eventIdx: boolean;
  descPtr: number;
  /** Avail ring, or driver event suppression. */
  driverPtr: number;
  /** Used ring, or device event suppression. */
  devicePtr: number;
  /** As in VHOST_USER_SET_VRING_BASE. */
  base: number;
  /** -1: none, so the ring is polled. */
  kickFd: number;
  /** -1: none. */
  callFd: number;
  /** Where requests in flight are recorded, and left by a predecessor. */
  inflight: QueueInflight | undefined;
}

/** Requests by what became of them, notifications, and rings that broke, over all queues since the data plane was opened. */
export type Counters = QueueCounters & { brokenRings: number };

type Ready = Extract<Report, { type: "ready" }>;
type Unnumbered<T> = T extends { id: number } ? Omit<T, "id"> : never;

/** One worker thread, and the commands it has not answered yet. */
class WorkerHandle {
  readonly ready: Promise<Ready>;
  onBroken: ((queue: number, fault: number) => void) | undefined;
  onFailed: (() => void) | undefined;
  onFellBack: ((engine: EngineName) => void) | undefined;
  onSyncFailed: (() => void) | undefined;

  private readonly thread: Thread;
  private readonly port: MessagePort;
  private readonly controlFd = createEventfd();
  private readonly unanswered = new Map<number, (report: { base?: number }) => void>();
  private lastId = 0;

  constructor(setup: Omit<WorkerSetup, "port" | "controlFd">, launch = startThread) {
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    const workerData: WorkerSetup = { ...setup, port: port2, controlFd: this.controlFd };
    this.thread = launch(workerData);
    this.ready = new Promise((resolve, reject) => {
      this.thread.once("error", reject);
      this.port.on("message", (report: Report) => {
        if (report.type === "ready") resolve(report);
        else if (report.type === "broken") this.onBroken?.(report.queue, report.fault);
        else if (report.type === "failed") this.onFailed?.();
        else if (report.type === "fell-back") this.onFellBack?.(report.engine);
        else if (report.type === "sync-failed") this.onSyncFailed?.();
        else this.answer(report);
      });
    });
  }

  /** A worker that dies later takes the process with it: inflight I/O can't be accounted for without it. */
  failWith(onError: (error: Error) => void): void {
    this.thread.on("error", onError);
  }

  send(command: Unnumbered<Command>): Promise<{ base?: number }> {
    const id = ++this.lastId;
    const answer = new Promise<{ base?: number }>((resolve) => {
      this.unanswered.set(id, resolve);
    });
    this.port.postMessage({ ...command, id });
    signalEventfd(this.controlFd);
    return answer;
  }

  async quit(): Promise<void> {
    const exited = new Promise((resolve) => {
      this.thread.once("exit", resolve);
    });
    await this.send({ type: "quit" });
    await exited;
    this.port.close();
    close(this.controlFd);
  }

  private answer({ id, ...report }: Extract<Report, { type: "done" }>): void {
    this.unanswered.get(id)?.(report);
    this.unanswered.delete(id);
  }
}

function startThread(workerData: WorkerSetup): Thread {
  return startWorker({ workerData, transferList: [workerData.port] });
}

/** Resolves with what the first worker has to say. If one can't start, none is left running. */
async function allReady(workers: readonly WorkerHandle[]): Promise<Ready> {
  const results = await Promise.allSettled(workers.map(({ ready }) => ready));
  const failed = results.find((result) => result.status === "rejected");
  if (!failed) return (results[0] as PromiseFulfilledResult<Ready>).value;
  const started = workers.filter((_, i) => results[i]!.status === "fulfilled");
  await Promise.all(started.map((worker) => worker.quit()));
  throw failed.reason;
}

export class DataPlane {
  /** A ring broke: it takes nothing more until it is stopped and started again. */
  onBroken: ((index: number, reason: string) => void) | undefined;
  /** A worker has failed, which it must not: I/O in flight can't be accounted for without it. */
  onFailure = (error: Error): void => {
    throw error;
  };
  /** The same, for whoever embeds the device. */
  observeBroken: ((index: number, reason: string) => void) | undefined;
  /** Of each ring that is broken or was: why it broke last. */
  readonly faults = new Map<number, string>();
  readonly statistics: Statistics;
  private brokenRings = 0;
  private runningRings = 0;
  private writeThrough: number = layout.WRITE_THROUGH_OFF;
  private toldWriteThrough: number = layout.WRITE_THROUGH_OFF;

  private constructor(
    private readonly memory: GuestMemory,
    private readonly workers: readonly WorkerHandle[],
    private readonly queueCount: number,
    private currentEngine: EngineName,
    private readonly disk: Disk | undefined,
    private readonly log: Log,
    private readonly bounce: BounceBuffers | undefined,
    private readonly failures: FailureWatch | undefined,
  ) {
    this.statistics = new Statistics(memory.linear.view, queueCount, workers.length);
    workers.forEach((worker, w) => {
      worker.onBroken = (queue, fault) => {
        const index = queue * workers.length + w;
        const reason = describeFault(fault);
        this.brokenRings++;
        this.faults.set(index, reason);
        this.onBroken?.(index, reason);
        this.observeBroken?.(index, reason);
      };
      worker.onFailed = () => this.failures?.heard(w);
      worker.onFellBack = (engine) => this.reportFallBack(engine);
      worker.onSyncFailed = () =>
        log.error(
          { file: disk?.path },
          "a flush failed, so data may be lost; flushes fail until the image is opened anew",
        );
      worker.failWith((error) => this.onFailure(error));
    });
  }

  /** For what lives in this thread and is no disk. */
  static async openHere(
    memory: GuestMemory,
    queueCount: number,
    openEngine: OpenEngine,
    log: Log,
  ): Promise<DataPlane> {
    const { view, hostAddress, wasm } = memory.linear;
    view.setBigUint64(layout.DEVICE_PTR + layout.DEVICE_MEMORY_HOST_ADDRESS, BigInt(hostAddress), true);
    const setup = { memory: wasm, memoryHostAddress: hostAddress, core: await compileCore(), imageFds: [] };
    const worker = new WorkerHandle({ ...setup, index: 0, queueCount, engine: "auto", pollUs: 0 }, (all) =>
      startHere(all, openEngine),
    );
    const { engine } = await worker.ready;
    openPeerSignals();
    return new DataPlane(memory, [worker], queueCount, engine, undefined, log, undefined, undefined);
  }

  static async open(
    memory: GuestMemory,
    disk: Disk,
    options: DataPlaneOptions,
    log: Log,
    onDiskFailure: OnDiskFailure = () => {},
  ): Promise<DataPlane> {
    writeDeviceBlock(memory.linear, disk);
    const core = await compileCore();
    const count = Math.min(options.threads, options.queueCount, layout.WORKERS_MAX);
    const bounce = disk.directMask === 0 ? undefined : BounceBuffers.open(memory.linear, count);
    const { object } = disk;
    const launch =
      object &&
      ((setup: WorkerSetup) =>
        startHere(
          setup,
          (worker) => new DiskEngine({ ...worker, blockSize: disk.blockSize }, object, onDiskFailure),
        ));
    const workers = Array.from(
      { length: count },
      (_, index) =>
        new WorkerHandle(
          {
            index,
            queueCount: Math.ceil((options.queueCount - index) / count),
            memory: memory.linear.wasm,
            memoryHostAddress: memory.linear.hostAddress,
            core,
            imageFds: [disk.fd, disk.unalignedFd, ...(bounce ? [bounce.fd] : [])],
            engine: options.engine,
            pollUs: options.pollUs,
          },
          launch,
        ),
    );
    const { engine, whyNotUring } = await allReady(workers).catch((error) => {
      bounce?.close();
      throw error;
    });
    // For the session, which signals in this thread.
    openPeerSignals();
    log.info({ engine, threads: count, ...(whyNotUring && { whyNotUring }) }, "workers started");
    // An object's failures are told by its engine, which knows what was thrown.
    const watch = object ? undefined : new FailureWatch(memory.linear.wasm, count, onDiskFailure);
    return new DataPlane(memory, workers, options.queueCount, engine, disk, log, bounce, watch);
  }

  /** That of the worker which was the last to change it, if any did. */
  get engine(): EngineName {
    return this.currentEngine;
  }

  get threads(): number {
    return this.workers.length;
  }

  private reportFallBack(engine: EngineName): void {
    // Other workers meet the same limit.
    if (engine === this.currentEngine) return;
    this.currentEngine = engine;
    this.log.warn(
      { file: this.disk?.path, engine },
      "io_uring can't make threads of the kernel: raise the limit of processes (ulimit -u, TasksMax=); I/O goes on by threads",
    );
  }

  async start({ index, packed, eventIdx, ...ring }: VringStart): Promise<void> {
    const flags = (packed ? layout.QUEUE_F_PACKED : 0) | (eventIdx ? layout.QUEUE_F_EVENT_IDX : 0);
    const { worker, queue } = this.locate(index);
    this.memory.holdRing(index, [ring.descPtr, ring.driverPtr, ring.devicePtr]);
    await worker.send({ type: "start", queue, start: { ...ring, flags }, windows: this.memory.windowPlan });
    this.runningRings++;
    this.tellCacheMode();
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
    this.runningRings--;
    return base!;
  }

  /** Resolves when the ring no longer uses its former call descriptor. */
  async setCall(index: number, callFd: number): Promise<void> {
    const { worker, queue } = this.locate(index);
    await worker.send({ type: "set-call", queue, callFd });
  }

  /** With write-through, writes are stable when they complete: WRITE_THROUGH_*. Takes effect with the next write. */
  setWriteThrough(mode: number): void {
    writeWriteThrough(this.memory.linear, mode);
    this.writeThrough = mode;
    this.tellCacheMode();
  }

  /** WRITE_THROUGH_UNTIL_FLUSH waits for a FLUSH from now on. */
  forgetFlush(): void {
    clearFlushed(this.memory.linear);
  }

  /** Not while nothing can be written: the mode goes back and forth as features are negotiated. */
  private tellCacheMode(): void {
    const mode = this.writeThrough;
    if (this.runningRings === 0 || mode === this.toldWriteThrough) return;
    this.toldWriteThrough = mode;
    const until = mode === layout.WRITE_THROUGH_UNTIL_FLUSH ? { until: "the driver's first flush" } : {};
    this.log.info(until, mode === layout.WRITE_THROUGH_OFF ? "write-through is off" : "write-through is on");
  }

  counters(): Counters {
    const totals = Object.fromEntries(COUNTERS.map((name) => [name, 0])) as Counters;
    for (let index = 0; index < this.queueCount; index++) {
      const counters = this.statistics.counters(index);
      for (const name of COUNTERS) totals[name] += counters[name];
    }
    return { ...totals, brokenRings: this.brokenRings };
  }

  /** Ends the workers. All rings must have been stopped. */
  async close(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.quit()));
    this.failures?.lookAtAll();
    this.bounce?.close();
    closePeerSignals();
  }

  /** Queues are dealt to the workers in turn. */
  private locate(index: number): { worker: WorkerHandle; queue: number } {
    const count = this.workers.length;
    return { worker: this.workers[index % count]!, queue: Math.floor(index / count) };
  }
}
