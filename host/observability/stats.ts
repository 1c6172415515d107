// What `GET /v1/stats` answers: counters, gauges and latencies, by queue. Described in schema/control.openapi.json.
import type { Bucket, Latency, QueueStatistics, RingState, WorkerStatistics } from "../workers/statistics.ts";
import { countIn, percentileNs } from "./percentiles.ts";
import type { Subject } from "./subject.ts";

export interface Stats {
  uptimeSeconds: number;
  /** Whether requests were timed before this was asked. They are for 5 minutes from now on. */
  wasTimed: boolean;
  brokenRings: number;
  queues: QueueStats[];
  workers: WorkerStatistics[];
}

export interface QueueStats {
  index: number;
  state: RingState;
  inFlight: number;
  operations: Record<OperationName, OperationStats>;
  ids: number;
  failures: number;
  kicks: number;
  calls: number;
}

export const OPERATIONS = ["read", "write", "flush", "discard", "writeZeroes"] as const;
/** Behind those. */
const KIND_ID = OPERATIONS.length;
export type OperationName = (typeof OPERATIONS)[number];

export interface OperationStats {
  requests: number;
  /** Of data, where there are data. */
  bytes: number;
  latency: LatencyStats;
}

/** Of those requests that were timed. */
export interface LatencyStats {
  count: number;
  sumNs: number;
  p50Ns: number | null;
  p90Ns: number | null;
  p99Ns: number | null;
  p999Ns: number | null;
  buckets: Bucket[];
}

export function statsOf({ dataPlane }: Pick<Subject, "dataPlane">, wasTimed: boolean): Stats {
  return {
    uptimeSeconds: process.uptime(),
    wasTimed,
    brokenRings: dataPlane.counters().brokenRings,
    queues: dataPlane.statistics.queues().map(describeQueue),
    workers: dataPlane.statistics.workers(),
  };
}

function describeQueue({ index, state, inFlight, counters, latencies }: QueueStatistics): QueueStats {
  const { operations, bytesIn, bytesOut, failures, kicks, calls } = counters;
  const done = (name: OperationName, bytes: number) => {
    const kind = OPERATIONS.indexOf(name);
    return { requests: operations[kind]!, bytes, latency: describeLatency(latencies[kind]!) };
  };
  return {
    index,
    state,
    inFlight,
    operations: {
      read: done("read", bytesIn),
      write: done("write", bytesOut),
      flush: done("flush", 0),
      discard: done("discard", 0),
      writeZeroes: done("writeZeroes", 0),
    },
    ids: operations[KIND_ID]!,
    failures,
    kicks,
    calls,
  };
}

function describeLatency({ sumNs, buckets }: Latency): LatencyStats {
  return {
    count: countIn(buckets),
    sumNs,
    p50Ns: percentileNs(buckets, 50),
    p90Ns: percentileNs(buckets, 90),
    p99Ns: percentileNs(buckets, 99),
    p999Ns: percentileNs(buckets, 99.9),
    buckets,
  };
}
