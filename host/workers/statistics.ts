// What the workers count and record, read from linear memory while they go on. Nothing here makes them wait.
import { DEVICE_TIMED } from "../../assembly/abi/device-block.ts";
import { DEVICE_PTR } from "../../assembly/abi/memory.ts";
import {
  KINDS_MAX,
  QUEUE_BROKEN,
  QUEUE_BYTES_IN,
  QUEUE_BYTES_OUT,
  QUEUE_CALLS,
  QUEUE_F_EVENT_IDX,
  QUEUE_F_PACKED,
  QUEUE_FAILURES,
  QUEUE_FLAGS,
  QUEUE_IN_FLIGHT,
  QUEUE_KICKS,
  QUEUE_KINDS,
  QUEUE_RUNNING,
  QUEUE_SIZE,
  QUEUE_STATE,
  QUEUE_STOPPED,
  QUEUE_STOPPING,
  QUEUE_WAITED_NS,
} from "../../assembly/abi/queue.ts";
import {
  BUCKET_SPLIT_SHIFT,
  BUCKET_UNIT_SHIFT,
  BUCKETS,
  COUNT_POLLS_IN_VAIN,
  COUNT_POLLS_PAID,
  COUNT_SLEEPS,
  COUNT_TURNS,
  HISTOGRAM_COUNTS,
  HISTOGRAM_STRIDE,
  HISTOGRAM_SUM,
  KINDS_TIMED,
} from "../../assembly/abi/statistics.ts";
import { LATENCIES_STRIDE, WORKER_COUNTS, WORKER_LATENCIES } from "../../assembly/abi/worker.ts";
import { type Bucket, bucketStart } from "../histogram.ts";
import { placeOf, queuePtrOf, workerPtrOf } from "../memory/worker-part.ts";

/** What a queue has done, and how often either side was notified. */
export interface QueueCounters {
  /** Operations that ended well, by the number of their kind: the device has names for them. */
  operations: readonly number[];
  /** Bytes of data that the device gave to the driver. */
  bytesIn: number;
  /** Bytes of data that it got from the driver. */
  bytesOut: number;
  /** Operations of any kind that ended with an error. */
  failures: number;
  kicks: number;
  calls: number;
  /** Nanoseconds that the chain which was next has waited for a limit. */
  waitedNs: number;
}

/** Where the core counts operations, by kind. */
const KIND_COUNTERS = Array.from({ length: KINDS_MAX }, (_, kind) => QUEUE_KINDS + 8 * kind);

export interface Latency {
  sumNs: number;
  buckets: Bucket[];
}

export type RingState = "stopped" | "running" | "stopping" | "broken";

export interface QueueStatistics {
  index: number;
  state: RingState;
  size: number;
  isPacked: boolean;
  hasEventIdx: boolean;
  inFlight: number;
  counters: QueueCounters;
  /** By the number of the kind, of those that are timed: the first KINDS_TIMED. */
  latencies: readonly Latency[];
}

/** What of a queue's counts goes on in a successor. Counts of a histogram are by their place in it. */
export interface QueueCounts extends QueueCounters {
  readonly index: number;
  readonly durations: readonly {
    readonly sumNs: number;
    readonly counts: readonly [at: number, count: number][];
  }[];
}

export interface WorkerStatistics {
  index: number;
  turns: number;
  sleeps: number;
  pollsPaid: number;
  pollsInVain: number;
}

const STATES: Record<number, RingState> = {
  [QUEUE_STOPPED]: "stopped",
  [QUEUE_RUNNING]: "running",
  [QUEUE_STOPPING]: "stopping",
  [QUEUE_BROKEN]: "broken",
};

const LISTED_LEAST = 16;

const FIELDS = [
  ["bytesIn", QUEUE_BYTES_IN],
  ["bytesOut", QUEUE_BYTES_OUT],
  ["failures", QUEUE_FAILURES],
  ["kicks", QUEUE_KICKS],
  ["calls", QUEUE_CALLS],
  ["waitedNs", QUEUE_WAITED_NS],
] as const;

export class Statistics {
  constructor(
    private readonly view: DataView,
    private readonly queueCount: number,
    private readonly workerCount: number,
  ) {}

  /** Of all up to the last that was ever started, and of a few at least: hundreds that are not in use tell nothing. */
  queues(): QueueStatistics[] {
    let count = this.queueCount;
    while (count > LISTED_LEAST && this.size(count - 1) === 0) count--;
    return Array.from({ length: count }, (_, index) => this.queue(index));
  }

  workers(): WorkerStatistics[] {
    return Array.from({ length: this.workerCount }, (_, index) => this.worker(index));
  }

  counters(index: number): QueueCounters {
    const ptr = this.queuePtr(index);
    const count = (field: number) => this.readU64(ptr + field);
    return {
      operations: KIND_COUNTERS.map(count),
      bytesIn: count(QUEUE_BYTES_IN),
      bytesOut: count(QUEUE_BYTES_OUT),
      failures: count(QUEUE_FAILURES),
      kicks: count(QUEUE_KICKS),
      calls: count(QUEUE_CALLS),
      waitedNs: count(QUEUE_WAITED_NS),
    };
  }

