// `npm run fuzz`: the core alone, as C under libFuzzer, with inputs that are guests, kernels and crashes. With --devices: device
// objects, each alone in this process.
import { spawnSync } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { BUILD, buildFuzzer, CHECKED_FUZZER, checkTools, FUZZER, FuzzError, runTool } from "./fuzz/build.ts";
import { emptyDirectory, packCorpus, unpackCorpus } from "./fuzz/corpus.ts";
import { measureCoverage, tellCoverage } from "./fuzz/coverage.ts";
import { floodDevice, fuzzDevice } from "./fuzz/devices/run.ts";
import { PLANTED_BUGS } from "./fuzz/planted-bugs.ts";
import { fuzz, INPUT_LENGTH_MAX, type Totals } from "./fuzz/session.ts";
import { DEVICE_TYPES } from "./support/device-programs.ts";
import { Random } from "./support/random.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    /** Fuzzers side by side, on one corpus. */
    jobs: { type: "string", default: "1" },
    /** Where inputs worth keeping are collected, beside the seeds. */
    corpus: { type: "string", default: join(BUILD, "corpus") },
    /** Runs one input, and says step by step what happens. */
    reproduce: { type: "string" },
    coverage: { type: "boolean", default: false },
    "self-test": { type: "boolean", default: false },
    /** Fuzzes devices instead. */
    devices: { type: "boolean", default: false },
    /** Of --devices: plays the life of one device that this number says. */
    seed: { type: "string" },
    /** Of --devices: one type alone. */
    type: { type: "string" },
    /** Of the planted bugs, those whose names have this in them. */
    only: { type: "string", default: "" },
    /** Makes the smallest part of the corpus that covers as much the seeds of the future. */
    minimise: { type: "boolean", default: false },
  },
});

const CRASHES = join(BUILD, "crashes");
const corpus = resolve(values.corpus);

function tell({ executions, executionsPerSecond, covered, counters, fuelMax, crashes }: Totals): string {
  return (
    `${executions} executions, ${executionsPerSecond} a second; ${covered} of ${counters} counters covered; ` +
    `at most ${fuelMax} accesses and loop turns in a call; ${crashes.length} crashes`
  );
}

async function fuzzCore(): Promise<void> {
  const fuzzer = await buildFuzzer(FUZZER);
  const checkedFuzzer = await buildFuzzer(CHECKED_FUZZER);
  const [seconds, jobs] = [Number(values.seconds), Number(values.jobs)];
  const totals = await fuzz({ fuzzer, checkedFuzzer, corpus, crashes: CRASHES, seconds, jobs });
  console.log(tell(totals));
  if (totals.reason === "") return;
  console.log(totals.reason);
  for (const crash of totals.crashes) console.log(`npm run fuzz -- --reproduce ${join(CRASHES, crash)}`);
  process.exitCode = 1;
}

async function reproduce(input: string): Promise<void> {
  const fuzzer = await buildFuzzer(CHECKED_FUZZER);
  const { status } = spawnSync(fuzzer, [input], {
    env: { ...process.env, FUZZ_TRACE: "1" },
    stdio: "inherit",
  });
  if (status !== 0) process.exitCode = 1;
}

/** Each bug is to be found from the seeds alone, in the time that is given for each. */
async function testItself(): Promise<void> {
  const sound = await buildFuzzer(FUZZER);
  for (const [i, [name, patch]] of Object.entries(PLANTED_BUGS).entries()) {
    if (!name.includes(values.only)) continue;
    const directory = join(BUILD, "planted", String(i));
    const fuzzer = await buildFuzzer({ ...FUZZER, directory, patch, harness: BUILD });
    const seeds = await emptyDirectory(join(directory, "corpus"));
    await unpackCorpus(seeds);
    const crashes = await emptyDirectory(join(directory, "crashes"));
    const totals = await fuzz({ fuzzer, corpus: seeds, crashes, seconds: Number(values.seconds), jobs: 1 });
    // What fails without the bug too is a fault of the harness, or another bug.
    const inputs = totals.crashes.map((crash) => join(crashes, crash));
    const isFound = inputs.length > 0 && spawnSync(sound, inputs, { stdio: "ignore" }).status === 0;
    console.log(
      `${isFound ? "found" : "NOT FOUND"} in ${totals.seconds.toFixed(1)} s: ${name}. ${totals.reason}`,
    );
    if (!isFound) process.exitCode = 1;
  }
}

async function minimise(): Promise<void> {
  const fuzzer = await buildFuzzer(FUZZER);
  const small = await emptyDirectory(join(BUILD, "minimised"));
  runTool(BUILD, fuzzer, ["-merge=1", `-max_len=${INPUT_LENGTH_MAX}`, small, corpus]);
  console.log(`${await packCorpus(small)} seeds`);
}

/** The seed comes first: what an exception at the top of the process leaves of the output is enough to play it again. */
async function fuzzDevices(): Promise<void> {
  const types = values.type === undefined ? DEVICE_TYPES : [values.type];
  const ends = performance.now() + Number(values.seconds) * 1000;
  let [lives, chains] = [0, 0];
  do {
    for (const type of types) {
      const seed = values.seed === undefined ? new Random().seed : Number(values.seed);
      process.stderr.write(`npm run fuzz -- --devices --type=${type} --seed=${seed}\n`);
      chains += (await fuzzDevice(type, seed)).chains;
      lives++;
    }
  } while (values.seed === undefined && performance.now() < ends);
  if (values.seed === undefined)
    for (const type of types) console.log(`${type}: ${await floodDevice(type, 1)}`);
  console.log(`${lives} lives of devices, ${chains} chains`);
}

async function main(): Promise<void> {
  if (values.devices) return fuzzDevices();
  checkTools();
  await mkdir(CRASHES, { recursive: true });
  await unpackCorpus(corpus);
  if (values.reproduce !== undefined) return reproduce(resolve(values.reproduce));
  if (values.coverage) return console.log(tellCoverage(await measureCoverage(corpus)));
  if (values["self-test"]) return testItself();
  if (values.minimise) return minimise();
  return fuzzCore();
}

try {
  await main();
} catch (error) {
  if (!(error instanceof FuzzError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
