// `vringd ctl SOCKET stats` for people.
import { type QueueStats, type Stats, untimedRequests } from "../../observability/stats.ts";
import { type Column, formatTable } from "../table.ts";
import { paint, wrap } from "../terminal.ts";
import { formatBytes, formatNs, formatSpan } from "../units.ts";

const QUEUE_COLUMNS: Column[] = [
  { title: "QUEUE", least: 5, align: "right" },
  { title: "OPERATION", least: 9 },
  { title: "REQUESTS", least: 8, align: "right" },
  { title: "DATA", least: 8, align: "right" },
  { title: "MEAN", least: 6, align: "right" },
  { title: "P50", least: 6, align: "right" },
  { title: "P99", least: 6, align: "right" },
  { title: "P99.9", least: 6, align: "right", canGo: true },
  { title: "TIMED", least: 5, align: "right", canGo: true },
];
const WORKER_COLUMNS: Column[] = [
  { title: "WORKER", least: 6, align: "right" },
  { title: "TURNS", least: 5, align: "right" },
  { title: "SLEEPS", least: 6, align: "right" },
  { title: "POLLS THAT PAID", least: 15, align: "right" },
  { title: "IN VAIN", least: 7, align: "right" },
];
/** Names that are too long for their column. */
const WORDS: Readonly<Record<string, string>> = { writeZeroes: "zero" };

export function statsLines(
  { uptimeSeconds, wasTimed, brokenRings, queues, workers }: Stats,
  width: number,
): string[] {
  const used = queues.filter(isUsed);
  const lines = [`In ${formatSpan(uptimeSeconds)}, ${brokenRings} rings were broken by their drivers.`, ""];
  if (used.length === 0) lines.push("No queue has been used yet.");
  else lines.push(...table(QUEUE_COLUMNS, used.flatMap(operationRows), width), ...others(used));
  const workerRows = workers.map(({ index, turns, sleeps, pollsPaid, pollsInVain }) =>
    [index, turns, sleeps, pollsPaid, pollsInVain].map(String),
  );
  lines.push("", ...table(WORKER_COLUMNS, workerRows, width));
  if (!wasTimed) {
    const note =
      "Nobody had looked, so no request was timed. They are from now on, for 5 minutes after each look.";
    lines.push("", ...wrap(note, width));
  }
  return lines;
}

function isUsed(queue: QueueStats): boolean {
  const { state, operations, failures } = queue;
  const done = Object.values(operations).reduce(
    (sum, { requests }) => sum + requests,
    failures + untimedRequests(queue),
  );
  return state !== "stopped" || done > 0;
}

function operationRows({ index, operations }: QueueStats): string[][] {
  return Object.entries(operations)
    .filter(([, { requests }]) => requests > 0)
    .map(([name, { requests, bytes, latency }]) => [
      String(index),
      WORDS[name] ?? name,
      String(requests),
      bytes > 0 ? formatBytes(bytes) : "-",
      formatNs(latency.count > 0 ? latency.sumNs / latency.count : null),
      formatNs(latency.p50Ns),
      formatNs(latency.p99Ns),
      formatNs(latency.p999Ns),
      String(latency.count),
    ]);
}

function others(queues: readonly QueueStats[]): string[] {
  const sum = (of: (queue: QueueStats) => number) => queues.reduce((total, queue) => total + of(queue), 0);
  const failures = sum((queue) => queue.failures);
  const text =
    `${sum((queue) => queue.inFlight)} in flight, ${failures} failed, ` +
    `${sum((queue) => queue.kicks)} kicks, ${sum((queue) => queue.calls)} calls`;
  return [failures > 0 ? paint("red", text) : text];
}

function table(columns: Column[], rows: string[][], width: number): string[] {
  const [head, ...lines] = formatTable(columns, rows, width);
  return [paint("bold", head!), ...lines];
}
