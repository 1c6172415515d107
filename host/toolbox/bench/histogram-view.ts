// A latency histogram in text: a line for each range, as fine as fits, and bars as long as the terminal allows.
import { type Bucket, countIn, percentileNs } from "../../histogram.ts";
import { paint } from "../terminal.ts";
import { formatNs } from "../units.ts";

export interface Row {
  fromNs: number;
  toNs: number;
  count: number;
}

const ROWS_MAX = 16;
/** What is faster or slower than nearly all goes into one line each. */
const HEAD_PERCENT = 0.1;
const TAIL_PERCENT = 99.9;
/** Round numbers to divide a decade at, the finest first. */
const SERIES: readonly number[][] = [
  [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9],
  [1, 1.5, 2, 3, 4, 5, 6, 8],
  [1, 1.5, 2, 3, 5, 7],
  [1, 2, 5],
  [1, 3],
  [1],
];
const DECADES = 14;

const LABEL = 18;
const SHARES = "  100.00 %  100.00 %".length;
const BAR_MIN = 10;
const BAR_MAX = 160;
/** Where the output is no terminal. */
const WIDTH = 80;

export function histogramLines(histogram: readonly Bucket[], terminalWidth: number): string[] {
  const total = countIn(histogram);
  if (total === 0) return [];
  const width = Number.isFinite(terminalWidth) ? terminalWidth : WIDTH;
  const barMax = Math.max(BAR_MIN, Math.min(BAR_MAX, width - LABEL - 2 - SHARES));
  const rows = rowsOf(histogram);
  const most = Math.max(...rows.map(({ count }) => count));
  const title = `${"LATENCY".padEnd(LABEL + 2 + barMax)}${"SHARE".padStart(10)}${"SO FAR".padStart(10)}`;
  let sum = 0;
  const lines = rows.map((row) => {
    sum += row.count;
    const drawn = bar(row.count / most, barMax);
    const shares = [row.count, sum].map((count) => `${((count * 100) / total).toFixed(2)} %`.padStart(10));
    return `${label(row).padEnd(LABEL)}  ${paint("cyan", drawn)}${" ".repeat(barMax - drawn.length)}${shares.join("")}`;
  });
  return [paint("bold", title), ...lines];
}

/** From the fastest request to the slowest, without gaps: the first from 0, the last without end. */
export function rowsOf(histogram: readonly Bucket[]): Row[] {
  const first = percentileNs(histogram, HEAD_PERCENT) ?? 0;
  const tail = percentileNs(histogram, TAIL_PERCENT) ?? 0;
  for (const series of SERIES) {
    const bounds = boundsOf(series);
    const from = bounds.findLastIndex((bound) => bound <= first);
    const to = bounds.findIndex((bound) => bound > tail);
    const isFew = to - from + 2 <= ROWS_MAX;
    if (isFew || series === SERIES.at(-1))
      return count(histogram, [0, ...bounds.slice(Math.max(from, 1), to + 1)]);
  }
  return [];
}

function boundsOf(series: readonly number[]): number[] {
  const decades = Array.from({ length: DECADES }, (_, decade) => 10 ** decade);
  return [0, ...decades.flatMap((decade) => series.map((value) => Math.round(value * decade)))];
}

/** Buckets lie in the row that their middle belongs to. */
function count(histogram: readonly Bucket[], bounds: readonly number[]): Row[] {
  const rows = bounds.map((fromNs, i) => ({
    fromNs,
    toNs: bounds[i + 1] ?? Number.POSITIVE_INFINITY,
    count: 0,
  }));
  for (const [fromNs, toNs, requests] of histogram) {
    const middle = (fromNs + toNs - 1) / 2;
    const row = rows.find((candidate) => middle < candidate.toNs);
    row!.count += requests;
  }
  const first = rows.findIndex((row) => row.count > 0);
  return rows.slice(first, rows.findLastIndex((row) => row.count > 0) + 1);
}

function label({ fromNs, toNs }: Row): string {
  const to = formatNs(toNs).padStart(7);
  if (fromNs === 0) return `  below   ${to}`;
  const from = formatNs(fromNs).padStart(7);
  return Number.isFinite(toNs) ? `${from} - ${to}` : `${from} and more`;
}

const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** What was there at all is seen. */
function bar(share: number, width: number): string {
  if (share === 0) return "";
  const eighths = Math.max(1, Math.round(share * width * 8));
  return "█".repeat(Math.floor(eighths / 8)) + EIGHTHS[eighths % 8];
}
