// What a worker counts of its own turns, and the time that it tells its core: plain stores, which the main thread reads.
import { DEVICE_LIMITED, DEVICE_TIMED } from "../../assembly/abi/device-block.ts";
import { DEVICE_PTR } from "../../assembly/abi/memory.ts";
import {
  COUNT_POLLS_IN_VAIN,
  COUNT_POLLS_PAID,
  COUNT_SLEEPS,
  COUNT_TURNS,
  COUNTS,
} from "../../assembly/abi/statistics.ts";
import { WORKER_CLOCK, WORKER_COUNTS, WORKER_NOW } from "../../assembly/abi/worker.ts";

const NS_PER_MS = 1e6;

export class WorkerCounts {
  private readonly isTimed: Int32Array;
  private readonly clock: Float64Array;
  private readonly counts: Float64Array;
  private readonly isLimited: Int32Array;
  private readonly now: Float64Array;
  /** Each thread has its own start of performance.now(); what all share is the kernel's monotonic clock. */
  private readonly startMs = Number(process.hrtime.bigint()) / NS_PER_MS - performance.now();

  constructor(memory: WebAssembly.Memory, workerPtr: number) {
    this.isTimed = new Int32Array(memory.buffer, DEVICE_PTR + DEVICE_TIMED, 1);
    this.clock = new Float64Array(memory.buffer, workerPtr + WORKER_CLOCK, 1);
    this.isLimited = new Int32Array(memory.buffer, DEVICE_PTR + DEVICE_LIMITED, 1);
    this.now = new Float64Array(memory.buffer, workerPtr + WORKER_NOW, 1);
    this.counts = new Float64Array(memory.buffer, workerPtr + WORKER_COUNTS, COUNTS);
  }

  /** Before each step. The clock costs 80 ns, so it is read only while somebody wants to know how long requests take. */
  beginTurn(): void {
    this.counts[COUNT_TURNS]!++;
    this.clock[0] = this.isTimed[0] === 0 ? 0 : performance.now();
    if (Atomics.load(this.isLimited, 0) !== 0) this.now[0] = (performance.now() + this.startMs) * NS_PER_MS;
  }

  countSleep(): void {
    this.counts[COUNT_SLEEPS]!++;
  }

  countPoll(hasPaid: boolean): void {
    this.counts[hasPaid ? COUNT_POLLS_PAID : COUNT_POLLS_IN_VAIN]!++;
  }
}
