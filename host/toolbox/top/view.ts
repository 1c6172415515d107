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

const POLLS = right("POLLS", 5);
/** Columns of a terminal that has room for it beside a short name. */
const POLLS_WIDTH = 66;

const WATCHED_INDENT = "  ";

/** Those on the right are left out where there is no room. */
const COLUMNS: Column[] = [
  { title: "DEVICE".padEnd(12), least: 12 },
  right("QUEUE", 5),
  right("IOPS", 6),
  right("MiB/s", 6),
  right("P50", 6),
  right("P99", 6),
  right("FLIGHT", 6),
  POLLS,
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
  const shown = looks.flatMap(({ device, rates = [] }) => rates.map((each) => ({ device, rates: each })));
  const rows = shown.map(({ device, rates }) => cellsOf(device, rates));
  const [head, ...lines] = formatTable(columnsFor(width), rows, width);
  const painted = lines.map((line, at) => {
    const { queue, state, failures } = shown[at]!.rates;
    if (state === "broken" || failures > 0) return paint("red", line);
    return queue === undefined ? paint("bold", line) : line;
  });
  const devices = looks.flatMap((look) => [
    ...painted.splice(0, look.rates?.length ?? 0),
    ...watchedLines(look, width),
  ]);
  const problems = looks.flatMap(({ problem }) => (problem === undefined ? [] : wrap(problem, width)));
  return [paint("inverse", fill(head!, width)), ...devices, ...problems.map((line) => paint("yellow", line))];
}

/** Below the rows of its device. */
function watchedLines({ rates, watched }: Look, width: number): string[] {
  const members = Object.entries(watched ?? {}).map(([name, text]) => `${name} ${text}`);
  if (rates === undefined || members.length === 0) return [];
  return wrap(members.join(", "), width - WATCHED_INDENT.length).map((line) => WATCHED_INDENT + line);
}

function columnsFor(width: number): Column[] {
  if (width >= POLLS_WIDTH) return COLUMNS;
  return COLUMNS.map((column) => (column === POLLS ? { ...column, canGo: true } : column));
}

/** What the columns mean, where there is room for it. */
export function legendLines(width: number): string[] {
  const text =
    "P50, P99: latency from when a request is taken from its ring to when it is used. FLIGHT: requests in between now. " +
    "POLLS: of the looks before a sleep, the part that found something.";
  return wrap(text, width).map((line) => paint("dim", line));
}

function cellsOf(device: string, rates: QueueRates): string[] {
  const { queue, state, all, read, write, other, inFlight, pollsPaid } = rates;
  const isAll = queue === undefined;
  return [
    isAll ? device : "",
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
