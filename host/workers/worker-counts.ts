// What a worker counts of its own turns, and the time that it tells its core: plain stores, which the main thread reads.
import {
  COUNT_POLLS_IN_VAIN,
  COUNT_POLLS_PAID,
  COUNT_SLEEPS,
  COUNT_TURNS,
  COUNTS,
  DEVICE_PTR,
  DEVICE_TIMED,
  WORKER_CLOCK,
  WORKER_COUNTS,
} from "../../assembly/abi/layout.ts";

export class WorkerCounts {
  private readonly isTimed: Int32Array;
  private readonly clock: Float64Array;
  private readonly counts: Float64Array;

  constructor(memory: WebAssembly.Memory, workerPtr: number) {
    this.isTimed = new Int32Array(memory.buffer, DEVICE_PTR + DEVICE_TIMED, 1);
    this.clock = new Float64Array(memory.buffer, workerPtr + WORKER_CLOCK, 1);
    this.counts = new Float64Array(memory.buffer, workerPtr + WORKER_COUNTS, COUNTS);
  }

  /** Before each step. The clock costs 80 ns, so it is read only while somebody wants to know how long requests take. */
  beginTurn(): void {
    this.counts[COUNT_TURNS]!++;
    this.clock[0] = this.isTimed[0] === 0 ? 0 : performance.now();
  }

  countSleep(): void {
    this.counts[COUNT_SLEEPS]!++;
  }

  countPoll(hasPaid: boolean): void {
    this.counts[hasPaid ? COUNT_POLLS_PAID : COUNT_POLLS_IN_VAIN]!++;
  }
}
