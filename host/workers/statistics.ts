// What the workers count and record, read from linear memory while they go on. Nothing here makes them wait.
import * as layout from "../../assembly/abi/layout.ts";

/** A block device's counters of a queue, and where each lies in the queue's state. */
const PLACES = {
  reads: placeOfKind(layout.KIND_READ),
  readBytes: layout.QUEUE_BYTES_IN,
  writes: placeOfKind(layout.KIND_WRITE),
  writtenBytes: layout.QUEUE_BYTES_OUT,
  flushes: placeOfKind(layout.KIND_FLUSH),
  discards: placeOfKind(layout.KIND_DISCARD),
  writeZeroes: placeOfKind(layout.KIND_WRITE_ZEROES),
  ids: placeOfKind(layout.KIND_ID),
  failures: layout.QUEUE_FAILURES,
  kicks: layout.QUEUE_KICKS,
  calls: layout.QUEUE_CALLS,
};
export type QueueCounters = Record<keyof typeof PLACES, number>;
export const COUNTERS = Object.keys(PLACES) as (keyof QueueCounters)[];

function placeOfKind(kind: number): number {
  return layout.QUEUE_KINDS + 8 * kind;
}

/** Kinds of request that are timed, in the order of KIND_*. */
export const TIMED_KINDS = ["read", "write", "flush", "discard", "writeZeroes"] as const;
export type TimedKind = (typeof TIMED_KINDS)[number];

/** Buckets that hold something: where each begins and ends, in nanoseconds, and how many requests took that long. */
export type Bucket = [fromNs: number, toNs: number, count: number];

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
  latencies: Record<TimedKind, Latency>;
}

export interface WorkerStatistics {
  index: number;
  turns: number;
  sleeps: number;
  pollsPaid: number;
  pollsInVain: number;
}

const STATES: Record<number, RingState> = {
  [layout.QUEUE_STOPPED]: "stopped",
  [layout.QUEUE_RUNNING]: "running",
  [layout.QUEUE_STOPPING]: "stopping",
  [layout.QUEUE_BROKEN]: "broken",
};

const LISTED_LEAST = 16;

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
    return Object.fromEntries(
      COUNTERS.map((name) => [name, this.readU64(ptr + PLACES[name])]),
    ) as QueueCounters;
  }

  /** Whether workers are to time requests. They look at it before each turn. */
  setTimed(isTimed: boolean): void {
    this.view.setUint32(layout.DEVICE_PTR + layout.DEVICE_TIMED, Number(isTimed), true);
  }

  get isTimed(): boolean {
    return this.view.getUint32(layout.DEVICE_PTR + layout.DEVICE_TIMED, true) !== 0;
  }

  /** 0 until it is started for the first time. */
  private size(index: number): number {
    return this.view.getUint32(this.queuePtr(index) + layout.QUEUE_SIZE, true);
  }

  private queue(index: number): QueueStatistics {
    const ptr = this.queuePtr(index);
    const u32 = (field: number) => this.view.getUint32(ptr + field, true);
    const flags = u32(layout.QUEUE_FLAGS);
    const counters = this.counters(index);
    return {
      index,
      state: STATES[u32(layout.QUEUE_STATE)]!,
      size: u32(layout.QUEUE_SIZE),
      isPacked: (flags & layout.QUEUE_F_PACKED) !== 0,
      hasEventIdx: (flags & layout.QUEUE_F_EVENT_IDX) !== 0,
      inFlight: u32(layout.QUEUE_IN_FLIGHT),
      counters,
      latencies: this.latencies(index, counters),
    };
  }

  private latencies(index: number, counters: QueueCounters): Record<TimedKind, Latency> {
    const { reads, writes, flushes, discards, writeZeroes } = counters;
    const counts = [reads, writes, flushes, discards, writeZeroes];
    const ptr = this.workerPtr(index % this.workerCount) + layout.WORKER_LATENCIES;
    const first = ptr + Math.floor(index / this.workerCount) * layout.LATENCIES_STRIDE;
    const entries = TIMED_KINDS.map((kind, i) => {
      // What was never touched has no memory behind it yet, and needs none.
      const latency = counts[i] === 0 ? { sumNs: 0, buckets: [] } : this.latency(first, i);
      return [kind, latency];
    });
    return Object.fromEntries(entries) as Record<TimedKind, Latency>;
  }

  private latency(first: number, kind: number): Latency {
    const ptr = first + kind * layout.HISTOGRAM_STRIDE;
    const buckets: Bucket[] = [];
    for (let i = 0; i < layout.BUCKETS; i++) {
      const count = this.readU64(ptr + layout.HISTOGRAM_COUNTS + 8 * i);
      if (count > 0) buckets.push([bucketStartNs(i), bucketStartNs(i + 1), count]);
    }
    return { sumNs: this.readU64(ptr + layout.HISTOGRAM_SUM), buckets };
  }

  private worker(index: number): WorkerStatistics {
    const ptr = this.workerPtr(index) + layout.WORKER_COUNTS;
    const count = (at: number) => this.view.getFloat64(ptr + 8 * at, true);
    return {
      index,
      turns: count(layout.COUNT_TURNS),
      sleeps: count(layout.COUNT_SLEEPS),
      pollsPaid: count(layout.COUNT_POLLS_PAID),
      pollsInVain: count(layout.COUNT_POLLS_IN_VAIN),
    };
  }

  /** Queues are dealt to the workers in turn. */
  private queuePtr(index: number): number {
    const queue = Math.floor(index / this.workerCount);
    return this.workerPtr(index % this.workerCount) + layout.WORKER_QUEUES + queue * layout.QUEUE_STRIDE;
  }

  private workerPtr(index: number): number {
    return layout.WORKERS_PTR + index * layout.WORKER_STRIDE;
  }

  private readU64(ptr: number): number {
    return Number(this.view.getBigUint64(ptr, true));
  }
}

/** Where a bucket of the core's histograms begins, in nanoseconds: bucketOf() of assembly/io/latency.ts the other way. */
export function bucketStartNs(index: number): number {
  const split = 2 ** layout.BUCKET_SPLIT_SHIFT;
  const unitNs = 2 ** layout.BUCKET_UNIT_SHIFT;
  if (index < 2 * split) return index * unitNs;
  const shift = Math.floor(index / split) - 1;
  return (split + (index % split)) * 2 ** shift * unitNs;
}
