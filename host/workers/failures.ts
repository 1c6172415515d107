// What the disk failed. Of files the cores count it, in linear memory, and the main thread looks when a worker tells it to.
import * as layout from "../../assembly/abi/layout.ts";
import type { OnDiskFailure } from "../engines/disk-failure.ts";
import { TIMED_KINDS } from "./statistics.ts";

/** Between two looks: a disk that fails everything must not keep the main thread busy. */
const LOOK_EVERY_MS = 100;

const ENTRIES = layout.KINDS_TIMED * layout.FAILURE_ERRNOS;

/** A worker's end: tells the main thread, unless that has yet to look. */
export class FailureBell {
  private readonly told: Int32Array;

  constructor(memory: WebAssembly.Memory, workerPtr: number) {
    this.told = toldWord(memory, workerPtr);
  }

  /** True if the main thread must be told. */
  ring(): boolean {
    return Atomics.exchange(this.told, 0, 1) === 0;
  }
}

/** The main thread's end. */
export class FailureWatch {
  private readonly view: DataView;

  constructor(
    private readonly memory: WebAssembly.Memory,
    private readonly workerCount: number,
    private readonly tell: OnDiskFailure,
  ) {
    this.view = new DataView(memory.buffer);
  }

  /** A worker rang. Until the next look it won't again. */
  heard(worker: number): void {
    this.look(worker);
    setTimeout(() => {
      // Before the look, so that what is counted behind it is told.
      Atomics.store(toldWord(this.memory, workerPtrOf(worker)), 0, 0);
      this.look(worker);
    }, LOOK_EVERY_MS).unref();
  }

  lookAtAll(): void {
    for (let worker = 0; worker < this.workerCount; worker++) this.look(worker);
  }

  private look(worker: number): void {
    const first = workerPtrOf(worker) + layout.WORKER_FAILURES;
    for (let i = 0; i < ENTRIES; i++) this.lookAt(first + i * layout.FAILURE_STRIDE, i);
  }

  private lookAt(entry: number, index: number): void {
    const { view } = this;
    const total = view.getBigUint64(entry + layout.FAILURE_COUNT, true);
    const count = Number(total - view.getBigUint64(entry + layout.FAILURE_SEEN, true));
    if (count === 0) return;
    const sector = Number(view.getBigUint64(entry + layout.FAILURE_SECTOR, true));
    view.setBigUint64(entry + layout.FAILURE_SEEN, total, true);
    const operation = TIMED_KINDS[Math.floor(index / layout.FAILURE_ERRNOS)]!;
    // 0 - 0 is 0, and not -0.
    const result = 0 - (index % layout.FAILURE_ERRNOS);
    this.tell({ operation, result, sector: operation === "flush" ? undefined : sector, count });
  }
}

function workerPtrOf(worker: number): number {
  return layout.WORKERS_PTR + worker * layout.WORKER_STRIDE;
}

function toldWord(memory: WebAssembly.Memory, workerPtr: number): Int32Array {
  return new Int32Array(memory.buffer, workerPtr + layout.WORKER_TOLD, 1);
}
