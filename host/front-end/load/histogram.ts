// The ring driver's histograms as buckets. See HISTOGRAM_BUCKETS.
import { HISTOGRAM_SUB_BITS } from "../../../assembly/abi/driver.ts";
import { type Bucket, bucketStart } from "../../histogram.ts";

export function bucketsOf(histogram: Uint32Array): Bucket[] {
  const buckets: Bucket[] = [];
  for (const [index, count] of histogram.entries()) {
    if (count > 0) buckets.push([startNs(index), startNs(index + 1), count]);
  }
  return buckets;
}

function startNs(index: number): number {
  return bucketStart(index, HISTOGRAM_SUB_BITS);
}
