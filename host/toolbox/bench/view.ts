// What `vringd bench` prints for people.

import { type Column, formatTable } from "../table.ts";
import { paint, terminalWidth, wrap } from "../terminal.ts";
import { formatBytes, formatCount, formatNs } from "../units.ts";
import type { BenchOptions } from "./command.ts";
import { histogramLines } from "./histogram-view.ts";
import type { Plan } from "./plan.ts";
import { type Figures, PERCENTILES, type PercentileName, type Result } from "./result.ts";

const COLUMNS: Column[] = ["", "REQUESTS", "IOPS", "RATE", "P50", "P90", "P99", "P99.9", "MAX"].map(
  (title) => ({
    title,
    least: 4,
  }),
);

export function resultLines(options: BenchOptions, plan: Plan, result: Result): string[] {
  const kinds: [name: string, figures: Figures | undefined][] = [
    ["reads", result.reads],
    ["writes", result.writes],
    ["all", result.reads && result.writes ? result.all : undefined],
  ];
  const rows = kinds.flatMap(([name, figures]) => (figures === undefined ? [] : [row(name, figures)]));
  const [titles, ...lines] = formatTable(COLUMNS, rows, terminalWidth());
  return [
    ...loadTexts(options, plan, result).flatMap((text) => wrap(text, terminalWidth())),
    "",
    ...(rows.length === 0 ? ["No request has finished."] : [paint("bold", titles!), ...lines]),
    "",
    ...histogramLines(result.histogram, terminalWidth()),
  ];
}

function row(name: string, { requests, iops, bytesPerSecond, latencyNs }: Figures): string[] {
  const percentiles = (Object.keys(PERCENTILES) as PercentileName[]).map((each) => formatNs(latencyNs[each]));
  return [
    name,
    formatCount(requests),
    formatCount(iops),
    `${formatBytes(bytesPerSecond)}/s`,
    ...percentiles,
    formatNs(latencyNs.max),
  ];
}

function loadTexts(
  { rw, rwmix }: BenchOptions,
  { guest, offsetBytes, byteLength }: Plan,
  result: Result,
): string[] {
  const mix = rw.endsWith("rw") ? ` with ${rwmix} % reads` : "";
  const queues = guest.queues === 1 ? "one queue" : `each of ${guest.queues} queues`;
  const ring = guest.packed ? "packed" : "split";
  const range = `${formatBytes(byteLength)}${offsetBytes === 0 ? "" : ` from ${formatBytes(offsetBytes)} on`}`;
  return [
    `${rw}${mix}, ${formatBytes(guest.blockBytes)} each, ${guest.depth} in flight in ${queues} (${ring})`,
    `over ${range}, for ${result.seconds.toFixed(1)} s`,
  ];
}
