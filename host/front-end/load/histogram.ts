// What the ring driver's histograms say. See HISTOGRAM_BUCKETS.
import { HISTOGRAM_SUB_BITS } from "../../../assembly/abi/driver.ts";

const SUB = 1 << HISTOGRAM_SUB_BITS;

export function countOf(histogram: Uint32Array): number {
  return histogram.reduce((sum, count) => sum + count, 0);
}

/** In ns; 0 where nothing was recorded. */
export function percentile(histogram: Uint32Array, percent: number): number {
  const total = countOf(histogram);
  let left = Math.ceil((total * percent) / 100);
  for (const [bucket, count] of histogram.entries()) {
    left -= count;
    if (left <= 0) return total === 0 ? 0 : middleOf(bucket);
  }
  return 0;
}

/** In ns; 0 where nothing was recorded. */
export function meanOf(histogram: Uint32Array): number {
  const total = countOf(histogram);
  const sum = histogram.reduce((ns, count, bucket) => ns + count * middleOf(bucket), 0);
  return total === 0 ? 0 : sum / total;
}

/** The values in ns that one bucket holds: from one up to and without the other. */
export function bucketRange(bucket: number): { fromNs: number; toNs: number } {
  if (bucket < 2 * SUB) return { fromNs: bucket, toNs: bucket + 1 };
  const width = 2 ** (Math.floor(bucket / SUB) - 1);
  const fromNs = (SUB + (bucket % SUB)) * width;
  return { fromNs, toNs: fromNs + width };
}

function middleOf(bucket: number): number {
  const { fromNs, toNs } = bucketRange(bucket);
  // Whole numbers below: there the bucket is one value.
  return toNs - fromNs === 1 ? fromNs : (fromNs + toNs) / 2;
}
