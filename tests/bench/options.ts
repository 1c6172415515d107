// The command line of `npm run bench`.
import { Command, Option } from "commander";
import { BASE, type Cell, cellsOf, GRID_NAMES, type GridName, nameOf, PATTERNS } from "./grid.ts";
import { PLACES } from "./images.ts";

export interface CellValues {
  rw: Cell["pattern"];
  bs: number;
  depth: number;
  queues: number;
  segments: number;
  memory: number;
  place: Cell["place"];
  direct: boolean;
  packed: boolean;
  indirect: boolean;
}

interface Values extends CellValues {
  grid: GridName | "one";
  filter?: string;
  backEnds?: string;
  pollUs: number[];
  storageDaemon: string[];
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

const HELP_WIDTH = 80;

const integer = (text: string) => Number.parseInt(text, 10);

function command(): Command {
  const list = (text: string) => text.split(",").filter(Boolean).map(Number);
  const command = new Command("npm run bench --")
    .description("Drives vringd and qemu-storage-daemon through the same front-end, and compares.")
    .configureOutput({ getOutHelpWidth: () => HELP_WIDTH });
  command
    .optionsGroup("What is measured:")
    .addOption(new Option("--grid <NAME>", "cells").choices([...GRID_NAMES, "one"]).default("headline"))
    .option("--filter <REGEX>", "only cells whose names match")
    .option("--back-ends <REGEX>", "only back-ends whose names match")
    .option("--poll-us <LIST>", "also vringd with these values of --poll-us", list, [50])
    .option("--storage-daemon <PATH>", "also this qemu-storage-daemon; may be repeated", collect, [])
    .addOption(new Option("--front-end <HOW>", "in all cells").choices(["poll", "sleep"]))
    .option("--no-fio", "leave out fio on the bare file")
    .option("--no-syscalls", "don't count system calls");
  command
    .optionsGroup("How:")
    .option("--rounds <N>", "rounds that count, after one to warm up", integer, 5)
    .option("--seconds <S>", "length of a round", Number.parseFloat, 0.7)
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
    .option("--bs <BYTES>", "block size", integer, BASE.blockBytes)
    .option("--depth <N>", "requests in flight in each queue", integer, BASE.depth)
    .option("--queues <N>", "queues", integer, BASE.queues)
    .option("--segments <N>", "data buffers in each request", integer, BASE.segments)
    .option("--memory <MIB>", "guest memory", integer, BASE.memoryBytes / 2 ** 20)
    .addOption(
      new Option("--place <NAME>", "where images are").choices(Object.keys(PLACES)).default(BASE.place),
    )
    .option("--direct", "past the page cache", BASE.direct)
    .option("--packed", "packed rings", BASE.packed)
    .option("--no-indirect", "descriptors in the ring itself");
}

function collect(path: string, before: string[]): string[] {
  return [...before, path];
}

export function readOptions(): Options {
  const values = command().parse().opts<Values>();
  const { filter = "", frontEnd } = values;
  const cells = values.grid === "one" ? [ownCell(values)] : cellsOf(values.grid);
  const manned = cells.map((cell) => ({ ...cell, manner: frontEnd ?? cell.manner }));
  return { ...values, cells: manned.filter((cell) => new RegExp(filter).test(nameOf(cell))) };
}

export function ownCell(values: CellValues): Cell {
  const { rw, bs, depth, queues, segments, memory, place, direct, packed, indirect } = values;
  return {
    ...BASE,
    pattern: rw,
    blockBytes: bs,
    depth,
    queues,
    segments,
    memoryBytes: memory * 2 ** 20,
    place,
    direct,
    packed,
    indirect,
    withFio: true,
    withSyscalls: true,
    withSlow: true,
  };
}
