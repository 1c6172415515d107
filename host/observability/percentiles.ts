// What a histogram says: percentiles, between the bounds of the bucket that they fall into. The toolbox uses it too.
import type { Bucket } from "../workers/statistics.ts";

export type { Bucket };

export function countIn(buckets: readonly Bucket[]): number {
  return buckets.reduce((sum, [, , count]) => sum + count, 0);
}

/** In nanoseconds; null if nothing was counted. Buckets are an eighth wide, so it is off by a sixteenth at the most. */
export function percentileNs(buckets: readonly Bucket[], percent: number): number | null {
  const count = countIn(buckets);
  if (count === 0) return null;
  let rank = Math.max(1, Math.ceil((percent / 100) * count));
  for (const [fromNs, toNs, held] of buckets) {
    if (rank <= held) return Math.round(fromNs + ((rank - 0.5) / held) * (toNs - fromNs));
    rank -= held;
  }
  throw new RangeError(`${percent} percent`);
}

/** What came between two readings of one histogram. */
export function since(before: readonly Bucket[], after: readonly Bucket[]): Bucket[] {
  const earlier = new Map(before.map(([fromNs, , count]) => [fromNs, count]));
  const changes = after.map(([fromNs, toNs, count]): Bucket => {
    return [fromNs, toNs, count - (earlier.get(fromNs) ?? 0)];
  });
  return changes.filter(([, , count]) => count > 0);
}

/** Several histograms as one. */
export function together(histograms: readonly (readonly Bucket[])[]): Bucket[] {
  const sums = new Map<number, Bucket>();
  for (const [fromNs, toNs, count] of histograms.flat()) {
    sums.set(fromNs, [fromNs, toNs, (sums.get(fromNs)?.[2] ?? 0) + count]);
  }
  return [...sums.values()].sort(([a], [b]) => a - b);
}
