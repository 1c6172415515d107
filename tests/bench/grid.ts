// What is measured: cells by name, gathered into grids.

import type { Manner } from "../../host/front-end/load/rounds.ts";
import type { Place } from "./images.ts";

/** Percent of reads, and whether blocks come in order. */
export const PATTERNS = {
  randread: { readPercent: 100, isSequential: false },
  randwrite: { readPercent: 0, isSequential: false },
  randrw: { readPercent: 70, isSequential: false },
  read: { readPercent: 100, isSequential: true },
  write: { readPercent: 0, isSequential: true },
} as const;
export type Pattern = keyof typeof PATTERNS;

export interface Cell {
  pattern: Pattern;
  blockBytes: number;
  depth: number;
  queues: number;
  place: Place;
  direct: boolean;
  packed: boolean;
  indirect: boolean;
  /** Data buffers in each request. */
  segments: number;
  memoryBytes: number;
  manner: Manner;
  /** Beside IOPS and latency: what fio reaches on the bare file, and the back-ends' system calls. */
  withFio: boolean;
  withSyscalls: boolean;
  /** Whether back-ends take part that are not meant to be fast. */
  withSlow: boolean;
}

const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** As Linux drives a virtio disk: a split ring, indirect descriptors. */
export const BASE: Cell = {
  pattern: "randread",
  blockBytes: 4096,
  depth: 32,
  queues: 1,
  place: "tmpfs",
  direct: false,
  packed: false,
  indirect: true,
  segments: 1,
  memoryBytes: 256 * MIB,
  manner: "poll",
  withFio: false,
  withSyscalls: false,
  withSlow: false,
};

export const DEPTHS = [1, 4, 16, 32, 64, 128];
const SEQUENTIAL: Partial<Cell> = { pattern: "read", blockBytes: 128 * 1024, depth: 8 };

function depths(wanted: readonly number[], cell: Partial<Cell>): Partial<Cell>[] {
  return wanted.map((depth) => ({
    ...cell,
    depth,
    withFio: depth === 32,
    withSyscalls: depth === 32 || depth === 1,
  }));
}

const GRIDS = {
  short: [
    { depth: 1 },
    { depth: 32, withFio: true, withSyscalls: true },
    { direct: true, pattern: "randwrite" },
  ],
  headline: [
    ...depths(DEPTHS, {}),
    ...depths([32, 64], { pattern: "randwrite" }),
    ...depths([32, 64], { direct: true }),
    ...depths([32, 64], { direct: true, pattern: "randwrite" }),
    SEQUENTIAL,
  ],
  full: [
    ...depths(DEPTHS, { withSlow: true }),
    ...depths(DEPTHS, { direct: true }),
    ...depths(DEPTHS, { pattern: "randwrite" }),
    ...depths([32, 64], { direct: true, pattern: "randwrite" }),
    SEQUENTIAL,
    { ...SEQUENTIAL, direct: true },
    { ...SEQUENTIAL, segments: 32 },
    { pattern: "randrw" },
    { pattern: "randrw", direct: true },
    { queues: 2 },
    { queues: 4 },
    { place: "disk" },
    { place: "disk", pattern: "randwrite" },
    { place: "disk", direct: true },
    { place: "disk", direct: true, pattern: "randwrite" },
    { indirect: false },
    { packed: true },
    { packed: true, indirect: false },
    { memoryBytes: 16 * GIB },
    { memoryBytes: 64 * GIB },
    ...depths([1, 4, 32], { manner: "sleep" }),
  ],
} satisfies Record<string, Partial<Cell>[]>;

export type GridName = keyof typeof GRIDS;
export const GRID_NAMES = Object.keys(GRIDS) as GridName[];

export function cellsOf(grid: GridName): Cell[] {
  return GRIDS[grid].map((cell: Partial<Cell>) => ({ ...BASE, ...cell }));
}

/** What the cell has in common with all others is left out: "4k randread, depth 32, tmpfs, direct". */
export function nameOf(cell: Cell): string {
  const parts = [`${cell.blockBytes / 1024}k ${cell.pattern}`, `depth ${cell.depth}`];
  if (cell.queues > 1) parts.push(`${cell.queues} queues`);
  parts.push(cell.place, cell.direct ? "direct" : "buffered");
  if (cell.packed) parts.push("packed");
  if (!cell.indirect) parts.push("chained");
  if (cell.segments > 1) parts.push(`${cell.segments} segments`);
  if (cell.memoryBytes > BASE.memoryBytes) parts.push(`${cell.memoryBytes / GIB} GiB guest`);
  if (cell.manner === "sleep") parts.push("sleeping");
  return parts.join(", ");
}
