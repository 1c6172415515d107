// `vringd top` as lines of text, for any width.
import { type Column, formatTable } from "../table.ts";
import { paint, wrap } from "../terminal.ts";
import { formatCount, formatMib, formatNs } from "../units.ts";
import type { QueueRates, Rate } from "./rates.ts";
import type { Look } from "./watch.ts";

/** Of a fixed width, so that columns stand still while numbers change. */
const right = (title: string, width: number, canGo?: true): Column => {
  return { title: title.padStart(width), least: width, align: "right", ...(canGo && { canGo }) };
};

/** Those on the right are left out where there is no room. */
const COLUMNS: Column[] = [
  { title: "DISK".padEnd(12), least: 12 },
  right("QUEUE", 5),
  right("IOPS", 6),
  right("MiB/s", 6),
  right("P50", 6),
  right("P99", 6),
  right("FLIGHT", 6),
  right("POLLS", 5),
  right("FAILED/s", 8, true),
  right("READ/s", 6, true),
  right("MiB/s", 6, true),
  right("P50", 6, true),
  right("P99", 6, true),
  right("WRITE/s", 7, true),
  right("MiB/s", 6, true),
  right("P50", 6, true),
  right("P99", 6, true),
  right("OTHER/s", 7, true),
  right("P99", 6, true),
  right("KICK/s", 6, true),
  right("CALL/s", 6, true),
];

export function viewLines(looks: readonly Look[], width: number): string[] {
  const shown = looks.flatMap(({ disk, rates = [] }) => rates.map((each) => ({ disk, rates: each })));
  const rows = shown.map(({ disk, rates }) => cellsOf(disk, rates));
  const [head, ...lines] = formatTable(COLUMNS, rows, width);
  const painted = lines.map((line, at) => {
    const { queue, state, failures } = shown[at]!.rates;
    if (state === "broken" || failures > 0) return paint("red", line);
    return queue === undefined ? paint("bold", line) : line;
  });
  const problems = looks.flatMap(({ problem }) => (problem === undefined ? [] : wrap(problem, width)));
  return [paint("inverse", fill(head!, width)), ...painted, ...problems.map((line) => paint("yellow", line))];
}

/** What the columns mean, where there is room for it. */
export function legendLines(width: number): string[] {
  const text =
    "P50, P99: latency from when a request is taken from its ring to when it is used. FLIGHT: requests in between now. " +
    "POLLS: of the looks before a sleep, the part that found something.";
  return wrap(text, width).map((line) => paint("dim", line));
}

function cellsOf(disk: string, rates: QueueRates): string[] {
  const { queue, state, all, read, write, other, inFlight, pollsPaid } = rates;
  const isAll = queue === undefined;
  return [
    isAll ? disk : "",
    isAll ? "all" : String(queue),
    ...(state === "broken" ? ["broken", ...Array(3).fill("-")] : cellsOfRate(all)),
    String(inFlight),
    isAll && pollsPaid !== null ? `${Math.round(100 * pollsPaid)} %` : "",
    formatCount(rates.failures),
    ...cellsOfRate(read),
    ...cellsOfRate(write),
    formatCount(other.requests),
    formatNs(other.p99Ns),
    formatCount(rates.kicks),
    formatCount(rates.calls),
  ];
}

function cellsOfRate({ requests, bytes, p50Ns, p99Ns }: Rate): string[] {
  return [formatCount(requests), formatMib(bytes), formatNs(p50Ns), formatNs(p99Ns)];
}

function fill(line: string, width: number): string {
  return Number.isFinite(width) ? line.padEnd(width) : line;
}
