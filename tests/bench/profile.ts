// `npm run profile`: where vringd's worker spends its time under a load, function by function.
//
// perf sees the kernel, Node and Wasm; where it is missing, V8's own profiler sees JavaScript and Wasm alone. Both work
// on a copy of the bundle in build/profile/ with a core whose functions have names.
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";
import { Command } from "commander";
import { RingDriver } from "../../host/front-end/load/ring-driver.ts";
import { pinThisThread } from "../support/affinity.ts";
import { DRIVER_WASM, PROGRAM } from "../support/vringd.ts";
import { type BackEnd, vringdCommand } from "./back-ends.ts";
import { Contender } from "./contender.ts";
import { type Cell, nameOf } from "./grid.ts";
import { Images } from "./images.ts";
import { SharedNbdServer } from "./nbd.ts";
import { type CellValues, cellOptions, ownCell } from "./options.ts";
import { hasPerf, type Profiler, perfProfiler, type Share, v8Profiler } from "./profilers.ts";
import { SharedCephCluster } from "./rbd.ts";

interface Options extends CellValues {
  seconds: number;
  top: number;
  size: number;
  args?: string;
}

const WARM_UP_SECONDS = 2;
const DIRECTORY = join(dirname(PROGRAM), "profile");

function readOptions(): Options {
  const command = new Command("npm run profile --")
    .description("Says where vringd's worker spends its time under a load.")
    .option("--seconds <S>", "how long", Number.parseFloat, 5)
    .option("--top <N>", "how many functions to list", Number, 25)
    .option("--size <MIB>", "size of the image", Number, 256)
    .option("--args <TEXT>", 'more options of vringd-blk, such as "--engine=threads"');
  return cellOptions(command, "The load:").parse().opts<Options>();
}

async function main(): Promise<void> {
  const options = readOptions();
  const cell = ownCell(options);
  copyBundle();
  const profiler = hasPerf() ? perfProfiler(DIRECTORY) : v8Profiler(DIRECTORY);
  console.log(`vringd, ${nameOf(cell)}, ${options.seconds} s, by ${profiler.name}`);
  const shares = await profile(profiler, cell, options);
  console.log(shares.slice(0, options.top).map(line).join("\n"));
  console.log(`\nWritten: ${profiler.written()}`);
}

/** Beside the named core, which `asc --target profile` has put there. */
function copyBundle(): void {
  mkdirSync(DIRECTORY, { recursive: true });
  const modulesIn = (directory: string) => readdirSync(directory).filter((name) => name.endsWith(".mjs"));
  for (const name of modulesIn(DIRECTORY)) rmSync(join(DIRECTORY, name));
  for (const name of modulesIn(dirname(PROGRAM)))
    copyFileSync(join(dirname(PROGRAM), name), join(DIRECTORY, name));
}

async function profile(profiler: Profiler, cell: Cell, options: Options): Promise<Share[]> {
  const { seconds, size, args = "" } = options;
  const isPinned = availableParallelism() > 1;
  if (isPinned) pinThisThread([0]);
  const node = [process.execPath, ...profiler.nodeFlags];
  const program = join(DIRECTORY, basename(PROGRAM));
  const backEnd: BackEnd = {
    name: "vringd",
    backing: cell.backing,
    command: (setup) => vringdCommand(setup, args.split(" ").filter(Boolean), node, program),
    whyNot: () => undefined,
  };
  const images = new Images(size * 2 ** 20);
  const cores = isPinned ? [1] : [];
  const nbd = new SharedNbdServer(images, cores);
  const ceph = new SharedCephCluster(images.byteLength, cores);
  const driver = await RingDriver.load(readFileSync(DRIVER_WASM));
  const contender = await Contender.start(driver, backEnd, cell, images, nbd, ceph, cores);
  try {
    contender.measure(WARM_UP_SECONDS);
    await profiler.start(contender.pid);
    const { iops, cpuUs } = contender.measure(seconds);
    console.log(`${Math.round(iops)} IOPS, ${cpuUs.toFixed(2)} us of processor time a request\n`);
    await profiler.stop();
  } finally {
    await contender.stop();
  }
  return profiler.shares();
}

function line({ percent, where, name }: Share): string {
  return `${percent.toFixed(1).padStart(6)} %  ${where.padEnd(7)} ${name}`;
}

await main();
process.exit();
