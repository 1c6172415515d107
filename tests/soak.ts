// `npm run soak`: sustained load for as long as you like. One daemon lives through all of it, with hostile queues beside a
// good one; others are killed again and again, with all kinds of rings, engines and loads. Ends with a picture of what the
// daemon took of the machine: build/soak/memory.svg, and memory.json beside it.
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type KillOptions, KillRun, noTotals, tellTotals } from "./support/kill-run.ts";
import type { Growth, Incarnation } from "./support/process-samples.ts";
import { Random } from "./support/random.ts";
import { drawSamples } from "./support/soak-picture.ts";
import { SteadyRun, type SteadyTotals } from "./support/steady-run.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    kills: { type: "string", default: "1000000" },
    /** Runs with kills, side by side. */
    jobs: { type: "string", default: String(Math.max(1, availableParallelism() - 1)) },
    seed: { type: "string" },
  },
});

const KILLS_A_RUN = 25;
const HOSTILE_RUN_MS = 20_000;
const TELL_EVERY_MS = 5000;

/**
 * Of a daemon that isn't killed, over half of its life: what V8 takes for its heap before it collects in earnest, in pages
 * that are mappings each. What leaks shows the more, the longer that life is; mappings of guests are checked by name.
 */
const GROWTH_MAX: Growth = { rssMiB: 32, fds: 0, mappings: 256 };

const directory = fileURLToPath(new URL("../soak/", import.meta.url));
const startMs = performance.now();
const endMs = startMs + Number(values.minutes) * 60_000;
const middleMs = (startMs + endMs) / 2;
const killsWanted = Number(values.kills);
const totals = noTotals();
const hostile: SteadyTotals = { frontEnds: 0, attacks: 0, broken: 0 };
const lives: { name: string; incarnations: Incarnation[]; growth: Growth | undefined }[] = [];
const random = new Random(values.seed === undefined ? undefined : Number(values.seed));

function tell(): void {
  const seconds = Math.round((performance.now() - startMs) / 1000);
  console.log(`${seconds} s: ${tellTotals(totals)}`);
}

function isOver(): boolean {
  return process.exitCode !== undefined || performance.now() > endMs || totals.kills >= killsWanted;
}

/** Runs one with a seed of its own, which a failure tells. */
async function attempt(options: object, run: (random: Random) => Promise<void>): Promise<void> {
  const seed = random.between(1, 0x7fff_fffe);
  try {
    await run(new Random(seed));
  } catch (error) {
    console.error(`failed, with seed ${seed} and ${JSON.stringify(options)}:`, error);
    process.exitCode = 1;
  }
}

/** One daemon of each engine, for half of the time each. */
async function longLives(): Promise<void> {
  for (const [engine, untilMs] of [
    ["io_uring", middleMs],
    ["threads", endMs],
  ] as const) {
    await steady(engine, 0, () => isOver() || performance.now() > untilMs);
  }
}

async function steady(engine: "io_uring" | "threads", killsEvery: number, isEnough: () => boolean) {
  const options = { engine, threads: 1, hostileQueues: 3, killsEvery };
  await attempt(options, async (random) => {
    await using run = await SteadyRun.start(options, random, totals);
    await run.run(isEnough);
    for (const key of Object.keys(hostile) as (keyof SteadyTotals)[]) hostile[key] += run.totals[key];
    const name = `${engine}, ${killsEvery === 0 ? "never killed" : "killed"}`;
    const { incarnations } = run.samples;
    lives.push({ name, incarnations, growth: killsEvery === 0 ? run.samples.growth() : undefined });
  });
}

async function killJob(): Promise<void> {
  while (!isOver()) {
    const runEndMs = performance.now() + HOSTILE_RUN_MS;
    await steady(random.pick(["io_uring", "threads"]), 2, () => isOver() || performance.now() > runEndMs);
    if (!isOver()) await killRun(choose(random));
  }
}

async function killRun(options: KillOptions): Promise<void> {
  await attempt(options, async (random) => {
    await using run = await KillRun.start(options, random, totals);
    await run.run(Math.min(KILLS_A_RUN, killsWanted - totals.kills), endMs - performance.now());
  });
}

function choose(random: Random): KillOptions {
  const indirect = random.below(4) > 0;
  const queueSize = random.pick([16, 64, 128, 256]);
  // Without indirect tables a request takes three descriptors and more.
  const depthMax = Math.min(128, indirect ? queueSize : Math.floor(queueSize / 3));
  const direct = random.below(2) === 0;
  return {
    packed: random.below(2) === 0,
    eventIdx: random.below(2) === 0,
    engine: random.pick(["io_uring", "threads"]),
    queues: random.between(1, 4),
    depth: random.pick([1, 2, 8, 32, 128].filter((depth) => depth <= depthMax)),
    indirect,
    queueSize,
    sectorsMax: random.pick([1, 16, 32]),
    onDisk: direct,
    args: [`--threads=${random.between(1, 2)}`, ...(direct ? ["--direct"] : [])],
  };
}

function tellLives(): void {
  const { frontEnds, attacks, broken } = hostile;
  console.log(
    `served ${frontEnds} front-ends beside hostile queues: ${attacks} attacks, ${broken} rings broken`,
  );
  for (const { name, growth } of lives) {
    if (growth === undefined) continue;
    const { rssMiB, fds, mappings } = growth;
    console.log(`${name}: grew by ${rssMiB.toFixed(1)} MiB, ${fds} descriptors, ${mappings} mappings`);
    const isFlat = (Object.keys(GROWTH_MAX) as (keyof Growth)[]).every(
      (key) => growth[key] <= GROWTH_MAX[key],
    );
    if (!isFlat) process.exitCode = 1;
  }
}

function writePicture(): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(
    join(directory, "memory.json"),
    JSON.stringify({ seed: random.seed, totals, hostile, lives }),
  );
  writeFileSync(join(directory, "memory.svg"), drawSamples(lives));
  console.log(`drawn: ${join(directory, "memory.svg")}`);
}

console.log(`seed ${random.seed}`);
const ticker = setInterval(tell, TELL_EVERY_MS);
await Promise.all([longLives(), ...Array.from({ length: Number(values.jobs) }, killJob)]);
clearInterval(ticker);
tell();
tellLives();
writePicture();
