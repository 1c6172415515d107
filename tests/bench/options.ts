// The command line of `npm run bench`.
import { Command, InvalidArgumentError, Option } from "commander";
import { SECTOR_SIZE } from "../../assembly/spec/virtio-blk.ts";
import {
  BACKINGS,
  BASE,
  type Backing,
  type Cell,
  cellsOf,
  GRID_NAMES,
  type GridName,
  nameOf,
  PATTERNS,
} from "./grid.ts";
import { PLACES } from "./images.ts";

export interface CellValues {
  rw: Cell["pattern"];
  bs: number;
  depth: number;
  queues: number;
  segments: number;
  memory: number;
  backing: Backing;
  place: Cell["place"];
  direct: boolean;
  packed: boolean;
  indirect: boolean;
}

interface Values extends CellValues {
  grid: GridName | typeof ONE | OwnGrid;
  filter?: string;
  backEnds?: string;
  pollUs: number[];
  storageDaemon: string[];
  peer?: string;
  rounds: number;
  seconds: number;
  size: number;
  frontEnd?: Cell["manner"];
  fio: boolean;
  syscalls: boolean;
  pin: boolean;
  out: string;
}

export type Options = Values & { cells: Cell[] };

/** The grid of one cell, which is made of options. */
const ONE = "one";
/** Grids without cells: random numbers, events, sockets and pictures of guests; limits; what is done to a running disk. */
const OWN_GRIDS = ["rng", "input", "vsock", "gpu", "limits", "operations"] as const;
export type OwnGrid = (typeof OWN_GRIDS)[number];

const HELP_WIDTH = 80;

function command(): Command {
  const list = (text: string) => text.split(",").filter(Boolean).map(Number);
  const command = new Command("npm run bench --")
    .description("Drives vringd and qemu-storage-daemon through the same front-end, and compares.")
    .configureOutput({ getOutHelpWidth: () => HELP_WIDTH });
  command
    .optionsGroup("What is measured:")
    .addOption(
      new Option("--grid <NAME>", "cells").choices([...GRID_NAMES, ONE, ...OWN_GRIDS]).default("headline"),
    )
    .option("--filter <REGEX>", "only cells whose names match")
    .option("--back-ends <REGEX>", "only back-ends whose names match")
    .option("--poll-us <LIST>", "also vringd with these values of --poll-us", list, [0])
    .option("--storage-daemon <PATH>", "also this qemu-storage-daemon; may be repeated", collect, [])
    .option("--peer <PATH>", "the vhost-device-vsock of --grid vsock; left out: that of Debian sid's root")
    .addOption(new Option("--front-end <HOW>", "in all cells").choices(["poll", "sleep"]))
    .option("--no-fio", "leave out fio on the bare file")
    .option("--no-syscalls", "don't count system calls");
  command
    .optionsGroup("How:")
    .option("--rounds <N>", "rounds that count, after one to warm up", integer, 5)
    .option("--seconds <S>", "length of a round", positive(), 0.7)
    .option("--size <MIB>", "size of each image", integer, 1024)
    .option("--no-pin", "bind nothing to cores")
    .option("--out <DIRECTORY>", "where results.json and the charts go", "build/bench");
  return cellOptions(command, "The cell of --grid one:");
}

/** What one cell is made of. */
export function cellOptions(command: Command, title: string): Command {
  return command
    .optionsGroup(title)
    .addOption(
      new Option("--rw <PATTERN>", "what is done").choices(Object.keys(PATTERNS)).default(BASE.pattern),
    )
    .option("--bs <BYTES>", "block size", positive(SECTOR_SIZE), BASE.blockBytes)
    .option("--depth <N>", "requests in flight in each queue", integer, BASE.depth)
    .option("--queues <N>", "queues", integer, BASE.queues)
    .option("--segments <N>", "data buffers in each request", integer, BASE.segments)
    .option("--memory <MIB>", "guest memory", integer, BASE.memoryBytes / 2 ** 20)
    .addOption(new Option("--backing <WHAT>", "behind the disk").choices(BACKINGS).default(BASE.backing))
    .addOption(
      new Option("--place <NAME>", "where images are").choices(Object.keys(PLACES)).default(BASE.place),
    )
    .option("--direct", "past the page cache", BASE.direct)
    .option("--packed", "packed rings", BASE.packed)
    .option("--no-indirect", "descriptors in the ring itself");
}

/** A number above 0, and for whole numbers a multiple of `unit`. */
function positive(unit?: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (value > 0 && value < Number.MAX_SAFE_INTEGER && (unit === undefined || value % unit === 0))
      return value;
    throw new InvalidArgumentError(
      unit === undefined ? "Not above 0." : `Not a multiple of ${unit} above 0.`,
    );
  };
}

const integer = positive(1);

function collect(path: string, before: string[]): string[] {
  return [...before, path];
}

export function readOptions(): Options {
  const program = command();
  const values = program.parse().opts<Values>();
  const { filter = "", frontEnd } = values;
  const { grid } = values;
  if (isOwnGrid(grid)) return { ...values, cells: [] };
  const cells = grid === ONE ? [ownCell(values)] : cellsOf(grid as GridName);
  const manned = cells.map((cell) => ({ ...cell, manner: frontEnd ?? cell.manner }));
  const wanted = manned.filter((cell) => new RegExp(filter).test(nameOf(cell)));
  if (wanted.length === 0) program.error(`no cell of the grid "${values.grid}" matches "${filter}"`);
  return { ...values, cells: wanted };
}

export function ownCell(values: CellValues): Cell {
  const { rw, bs, depth, queues, segments, memory, backing, place, direct, packed, indirect } = values;
  return {
    ...BASE,
    pattern: rw,
    blockBytes: bs,
    depth,
    queues,
    segments,
    memoryBytes: memory * 2 ** 20,
    backing,
    place,
    direct,
    packed,
    indirect,
    withFio: true,
    withSyscalls: true,
    withSlow: true,
  };
}

function isOwnGrid(name: string): name is OwnGrid {
  return OWN_GRIDS.some((grid) => grid === name);
}