  save(): QueueCounts[] {
    return this.queues().map(({ index }) => {
      const counters = this.counters(index);
      const durations = counters.operations.slice(0, KINDS_TIMED).map((count, kind) => {
        const ptr = this.durationsPtr(index, kind);
        return count === 0
          ? { sumNs: 0, counts: [] }
          : { sumNs: this.readU64(ptr + HISTOGRAM_SUM), counts: this.countsAt(ptr) };
      });
      return { index, ...counters, durations };
    });
  }

  /** What a predecessor has counted. No ring runs. */
  restore(saved: readonly QueueCounts[]): void {
    for (const { index, durations, operations, ...counts } of saved) {
      if (index >= this.queueCount) continue;
      const ptr = this.queuePtr(index);
      for (const [kind, field] of KIND_COUNTERS.entries()) this.writeU64(ptr + field, operations[kind] ?? 0);
      for (const [name, field] of FIELDS) this.writeU64(ptr + field, counts[name]);
      durations.slice(0, KINDS_TIMED).forEach(({ sumNs, counts }, kind) => {
        const first = this.durationsPtr(index, kind);
        if (counts.length > 0) this.writeU64(first + HISTOGRAM_SUM, sumNs);
        for (const [at, count] of counts)
          if (at < BUCKETS) this.writeU64(first + HISTOGRAM_COUNTS + 8 * at, count);
      });
    }
  }

  /** Whether workers are to time requests. They look at it before each turn. */
  setTimed(isTimed: boolean): void {
    this.view.setUint32(DEVICE_PTR + DEVICE_TIMED, Number(isTimed), true);
  }

  get isTimed(): boolean {
    return this.view.getUint32(DEVICE_PTR + DEVICE_TIMED, true) !== 0;
  }

  /** 0 until it is started for the first time. */
  private size(index: number): number {
    return this.view.getUint32(this.queuePtr(index) + QUEUE_SIZE, true);
  }

  private queue(index: number): QueueStatistics {
    const ptr = this.queuePtr(index);
    const u32 = (field: number) => this.view.getUint32(ptr + field, true);
    const flags = u32(QUEUE_FLAGS);
    const counters = this.counters(index);
    return {
      index,
      state: STATES[u32(QUEUE_STATE)]!,
      size: u32(QUEUE_SIZE),
      isPacked: (flags & QUEUE_F_PACKED) !== 0,
      hasEventIdx: (flags & QUEUE_F_EVENT_IDX) !== 0,
      inFlight: u32(QUEUE_IN_FLIGHT),
      counters,
      latencies: this.latencies(index, counters),
    };
  }

  private latencies(index: number, { operations }: QueueCounters): Latency[] {
    return operations.slice(0, KINDS_TIMED).map((count, kind) => {
      // What was never touched has no memory behind it yet, and needs none.
      return count === 0 ? { sumNs: 0, buckets: [] } : this.latency(this.durationsPtr(index, kind));
    });
  }

  private latency(ptr: number): Latency {
    const buckets = this.countsAt(ptr).map(
      ([i, count]): Bucket => [bucketStartNs(i), bucketStartNs(i + 1), count],
    );
    return { sumNs: this.readU64(ptr + HISTOGRAM_SUM), buckets };
  }

  private countsAt(ptr: number): [at: number, count: number][] {
    const counts: [number, number][] = [];
    for (let i = 0; i < BUCKETS; i++) {
      const count = this.readU64(ptr + HISTOGRAM_COUNTS + 8 * i);
      if (count > 0) counts.push([i, count]);
    }
    return counts;
  }

  private durationsPtr(index: number, kind: number): number {
    const { worker, queue } = placeOf(index, this.workerCount);
    return workerPtrOf(worker) + WORKER_LATENCIES + queue * LATENCIES_STRIDE + kind * HISTOGRAM_STRIDE;
  }

  private worker(index: number): WorkerStatistics {
    const ptr = workerPtrOf(index) + WORKER_COUNTS;
    const count = (at: number) => this.view.getFloat64(ptr + 8 * at, true);
    return {
      index,
      turns: count(COUNT_TURNS),
      sleeps: count(COUNT_SLEEPS),
      pollsPaid: count(COUNT_POLLS_PAID),
      pollsInVain: count(COUNT_POLLS_IN_VAIN),
    };
  }

  private queuePtr(index: number): number {
    return queuePtrOf(placeOf(index, this.workerCount));
  }

  private readU64(ptr: number): number {
    return Number(this.view.getBigUint64(ptr, true));
  }

  private writeU64(ptr: number, value: number): void {
    this.view.setBigUint64(ptr, BigInt(value), true);
  }
}

/** Where a bucket of the core's histograms begins, in nanoseconds: bucketOf() of assembly/io/statistics.ts the other way. */
export function bucketStartNs(index: number): number {
  return bucketStart(index, BUCKET_SPLIT_SHIFT) * 2 ** BUCKET_UNIT_SHIFT;
}
