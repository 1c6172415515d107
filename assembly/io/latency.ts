// How long requests took, by queue and kind. The host tells the time, and reads the histograms; without a clock nothing
// is recorded.

import {
  BUCKET_SPLIT_SHIFT,
  BUCKET_UNIT_SHIFT,
  BUCKETS,
  HISTOGRAM_COUNTS,
  HISTOGRAM_STRIDE,
  HISTOGRAM_SUM,
  LATENCIES_STRIDE,
  WORKER_CLOCK,
  WORKER_LATENCIES,
} from "../abi/layout.ts";
import { Slot } from "./slots.ts";

/** 2^40 ns, 18 minutes: what takes longer is counted as that. */
const LONGEST_NS: f64 = 1099511627775;
const NS_PER_MS: f64 = 1000000;

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

/** Counts a chain that was served well. One that was taken while there was no clock is left out. */
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
