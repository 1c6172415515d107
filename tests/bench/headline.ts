// What vringd wants to reach against the best of its peers, and how far it gets. Nothing depends on the outcome.
import { OURS, OURS_SLEEPING } from "./back-ends.ts";
import { type CellResult, FIO } from "./cell-run.ts";
import { BASE, type Cell, DEPTHS, nameOf } from "./grid.ts";
import { type Metric, type Rival, ratio } from "./summary.ts";

interface Target {
  cell: Partial<Cell>;
  metric: Metric;
  /** At least this many times the rival's IOPS; at most this part of its time. */
  ratio: number;
  rival?: Rival;
  /** A variant of vringd, if not the default. */
  ours?: string;
}

const TARGETS: Target[] = [
  ...iopsTargets(3, [32, 64], {}, { pattern: "randwrite" }),
  ...iopsTargets(2, [32, 64], { direct: true }, { direct: true, pattern: "randwrite" }),
  ...iopsTargets(1.4, [4, 16], {}),
  ...iopsTargets(1.3, [1], {}),
  { cell: { depth: 1 }, metric: "p50Us", ratio: 1 / 1.3 },
  { cell: { depth: 1 }, metric: "iops", ratio: 1, ours: OURS_SLEEPING },
  { cell: { pattern: "read", blockBytes: 128 * 1024, depth: 8 }, metric: "iops", ratio: 1.2 },
  { cell: { depth: 32 }, metric: "cpuUs", ratio: 0.7 },
  { cell: { depth: 32 }, metric: "iops", ratio: 0.7, rival: FIO },
  ...DEPTHS.map((depth): Target => ({ cell: { depth }, metric: "p99Us", ratio: 1 })),
];

const METRIC_NAMES: Record<Metric, string> = {
  iops: "IOPS",
  p50Us: "p50",
  p99Us: "p99",
  cpuUs: "CPU a request",
  kicks: "kicks",
};

function iopsTargets(wanted: number, depths: readonly number[], ...cells: Partial<Cell>[]): Target[] {
  return cells.flatMap((cell) =>
    depths.map((depth): Target => ({ cell: { ...cell, depth }, metric: "iops", ratio: wanted })),
  );
}

/** Rows of targets whose cells were measured; empty if none was. */
export function headlineText(results: readonly CellResult[]): string {
  const rows = TARGETS.flatMap((target) => targetRow(target, results) ?? []);
  if (rows.length === 0) return "";
  return [`${"vringd against the best peer".padEnd(54)}target   reached`, ...rows].join("\n");
}

function targetRow(target: Target, results: readonly CellResult[]): string | undefined {
  const wanted = nameOf({ ...BASE, ...target.cell });
  const result = results.find(({ cell }) => nameOf(cell) === wanted);
  if (result === undefined) return undefined;
  const { metric, rival = "peer", ours = OURS } = target;
  const reached = ratio(result, ours, metric, rival);
  if (reached === undefined) return undefined;
  const isMore = metric === "iops";
  const notes = [
    METRIC_NAMES[metric],
    ours === OURS_SLEEPING && "not polling",
    rival === FIO && "to fio",
  ].filter(Boolean);
  const isMet = isMore ? reached >= target.ratio : reached <= target.ratio;
  const label = `${wanted.replace(", tmpfs", "")}: ${notes.join(", ")}`;
  const bound = `${isMore ? ">=" : "<="} ${target.ratio.toFixed(2)}`;
  return `${label.padEnd(52)} ${bound.padStart(8)} ${reached.toFixed(2).padStart(8)}${isMet ? "" : "  missed"}`;
}
