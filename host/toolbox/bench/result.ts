// What was measured, in numbers; and as `vringd bench --json` prints it.
import { bucketsOf } from "../../front-end/load/histogram.ts";
import { type Bucket, countIn, meanNs, percentileNs } from "../../histogram.ts";
import type { BenchOptions } from "./command.ts";
import type { Plan } from "./plan.ts";
import type { Ending, Measured } from "./run.ts";

export interface Figures {
  requests: number;
  iops: number;
  bytesPerSecond: number;
  latencyNs: Record<PercentileName | "mean" | "max", number>;
}

export const PERCENTILES = { p50: 50, p90: 90, p99: 99, "p99.9": 99.9 } as const;
export type PercentileName = keyof typeof PERCENTILES;

export interface Result {
  seconds: number;
  ending: Ending;
  failures: number;
  abandoned: number;
  /** Only those kinds of requests that there were; all only if there were both. */
  reads: Figures | undefined;
  writes: Figures | undefined;
  all: Figures;
  histogram: Bucket[];
}

export function resultOf(measured: Measured, blockBytes: number): Result {
  const { seconds, latencies, failures, ending, abandoned } = measured;
  const figures = (buckets: readonly Bucket[]) => figuresOf(buckets, seconds, blockBytes);
  const some = (buckets: readonly Bucket[]) => (buckets.length > 0 ? figures(buckets) : undefined);
  const histogram = bucketsOf(latencies.all);
  return {
    seconds,
    ending,
    failures,
    abandoned,
    reads: some(bucketsOf(latencies.reads)),
    writes: some(bucketsOf(latencies.writes)),
    all: figures(histogram),
    histogram,
  };
}

function figuresOf(buckets: readonly Bucket[], seconds: number, blockBytes: number): Figures {
  const requests = countIn(buckets);
  const iops = seconds > 0 ? requests / seconds : 0;
  const at = (percent: number) => percentileNs(buckets, percent) ?? 0;
  return {
    requests,
    iops,
    bytesPerSecond: iops * blockBytes,
    latencyNs: {
      mean: meanNs(buckets) ?? 0,
      p50: at(PERCENTILES.p50),
      p90: at(PERCENTILES.p90),
      p99: at(PERCENTILES.p99),
      "p99.9": at(PERCENTILES["p99.9"]),
      max: at(100),
    },
  };
}

/** Latencies are known to 1.6 %, since they are counted in buckets. */
export function resultAsJson(socketPath: string, options: BenchOptions, plan: Plan, result: Result): unknown {
  const { load, guest } = plan;
  const { reads = null, writes = null, all, histogram, ...outcome } = result;
  return {
    socket: socketPath,
    load: {
      rw: options.rw,
      readPercent: load.readPercent,
      blockBytes: guest.blockBytes,
      ioDepth: guest.depth,
      queues: guest.queues,
      ring: guest.packed ? "packed" : "split",
      offsetBytes: plan.offsetBytes,
      byteLength: plan.byteLength,
      seed: load.seed,
    },
    ...outcome,
    all,
    reads,
    writes,
    histogram: histogram.map(([fromNs, toNs, count]) => ({ fromNs, toNs, count })),
  };
}
