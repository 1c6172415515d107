// `vringd top` as lines of text, for any width.
import { type Column, formatTable } from "../table.ts";
import { characterWidth, paint, printable, textWidth, wrap } from "../terminal.ts";
import { formatCount, formatMib, formatNs } from "../units.ts";
import type { QueueRates, Rate } from "./rates.ts";
import type { Look } from "./watch.ts";

/** A line of a device. */
export interface ViewLine {
  socket: string;
  text: string;
  style?: "red" | "bold" | "yellow";
}

interface ViewColumn {
  title: string;
  /** At least, so that columns stand still while numbers change. */
  width: number;
  /** What comes first where there is no room for all. */
  rank: number;
}

/** Columns of the device's name: at least, where numbers need the room, and where names are short. */
const NAME_LEAST = 8;
const NAME_USUAL = 12;
const NAME_TITLE = "DEVICE";
/** Of a longer one, the part of the room that it has before numbers of less use. */
const NAME_PART = 1 / 4;
/** Columns up to this rank come before a longer name. */
const BEFORE_NAME = 6;
const GAP = 2;

const WATCHED_INDENT = "  ";

/** Beside the name. Their values are never cut: a number without its unit says nothing. */
const COLUMNS: ViewColumn[] = [
  { title: "QUEUE", width: 5, rank: 1 },
  { title: "IOPS", width: 6, rank: 2 },
  { title: "MiB/s", width: 6, rank: 3 },
  { title: "P50", width: 7, rank: 5 },
  { title: "P99", width: 7, rank: 4 },
  { title: "FLIGHT", width: 6, rank: 6 },
  { title: "POLLS", width: 5, rank: 7 },
  { title: "FAILED/s", width: 8, rank: 8 },
  ...[
    "READ/s",
    "MiB/s",
    "P50",
    "P99",
    "WRITE/s",
    "MiB/s",
    "P50",
    "P99",
    "OTHER/s",
    "P99",
    "KICK/s",
    "CALL/s",
  ].map((title, at): ViewColumn => ({ title, width: Math.max(6, title.length), rank: 9 + at })),
];

export function viewLines(looks: readonly Look[], width: number): string[] {
  const { titles, lines } = view(looks, width);
  return [titles, ...lines.map(paintLine)];
}

/** The titles' line, as it is painted, and what is below. */
export function view(looks: readonly Look[], width: number): { titles: string; lines: ViewLine[] } {
  const shown = looks.flatMap(({ device, socket, rates = [] }) =>
    rates.map((each) => ({ device, socket, rates: each })),
  );
  const rows = shown.map(({ device, rates }) => cellsOf(device, rates));
  const fitted = fitColumns(rows, width);
  const kept = rows.map((row) => fitted.map(({ at }) => row[at]!));
  const [head, ...texts] = formatTable(fitted, kept, width);
  const numbers = texts.map((text, at) => lineOf(text, shown[at]!.socket, shown[at]!.rates));
  const lines = looks.flatMap((look) => [
    ...numbers.splice(0, look.rates?.length ?? 0),
    ...watchedLines(look, width),
    ...problemLines(look, width),
  ]);
  return { titles: paint("inverse", fill(head!, width)), lines };
}

export function paintLine({ text, style }: ViewLine): string {
  return style === undefined ? text : paint(style, text);
}

/** Lines of whole words, but for words that are longer than a line. */
export function folded(text: string, width: number): string[] {
  return wrap(text, width).flatMap((line) => {
    const parts = [""];
    for (const character of line) {
      if (textWidth(parts.at(-1)!) + characterWidth(character) > width) parts.push("");
      parts.push(parts.pop()! + character);
    }
    return parts;
  });
}

function lineOf(text: string, socket: string, { queue, state, failures }: QueueRates): ViewLine {
  if (state === "broken" || failures > 0) return { socket, text, style: "red" };
  return queue === undefined ? { socket, text, style: "bold" } : { socket, text };
}

/** Below the rows of its device. */
function watchedLines({ socket, rates, watched }: Look, width: number): ViewLine[] {
  const members = Object.entries(watched ?? {}).map(([name, text]) => `${name} ${text}`);
  if (rates === undefined || members.length === 0) return [];
  const lines = folded(members.join(", "), width - WATCHED_INDENT.length);
  return lines.map((line) => ({ socket, text: WATCHED_INDENT + line }));
}

function problemLines({ socket, problem }: Look, width: number): ViewLine[] {
  if (problem === undefined) return [];
  return folded(problem, width).map((text) => ({ socket, text, style: "yellow" }));
}

/** Those that there is room for, in their order. `at`: of a cell in its row. */
function fitColumns(rows: readonly string[][], width: number): (Column & { at: number })[] {
  const widthOf = (at: number, title: string, least: number) =>
    Math.max(least, textWidth(title), ...rows.map((row) => textWidth(printable(row[at]!))));
  const nameWidth = widthOf(0, NAME_TITLE, NAME_USUAL);
  const all = COLUMNS.map((column, i) => ({
    ...column,
    at: i + 1,
    width: widthOf(i + 1, column.title, column.width),
  }));
  const kept: typeof all = [];
  let left = width;
  for (const column of all.toSorted((a, b) => a.rank - b.rank)) {
    const name =
      column.rank <= BEFORE_NAME ? NAME_LEAST : Math.min(nameWidth, Math.max(NAME_USUAL, width * NAME_PART));
    if (left - GAP - column.width < name) break;
    left -= GAP + column.width;
    kept.push(column);
  }
  const name = Math.max(1, Math.min(nameWidth, left));
  return [
    { title: NAME_TITLE.padEnd(Math.min(name, NAME_USUAL)), at: 0, least: name },
    ...kept
      .sort((a, b) => a.at - b.at)
      .map(({ title, width, at }): Column & { at: number } => {
        return { title: title.padStart(width), at, least: width, align: "right" };
      }),
  ];
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
