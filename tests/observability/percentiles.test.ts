// Histograms: how the host reads what the core has counted, and what it makes of it.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { BUCKETS } from "../../assembly/abi/statistics.ts";
import { type Bucket, countIn, percentileNs, since, together } from "../../host/histogram.ts";
import { bucketStartNs } from "../../host/workers/statistics.ts";

/** The buckets that hold these times, each found by looking at all bounds. */
function histogramOf(times: readonly number[]): Bucket[] {
  const bounds = Array.from({ length: BUCKETS }, (_, i) => [bucketStartNs(i), bucketStartNs(i + 1)] as const);
  return bounds
    .map(([from, to]): Bucket => [from, to, times.filter((time) => time >= from && time < to).length])
    .filter(([, , count]) => count > 0);
}

describe("the bounds of buckets", () => {
  test("leave no gap, from 0 to 2^40 ns", () => {
    assert.equal(bucketStartNs(0), 0);
    assert.equal(bucketStartNs(BUCKETS), 2 ** 40);
    for (let i = 0; i < BUCKETS; i++) assert.ok(bucketStartNs(i) < bucketStartNs(i + 1));
  });

  test("are the core's: 64 ns at first, then eight to a power of two", () => {
    assert.deepEqual([1, 15, 16, 17, 24].map(bucketStartNs), [64, 960, 1024, 1152, 2048]);
  });
});

test("a percentile is off by an eighth at the most", () => {
  const times = fc.array(fc.integer({ min: 1024, max: 2 ** 40 - 1 }), { minLength: 1, maxLength: 100 });
  fc.assert(
    fc.property(times, fc.integer({ min: 1, max: 100 }), (values, percent) => {
      const sorted = [...values].sort((a, b) => a - b);
      const exact = sorted[Math.max(1, Math.ceil((percent / 100) * sorted.length)) - 1]!;
      const found = percentileNs(histogramOf(values), percent)!;
      // It lies in the bucket of the exact one.
      assert.ok(Math.abs(found - exact) <= exact / 8, `${found} for ${exact}`);
    }),
  );
});

test("where nothing was counted there is no percentile", () => {
  assert.equal(percentileNs([], 50), null);
});

test("what came since is what there is less what there was", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(5000)), fc.array(fc.nat(5000)), (before, more) => {
      const after = histogramOf([...before, ...more]);
      assert.deepEqual(since(histogramOf(before), after), histogramOf(more));
      assert.deepEqual(together([histogramOf(before), histogramOf(more)]), after);
      assert.equal(countIn(after), before.length + more.length);
    }),
  );
});
