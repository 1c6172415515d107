// `npm run bench`: drives vringd and qemu-storage-daemon through the same front-end, and compares.
//
// The front-end is this process, bound to core 0; back-ends share the other cores. On a machine with one core nothing
// is bound.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { RingDriver } from "../../host/front-end/load/ring-driver.ts";
import { pinThisThread } from "../support/affinity.ts";
import { DRIVER_WASM } from "../support/vringd.ts";
import { type Field, findBackEnds, OURS } from "./back-ends.ts";
import { type Bench, type CellResult, measureCell } from "./cell-run.ts";
import { drawCharts } from "./charts.ts";
import { fioVersion } from "./fio.ts";
import { measureGraphics } from "./gpu.ts";
import { nameOf } from "./grid.ts";
import { headlineText } from "./headline.ts";
import { Images } from "./images.ts";
import { measureInput } from "./input.ts";
import { measureLimits } from "./limits.ts";
import { describeMachine, type Machine } from "./machine.ts";
import { SharedNbdServer } from "./nbd.ts";
import { measureOperations } from "./operations.ts";
import { type Options, type OwnGrid, readOptions } from "./options.ts";
import { SharedCephCluster } from "./rbd.ts";
import { compareRandomNumbers } from "./rng.ts";
import { syscallTool } from "./syscall-counter.ts";
import { cellText, machineText } from "./tables.ts";
import { compareSockets } from "./vsock/grid.ts";

const FRONT_END_CORE = 0;

const WITHOUT_CELLS: Readonly<Record<OwnGrid, (options: Options) => Promise<void>>> = {
  rng: compareRandomNumbers,
  input: measureInput,
  vsock: compareSockets,
  gpu: measureGraphics,
  limits: measureLimits,
  operations: measureOperations,
};

async function main(): Promise<void> {
  const options = readOptions();
  if (options.grid in WITHOUT_CELLS) return WITHOUT_CELLS[options.grid as OwnGrid](options);
  const machine = describeMachine();
  const field = findBackEnds(options.pollUs, ["qemu-storage-daemon", ...options.storageDaemon]);
  const wanted = new RegExp(options.backEnds ?? "");
  field.backEnds = field.backEnds.filter(({ name }) => wanted.test(name));
  const bench = await prepare(options);
  console.log(`${machineText(machine, field, bench.syscallTool)}\n`);
  const results = await measureAll(bench, field, options);
  const headline = headlineText(results);
  if (headline !== "") console.log(headline);
  save(options, machine, field, results);
  // A comparison without vringd is none.
  if (results.some(({ leftOut }) => OURS in leftOut)) process.exitCode = 1;
}

async function prepare(options: Options): Promise<Bench> {
  const cores = availableParallelism();
  const isPinned = options.pin && cores > 1;
  if (isPinned) pinThisThread([FRONT_END_CORE]);
  const images = new Images(options.size * 2 ** 20);
  const backEndCores = isPinned ? Array.from({ length: cores - 1 }, (_, i) => FRONT_END_CORE + 1 + i) : [];
  return {
    driver: await RingDriver.load(readFileSync(DRIVER_WASM)),
    images,
    nbd: new SharedNbdServer(images, backEndCores),
    ceph: new SharedCephCluster(images.byteLength, backEndCores),
    rounds: options.rounds,
    seconds: options.seconds,
    cores: backEndCores,
    hasFio: options.fio && fioVersion() !== undefined,
    syscallTool: options.syscalls ? syscallTool() : undefined,
    progress: () => {},
  };
}

async function measureAll(bench: Bench, field: Field, { cells }: Options): Promise<CellResult[]> {
  const results: CellResult[] = [];
  for (const [i, cell] of cells.entries()) {
    const progress = (text: string) => tell(`${i + 1} of ${cells.length}: ${nameOf(cell)}: ${text}`);
    const result = await measureCell({ ...bench, progress }, field.backEnds, cell);
    results.push(result);
    tell("");
    console.log(`${cellText(result)}\n`);
  }
  return results;
}

/** One line that is written over again and again, for whoever watches. */
function tell(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text.slice(0, process.stderr.columns - 1)}`);
}

function save(options: Options, machine: Machine, field: Field, results: readonly CellResult[]): void {
  mkdirSync(options.out, { recursive: true });
  const { cells: _, ...given } = options;
  const named = results.map((result) => ({ name: nameOf(result.cell), ...result }));
  const content = {
    machine,
    options: given,
    versions: field.versions,
    missing: field.missing,
    results: named,
  };
  const files = new Map([
    ["results.json", `${JSON.stringify(content, null, 1)}\n`],
    ...drawCharts(results, machine),
  ]);
  for (const [name, text] of files) writeFileSync(join(options.out, name), text);
  console.log(`\nWritten: ${[...files.keys()].map((name) => join(options.out, name)).join(", ")}`);
}

await main();
// Back-ends that a cell left behind, and the images, go with the process.
process.exit();
