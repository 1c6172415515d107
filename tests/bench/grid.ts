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

/** What is behind the disk: a file, an NBD server, a Ceph cluster, or nothing but memory. */
export const BACKINGS = ["file", "nbd", "rbd", "memory"] as const;
export type Backing = (typeof BACKINGS)[number];

/** In words, and every how many-th request that is. */
export const UNALIGNED = { none: undefined, half: 2, all: 1 } as const;
export type Unaligned = keyof typeof UNALIGNED;

export interface Cell {
  pattern: Pattern;
  backing: Backing;
  blockBytes: number;
  depth: number;
  queues: number;
  place: Place;
  direct: boolean;
  packed: boolean;
  indirect: boolean;
  /** Data buffers in each request. */
  segments: number;
  /** How many requests have data that O_DIRECT refuses. */
  unaligned: Unaligned;
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
  backing: "file",
  blockBytes: 4096,
  depth: 32,
  queues: 1,
  place: "tmpfs",
  direct: false,
  packed: false,
  indirect: true,
  segments: 1,
  unaligned: "none",
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

/** Disks that are no files: ours are in TypeScript. */
function noFiles(backing: Backing): Partial<Cell>[] {
  const cells: Partial<Cell>[] = [{ depth: 1 }, {}, { pattern: "randwrite" }, SEQUENTIAL];
  return cells.map((cell) => ({ ...cell, backing, withSyscalls: true }));
}

/** Past the page cache, where guests such as firmware use any address. */
function alignments(cell: Partial<Cell>): Partial<Cell>[] {
  const kinds = Object.keys(UNALIGNED) as Unaligned[];
  return kinds.map((unaligned) => ({ ...cell, direct: true, unaligned }));
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
  alignment: [
    ...alignments({}),
    ...alignments({ pattern: "randwrite" }),
    ...alignments({ place: "disk" }),
    ...alignments({ place: "disk", pattern: "randwrite" }),
  ],
  rbd: [
    { backing: "rbd", depth: 1 },
    { backing: "rbd" },
    { backing: "rbd", depth: 1, pattern: "randwrite" },
    { backing: "rbd", pattern: "randwrite" },
    { backing: "rbd", ...SEQUENTIAL },
  ],
  "no-files": [...noFiles("nbd"), ...noFiles("memory")],
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
  if (cell.backing === "file") parts.push(cell.place, cell.direct ? "direct" : "buffered");
  else parts.push(cell.backing);
  if (cell.packed) parts.push("packed");
  if (!cell.indirect) parts.push("chained");
  if (cell.segments > 1) parts.push(`${cell.segments} segments`);
  if (cell.unaligned !== "none") parts.push(`${cell.unaligned} unaligned`);
  if (cell.memoryBytes > BASE.memoryBytes) parts.push(`${cell.memoryBytes / GIB} GiB guest`);
  if (cell.manner === "sleep") parts.push("sleeping");
  return parts.join(", ");
}
