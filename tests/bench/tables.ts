// Results as text, 80 columns wide.
import type { Field } from "./back-ends.ts";
import { OURS } from "./back-ends.ts";
import { type CellResult, FIO } from "./cell-run.ts";
import { nameOf } from "./grid.ts";
import type { Machine } from "./machine.ts";
import { frontEndShare, metricOf, ratio } from "./summary.ts";

const WIDTHS = [20, 9, 13, 9, 9, 8, 7];
/** What is below was measured on a busy machine. */
const QUIET_SHARE = 0.97;

const HEADINGS = ["", "IOPS", "min-max", "p50 us", "p99 us", "CPU us", "calls"];

export function machineText(machine: Machine, field: Field, syscallTool: string | undefined): string {
  const { cpu, cores, kernel, node, vringd, fio, loadAverage } = machine;
  const lines = [
    `${cpu}, ${cores} cores, Linux ${kernel}, load ${loadAverage.toFixed(1)} before the start`,
    `vringd ${vringd} on Node ${node}; ${field.backEnds.map(({ name }) => name).join(", ")}`,
    `fio: ${fio}; system calls counted with ${syscallTool ?? "nothing: neither perf nor strace works here"}`,
    ...field.missing,
    "CPU us and calls: processor time and system calls of the back-end, a request.",
  ];
  return lines.flatMap((line) => wrap(line, 80)).join("\n");
}

export function cellText(result: CellResult): string {
  const lines = [nameOf(result.cell), row(HEADINGS)];
  for (const name of Object.keys(result.samples)) lines.push(backEndRow(result, name));
  for (const [name, reason] of Object.entries(result.leftOut)) lines.push(...wrap(`${name}: ${reason}`, 80));
  const share = frontEndShare(result);
  if (share < QUIET_SHARE)
    lines.push(`Other work left the front-end ${Math.round(share * 100)} % of its core.`);
  const reached = ratio(result, OURS, "iops", "peer");
  if (reached !== undefined)
    lines.push(`${OURS} makes ${reached.toFixed(2)} times the IOPS of the best peer`);
  return lines.join("\n");
}

function backEndRow(result: CellResult, name: string): string {
  const samples = result.samples[name]!;
  const iops = metricOf(samples, "iops");
  const failures = samples.reduce((sum, sample) => sum + sample.failures, 0);
  const cells = [
    name === FIO ? "fio on the file" : name,
    Math.round(iops.median).toLocaleString("en"),
    `${thousands(iops.min)}-${thousands(iops.max)}`,
    ifKnown(metricOf(samples, "p50Us").median, 1),
    ifKnown(metricOf(samples, "p99Us").median, 1),
    ifKnown(metricOf(samples, "cpuUs").median, 2),
    result.syscalls[name]?.toFixed(2) ?? "",
  ];
  return row(cells) + (failures > 0 ? ` ${failures} failed` : "");
}

function row(cells: readonly string[]): string {
  const padded = cells.map((cell, i) => (i === 0 ? cell.padEnd(WIDTHS[i]!) : cell.padStart(WIDTHS[i]!)));
  return padded.join("").trimEnd();
}

/** `rbd bench` tells no more than how many. */
function ifKnown(value: number, digits: number): string {
  return Number.isNaN(value) ? "" : value.toFixed(digits);
}

function thousands(value: number): string {
  return value < 10_000 ? value.toFixed(0) : `${(value / 1000).toFixed(0)}k`;
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1)!.length + 1 + word.length > width) lines.push("");
    lines.push(`${lines.pop()} ${word}`.trimStart());
  }
  return lines;
}
