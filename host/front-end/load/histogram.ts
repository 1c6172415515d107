// Percentiles out of the ring driver's histogram.
import { HISTOGRAM_SUB_BITS } from "../../../assembly/spec/driver.ts";

/** In ns; 0 where nothing was recorded. */
export function percentile(histogram: Uint32Array, percent: number): number {
  const total = histogram.reduce((sum, count) => sum + count, 0);
  let left = Math.ceil((total * percent) / 100);
  for (const [bucket, count] of histogram.entries()) {
    left -= count;
    if (left <= 0) return total === 0 ? 0 : middleOf(bucket);
  }
  return 0;
}

/** The middle of the values that one bucket holds. */
function middleOf(bucket: number): number {
  const sub = 1 << HISTOGRAM_SUB_BITS;
  if (bucket < 2 * sub) return bucket;
  const width = 2 ** (Math.floor(bucket / sub) - 1);
  return (sub + (bucket % sub) + 0.5) * width;
}
