// Latencies, counted by size, of reads and of writes. See HISTOGRAM_BUCKETS.
import { HISTOGRAM_BUCKETS, HISTOGRAM_SUB_BITS } from "../abi/driver.ts";

export function record(histogram: usize, isRead: bool, value: u64): void {
  const first: u32 = isRead ? 0 : HISTOGRAM_BUCKETS;
  const at = histogram + ((<usize>(first + min(bucketOf(value), HISTOGRAM_BUCKETS - 1))) << 2);
  store<u32>(at, load<u32>(at) + 1);
}

function bucketOf(value: u64): u32 {
  if (value < 1 << HISTOGRAM_SUB_BITS) return <u32>value;
  const shift = 63 - HISTOGRAM_SUB_BITS - <u32>clz(value);
  return (shift << HISTOGRAM_SUB_BITS) + <u32>(value >> shift);
}
