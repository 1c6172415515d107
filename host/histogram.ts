// Log-linear histograms, as the core and the ring driver keep them: what their buckets hold, and what they say.

/** Where a bucket begins and the next one does, in nanoseconds, and how many took that long. Those that hold nothing are left out. */
export type Bucket = [fromNs: number, toNs: number, count: number];

/** Each power of two is split into 2^splitShift buckets; the first 2^(splitShift + 1) are of one unit each. */
export function bucketStart(index: number, splitShift: number): number {
  const split = 2 ** splitShift;
  if (index < 2 * split) return index;
  const shift = Math.floor(index / split) - 1;
  return (split + (index % split)) * 2 ** shift;
}

export function countIn(buckets: readonly Bucket[]): number {
  return buckets.reduce((sum, [, , count]) => sum + count, 0);
}

/** In nanoseconds, between the bounds of the bucket that it falls into; null if nothing was counted. */
export function percentileNs(buckets: readonly Bucket[], percent: number): number | null {
  const count = countIn(buckets);
  if (count === 0) return null;
  let rank = Math.max(1, Math.ceil((percent / 100) * count));
  for (const [fromNs, toNs, held] of buckets) {
    // Whole nanoseconds, and the bucket ends before `toNs`.
    if (rank <= held) return Math.round(fromNs + ((rank - 0.5) / held) * (toNs - 1 - fromNs));
    rank -= held;
  }
  throw new RangeError(`${percent} percent`);
}

/** As if all in a bucket had taken as long as its middle; null if nothing was counted. */
export function meanNs(buckets: readonly Bucket[]): number | null {
  const count = countIn(buckets);
  const sum = buckets.reduce((ns, [fromNs, toNs, held]) => ns + (held * (fromNs + toNs - 1)) / 2, 0);
  return count === 0 ? null : sum / count;
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
