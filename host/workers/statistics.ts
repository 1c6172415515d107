// What the workers count and record, read from linear memory while they go on. Nothing here makes them wait.
import * as layout from "../../assembly/abi/layout.ts";
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
}

/** Where the core counts operations, by kind. */
const KIND_COUNTERS = Array.from({ length: layout.KINDS_MAX }, (_, kind) => layout.QUEUE_KINDS + 8 * kind);

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
  /** By the number of the kind, of those that are timed: the first KINDS_TIMED. */
  latencies: readonly Latency[];
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
    const count = (field: number) => this.readU64(ptr + field);
    return {
      operations: KIND_COUNTERS.map(count),
      bytesIn: count(layout.QUEUE_BYTES_IN),
      bytesOut: count(layout.QUEUE_BYTES_OUT),
      failures: count(layout.QUEUE_FAILURES),
      kicks: count(layout.QUEUE_KICKS),
      calls: count(layout.QUEUE_CALLS),
    };
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

  private latencies(index: number, { operations }: QueueCounters): Latency[] {
    const { worker, queue } = placeOf(index, this.workerCount);
    const first = workerPtrOf(worker) + layout.WORKER_LATENCIES + queue * layout.LATENCIES_STRIDE;
    return operations.slice(0, layout.KINDS_TIMED).map((count, kind) => {
      // What was never touched has no memory behind it yet, and needs none.
      return count === 0 ? { sumNs: 0, buckets: [] } : this.latency(first, kind);
    });
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
    const ptr = workerPtrOf(index) + layout.WORKER_COUNTS;
    const count = (at: number) => this.view.getFloat64(ptr + 8 * at, true);
    return {
      index,
      turns: count(layout.COUNT_TURNS),
      sleeps: count(layout.COUNT_SLEEPS),
      pollsPaid: count(layout.COUNT_POLLS_PAID),
      pollsInVain: count(layout.COUNT_POLLS_IN_VAIN),
    };
  }

  private queuePtr(index: number): number {
    return queuePtrOf(placeOf(index, this.workerCount));
  }

  private readU64(ptr: number): number {
    return Number(this.view.getBigUint64(ptr, true));
  }
}

/** Of several queues together. */
export function sumOf(counters: readonly QueueCounters[]): QueueCounters {
  const sum = (count: (counters: QueueCounters) => number) =>
    counters.reduce((total, each) => total + count(each), 0);
  return {
    operations: KIND_COUNTERS.map((_, kind) => sum(({ operations }) => operations[kind]!)),
    bytesIn: sum(({ bytesIn }) => bytesIn),
    bytesOut: sum(({ bytesOut }) => bytesOut),
    failures: sum(({ failures }) => failures),
    kicks: sum(({ kicks }) => kicks),
    calls: sum(({ calls }) => calls),
  };
}

/** Where a bucket of the core's histograms begins, in nanoseconds: bucketOf() of assembly/io/latency.ts the other way. */
export function bucketStartNs(index: number): number {
  const split = 2 ** layout.BUCKET_SPLIT_SHIFT;
  const unitNs = 2 ** layout.BUCKET_UNIT_SHIFT;
  if (index < 2 * split) return index * unitNs;
  const shift = Math.floor(index / split) - 1;
  return (split + (index % split)) * 2 ** shift * unitNs;
}
