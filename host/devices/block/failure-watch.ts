// What the engine of a file failed: the cores count it, in linear memory, and the main thread looks when a worker tells it to.
import {
  FAILURE_COUNT,
  FAILURE_ERRNOS,
  FAILURE_SECTOR,
  FAILURE_SEEN,
  FAILURE_STRIDE,
  KINDS_TIMED,
} from "../../../assembly/abi/statistics.ts";
import { WORKER_FAILURES } from "../../../assembly/abi/worker.ts";
import type { OnDiskFailure } from "../../engines/disk-failure.ts";
import { FailureBell } from "../../memory/failure-bell.ts";
import { workerPtrOf } from "../../memory/worker-part.ts";
import { TIMED_KINDS } from "./kinds.ts";

/** Between two looks: a disk that fails everything must not keep the main thread busy. */
const LOOK_EVERY_MS = 100;

const ENTRIES = KINDS_TIMED * FAILURE_ERRNOS;

export class FailureWatch {
  private readonly view: DataView;

  constructor(
    private readonly memory: WebAssembly.Memory,
    private readonly workerCount: number,
    private readonly tell: OnDiskFailure,
  ) {
    this.view = new DataView(memory.buffer);
  }

  /** A worker rang its bell. Until the next look it won't again. */
  heard(worker: number): void {
    this.look(worker);
    setTimeout(() => {
      // Before the look, so that what is counted behind it is told.
      new FailureBell(this.memory, worker).reset();
      this.look(worker);
    }, LOOK_EVERY_MS).unref();
  }

  lookAtAll(): void {
    for (let worker = 0; worker < this.workerCount; worker++) this.look(worker);
  }

  private look(worker: number): void {
    const first = workerPtrOf(worker) + WORKER_FAILURES;
    for (let i = 0; i < ENTRIES; i++) this.lookAt(first + i * FAILURE_STRIDE, i);
  }

  private lookAt(entry: number, index: number): void {
    const { view } = this;
    const total = view.getBigUint64(entry + FAILURE_COUNT, true);
    const count = Number(total - view.getBigUint64(entry + FAILURE_SEEN, true));
    if (count === 0) return;
    const sector = Number(view.getBigUint64(entry + FAILURE_SECTOR, true));
    view.setBigUint64(entry + FAILURE_SEEN, total, true);
    const operation = TIMED_KINDS[Math.floor(index / FAILURE_ERRNOS)]!;
    // 0 - 0 is 0, and not -0.
    const result = 0 - (index % FAILURE_ERRNOS);
    this.tell({ operation, result, sector: operation === "flush" ? undefined : sector, count });
  }
}
