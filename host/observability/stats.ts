// What `GET /v1/stats` answers: counters, gauges and latencies, by queue. Described in schema/control.openapi.json.
import type { KindActivity, QueueActivity } from "../backend/activity.ts";
import { type Bucket, countIn, percentileNs } from "../histogram.ts";
import type { Latency, RingState, WorkerStatistics } from "../workers/statistics.ts";
import type { Subject } from "./subject.ts";

export interface Stats {
  uptimeSeconds: number;
  /** Whether requests were timed before this was asked. They are for 5 minutes from now on. */
  wasTimed: boolean;
  brokenRings: number;
  queues: QueueStats[];
  workers: WorkerStatistics[];
  /** What the device has an operator watch, by name. */
  watched?: Readonly<Record<string, string>>;
}

/** Kinds that are not timed are members of their own, by the name of their count, such as `ids`. */
export interface QueueStats {
  index: number;
  state: RingState;
  inFlight: number;
  /** By the names that the device has for its kinds of request, in its order. */
  operations: Record<string, OperationStats>;
  failures: number;
  kicks: number;
  calls: number;
  [untimed: string]: unknown;
}

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

export function statsOf({ backend }: Pick<Subject, "backend">, wasTimed: boolean): Stats {
  const { activity } = backend;
  const watched = backend.device.facts?.watched;
  return {
    uptimeSeconds: process.uptime(),
    wasTimed,
    brokenRings: activity.counts().brokenRings!,
    queues: activity.queues().map(describeQueue),
    workers: activity.workers(),
    ...(watched && { watched }),
  };
}

function describeQueue(queue: QueueActivity): QueueStats {
  const { index, state, inFlight, kinds, failures, kicks, calls } = queue;
  const timed = kinds.filter(({ kind }) => kind.isTimed);
  const others = kinds.filter(({ kind }) => !kind.isTimed);
  return {
    index,
    state,
    inFlight,
    operations: Object.fromEntries(timed.map((each) => [each.kind.name, describeKind(each)])),
    ...Object.fromEntries(others.map(({ kind, requests }) => [kind.count, requests])),
    failures,
    kicks,
    calls,
  };
}

const NO_KINDS = ["index", "state", "inFlight", "operations", "failures", "kicks", "calls"];

/** Requests of kinds that have no latency, such as those for a serial number. */
export function untimedRequests(queue: QueueStats): number {
  const counts = Object.entries(queue).filter(([name]) => !NO_KINDS.includes(name));
  return counts.reduce((sum, [, value]) => sum + (typeof value === "number" ? value : 0), 0);
}

function describeKind({ requests, bytes, latency }: KindActivity): OperationStats {
  return { requests, bytes, latency: describeLatency(latency) };
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
