// What workers say of the disk unasked, and who is told: operations that failed, flushes that can't be believed any more, and
// an engine that gave way to another.
import { STEP_SYNC_FAILED } from "../../../assembly/abi/step.ts";
import type { DiskFailure, OnDiskFailure } from "../../engines/disk-failure.ts";
import type { EngineName } from "../../engines/engine.ts";
import type { LinearMemory } from "../../memory/linear-memory.ts";
import type { Log } from "../../process/log.ts";
import type { StorageFacts } from "../../storage/storage.ts";
import type { EngineNews } from "../engine-device.ts";
import { FailureLog } from "./failure-log.ts";
import { FailureWatch } from "./failure-watch.ts";

export class DiskWatch implements EngineNews {
  private readonly failureLog: FailureLog;
  private counted: FailureWatch | undefined;

  /** `onFailure` is told what the log is told. */
  constructor(
    private readonly facts: Pick<StorageFacts, "name" | "overlay">,
    private readonly log: Log,
    private readonly onFailure: OnDiskFailure = () => {},
  ) {
    const { name, overlay } = facts;
    this.failureLog = new FailureLog(log, { file: name, ...(overlay && { overlay }) });
  }

  /** Goes by what the cores count: their engine itself says nothing. */
  followCounts({ wasm }: LinearMemory, workerCount: number): void {
    this.counted = new FailureWatch(wasm, workerCount, (failure) => this.failed(failure));
  }

  /** An engine tells of what it failed. */
  failed(failure: DiskFailure): void {
    this.failureLog.add(failure);
    this.onFailure(failure);
  }

  /** A worker's core has counted what its engine failed. */
  operationsFailed(worker: number): void {
    this.counted?.heard(worker);
  }

  /** Bits of step(). */
  deviceNews(bits: number): void {
    if ((bits & STEP_SYNC_FAILED) === 0) return;
    this.log.error(
      { file: this.facts.name },
      "a flush failed, so data may be lost; flushes fail until the image is opened anew",
    );
  }

  fellBack(engine: EngineName): void {
    this.log.warn(
      { file: this.facts.name, engine },
      "io_uring can't make threads of the kernel: raise the limit of processes (ulimit -u, TasksMax=); I/O goes on by threads",
    );
  }

  /** Tells of all that was counted. After the last worker has ended. */
  close(): void {
    this.counted?.lookAtAll();
    this.failureLog.close();
  }
}
