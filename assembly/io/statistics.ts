// What a worker counts for its host to read: how long what it did took, by queue and kind, and what the engine failed, by kind and
// errno. The host tells the time; without a clock no latency is recorded.

import {
  BUCKET_SPLIT_SHIFT,
  BUCKET_UNIT_SHIFT,
  BUCKETS,
  FAILURE_COUNT,
  FAILURE_ERRNOS,
  FAILURE_SECTOR,
  FAILURE_SEEN,
  FAILURE_STRIDE,
  HISTOGRAM_COUNTS,
  HISTOGRAM_STRIDE,
  HISTOGRAM_SUM,
} from "../abi/statistics.ts";
import { STEP_FAILED } from "../abi/step.ts";
import {
  LATENCIES_STRIDE,
  WORKER_CLOCK,
  WORKER_FAILURES,
  WORKER_LATENCIES,
  WORKER_NOW,
} from "../abi/worker.ts";
import { tellHost } from "./host.ts";
import { Slot } from "./slots.ts";

/** 2^40 ns, 18 minutes: what takes longer is counted as that. */
const LONGEST_NS: f64 = 1099511627775;
const NS_PER_MS: f64 = 1000000;

/** 146 years: times and waits can be added. */
const LATEST_NS: f64 = 4611686018427387904;

/** Buckets that share a power of two. */
const SPLIT: u64 = 1 << BUCKET_SPLIT_SHIFT;

let worker: usize = 0;

export function useStatistics(workerPtr: usize): void {
  worker = workerPtr;
}

/** The host's clock as it stood when this turn began, or 0 if it keeps none. */
export function clockMs(): f64 {
  return load<f64>(worker + WORKER_CLOCK);
}

/** The clock that all workers share, as it stood when this turn began. Told only while there are limits. */
export function nowNs(): u64 {
  const ns = load<f64>(worker + WORKER_NOW);
  return ns > 0 ? <u64>Math.min(ns, LATEST_NS) : 0;
}

/** Counts how long a chain took that was served well, unless there was no clock when it was taken. */
export function recordLatency(slot: Slot, kind: u32): void {
  const now = clockMs();
  if (now === 0 || slot.takenAt === 0) return;
  const ns = elapsedNs(slot.takenAt, now);
  const histogram =
    worker + WORKER_LATENCIES + <usize>slot.queue.index * LATENCIES_STRIDE + <usize>kind * HISTOGRAM_STRIDE;
  store<u64>(histogram, load<u64>(histogram, HISTOGRAM_SUM) + ns, HISTOGRAM_SUM);
  const bucket = histogram + ((<usize>bucketOf(ns)) << 3);
  store<u64>(bucket, load<u64>(bucket, HISTOGRAM_COUNTS) + 1, HISTOGRAM_COUNTS);
}

/** A clock that has been set back, or is none, gives 0: the conversion would trap. */
export function elapsedNs(from: f64, to: f64): u64 {
  const ns = (to - from) * NS_PER_MS;
  return ns > 0 ? <u64>Math.min(ns, LONGEST_NS) : 0;
}

export function bucketOf(ns: u64): u32 {
  const units = ns >> BUCKET_UNIT_SHIFT;
  if (units < SPLIT) return <u32>units;
  const shift = 63 - clz<u64>(units) - BUCKET_SPLIT_SHIFT;
  return min<u32>(<u32>((shift << BUCKET_SPLIT_SHIFT) + (units >> shift)), BUCKETS - 1);
}

/** `result` is that of the operation that failed, `sector` where it began. What was refused before any operation is not counted. */
export function recordFailure(kind: u32, result: i32, sector: u64): void {
  const errno: u32 = result < 0 && -result < FAILURE_ERRNOS ? -result : 0;
  const failure = worker + WORKER_FAILURES + <usize>(kind * FAILURE_ERRNOS + errno) * FAILURE_STRIDE;
  const count = load<u64>(failure, FAILURE_COUNT);
  if (count === load<u64>(failure, FAILURE_SEEN)) store<u64>(failure, sector, FAILURE_SECTOR);
  store<u64>(failure, count + 1, FAILURE_COUNT);
  tellHost(STEP_FAILED);
}
