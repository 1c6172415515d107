// A latency histogram in text, and the units that people read and write.
import assert from "node:assert/strict";
import { test } from "node:test";
import { HISTOGRAM_BUCKETS, HISTOGRAM_SUB_BITS } from "../../assembly/abi/driver.ts";
import { UsageError } from "../../host/command-line/program.ts";
import { bucketsOf } from "../../host/front-end/load/histogram.ts";
import { type Bucket, bucketStart, countIn, meanNs, percentileNs } from "../../host/histogram.ts";
import { histogramLines, rowsOf } from "../../host/toolbox/bench/histogram-view.ts";
import { textWidth } from "../../host/toolbox/terminal.ts";
import { byteSize, formatBytes, formatCount, formatNs } from "../../host/toolbox/units.ts";

/** Counts by ns. */
function histogramOf(counts: Readonly<Record<number, number>>): Bucket[] {
  const histogram = new Uint32Array(HISTOGRAM_BUCKETS);
  for (const [ns, count] of Object.entries(counts)) histogram[bucketOf(Number(ns))]! += count;
  return bucketsOf(histogram);
}

function bucketOf(ns: number): number {
  for (let bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
    if (ns < startNs(bucket + 1)) return bucket;
  }
  return HISTOGRAM_BUCKETS - 1;
}

const startNs = (bucket: number) => bucketStart(bucket, HISTOGRAM_SUB_BITS);

test("buckets are a sixty-fourth of what they hold, up to 2^40 ns", () => {
  assert.equal(startNs(0), 0);
  assert.equal(startNs(HISTOGRAM_BUCKETS), 2 ** 40);
  for (let bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
    const width = startNs(bucket + 1) - startNs(bucket);
    assert.ok(width === 1 || (width > 1 && width <= startNs(bucket) / 64), String(bucket));
  }
});

test("percentiles and the mean are those of what was counted", () => {
  const histogram = histogramOf({ 1000: 90, 100000: 9, 10000000: 1 });
  const near = (found: number | null, wanted: number) =>
    assert.ok(Math.abs(found! - wanted) <= wanted * 0.016, `${found}`);
  near(percentileNs(histogram, 50), 1000);
  near(percentileNs(histogram, 90), 1000);
  near(percentileNs(histogram, 99), 100_000);
  near(percentileNs(histogram, 100), 10_000_000);
  near(meanNs(histogram), 900 + 9000 + 100_000);
});

test("nothing measured is nothing drawn", () => {
  const empty = bucketsOf(new Uint32Array(HISTOGRAM_BUCKETS));
  assert.deepEqual(histogramLines(empty, 80), []);
  assert.equal(percentileNs(empty, 99), null);
  assert.equal(meanNs(empty), null);
});

const shapes: [what: string, counts: Record<number, number>][] = [
  ["one request", { 2500: 1 }],
  ["all alike", { 2500: 1000 }],
  ["a narrow one", { 20000: 500, 21000: 900, 25000: 300, 30000: 10 }],
  ["two peaks far apart", { 900: 5000, 40000000: 5000 }],
  ["a long tail", { 3000: 100_000, 5000: 20_000, 1000000: 100, 90000000: 3, 5000000000: 1 }],
  ["a fast one alone", { 60: 1, 50000: 100_000 }],
  ["from the least to the most", { 0: 1000, 1: 1000, 1000000000000: 1000 }],
];
for (const [what, counts] of shapes) {
  test(`rows count each request once, and are not too many: ${what}`, () => {
    const histogram = histogramOf(counts);
    const rows = rowsOf(histogram);
    assert.equal(
      rows.reduce((sum, { count }) => sum + count, 0),
      countIn(histogram),
    );
    assert.ok(rows.length <= 16, `${rows.length} rows`);
    for (const [i, row] of rows.slice(1).entries()) assert.equal(row.fromNs, rows[i]!.toNs);
    for (const width of [60, 80, 120, 200]) {
      const lines = histogramLines(histogram, width);
      for (const line of lines) assert.ok(textWidth(line) <= width, `${width}: ${line}`);
      assert.match(lines.at(-1)!, / 100\.00 %$/);
    }
  });
}

test("a narrow distribution is shown finely, in bars that compare", () => {
  const lines = histogramLines(histogramOf({ 20500: 500, 26000: 1000, 31000: 250 }), 80);
  assert.deepEqual(lines, [
    `LATENCY                                                          SHARE    SO FAR`,
    `  20 us -   25 us   ${"█".repeat(20)}${" ".repeat(20)}   28.57 %   28.57 %`,
    `  25 us -   30 us   ${"█".repeat(40)}   57.14 %   85.71 %`,
    `  30 us -   35 us   ${"█".repeat(10)}${" ".repeat(30)}   14.29 %  100.00 %`,
  ]);
});

test("sizes, times and counts are written for people", () => {
  assert.deepEqual([0, 512, 1024, 1536, 10 * 2 ** 30, 123 * 2 ** 20, 2 ** 73].map(formatBytes), [
    "0 bytes",
    "512 bytes",
    "1 KiB",
    "1.5 KiB",
    "10 GiB",
    "123 MiB",
    "8 ZiB",
  ]);
  assert.deepEqual([0, 950, 12_400, 1_250_000, 3_000_000_000].map(formatNs), [
    "0 ns",
    "950 ns",
    "12.4 us",
    "1.25 ms",
    "3 s",
  ]);
  assert.deepEqual([0, 940.4, 9999, 12_400, 1_250_000].map(formatCount), [
    "0",
    "940",
    "9999",
    "12.4k",
    "1.25M",
  ]);
});

test("sizes are read as fio reads them", () => {
  const read = byteSize("--bs");
  assert.deepEqual(["512", "4k", "4K", "4KiB", "1M", "2g", "1T", "0"].map(read), [
    512,
    4096,
    4096,
    4096,
    2 ** 20,
    2 ** 31,
    2 ** 40,
    0,
  ]);
  for (const wrong of ["", "k", "4 k", "-1", "1.5M", "4x", "99999999999999T"]) {
    assert.throws(() => read(wrong), UsageError, wrong);
  }
});
