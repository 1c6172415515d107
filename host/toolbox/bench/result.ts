// What was measured, in numbers; and as `vringd bench --json` prints it.
import { bucketRange, countOf, meanOf, percentile } from "../../front-end/load/histogram.ts";
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
  histogram: Uint32Array;
}

export function resultOf(measured: Measured, blockBytes: number): Result {
  const { seconds, latencies, failures, ending, abandoned } = measured;
  const figures = (histogram: Uint32Array) => figuresOf(histogram, seconds, blockBytes);
  const some = (histogram: Uint32Array) => (countOf(histogram) > 0 ? figures(histogram) : undefined);
  return {
    seconds,
    ending,
    failures,
    abandoned,
    reads: some(latencies.reads),
    writes: some(latencies.writes),
    all: figures(latencies.all),
    histogram: latencies.all,
  };
}

export function figuresOf(histogram: Uint32Array, seconds: number, blockBytes: number): Figures {
  const requests = countOf(histogram);
  const iops = seconds > 0 ? requests / seconds : 0;
  const at = (percent: number) => percentile(histogram, percent);
  return {
    requests,
    iops,
    bytesPerSecond: iops * blockBytes,
    latencyNs: {
      mean: meanOf(histogram),
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
    histogram: [...histogram.entries()]
      .filter(([, count]) => count > 0)
      .map(([bucket, count]) => ({ ...bucketRange(bucket), count })),
  };
}
