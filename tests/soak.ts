// `npm run soak`: kills the daemon under load for as long as you like, with all kinds of rings, engines and loads.
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { type KillOptions, KillRun, noTotals, tellTotals } from "./support/kill-run.ts";
import { Random } from "./support/random.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    kills: { type: "string", default: "1000000" },
    /** Runs side by side. */
    jobs: { type: "string", default: String(availableParallelism()) },
    seed: { type: "string" },
  },
});

const KILLS_A_RUN = 25;
const TELL_EVERY_MS = 5000;

const startMs = performance.now();
const endMs = startMs + Number(values.minutes) * 60_000;
const killsWanted = Number(values.kills);
const totals = noTotals();
const random = new Random(values.seed === undefined ? undefined : Number(values.seed));

function tell(): void {
  const seconds = Math.round((performance.now() - startMs) / 1000);
  console.log(`${seconds} s: ${tellTotals(totals)}`);
}

function isOver(): boolean {
  return process.exitCode !== undefined || performance.now() > endMs || totals.kills >= killsWanted;
}

async function job(): Promise<void> {
  while (!isOver()) {
    const seed = random.between(1, 0x7fff_fffe);
    const options = choose(new Random(seed));
    try {
      await using run = await KillRun.start(options, new Random(seed), totals);
      await run.run(Math.min(KILLS_A_RUN, killsWanted - totals.kills), endMs - performance.now());
    } catch (error) {
      console.error(`failed, with seed ${seed} and ${JSON.stringify(options)}:`, error);
      process.exitCode = 1;
    }
  }
}

function choose(random: Random): KillOptions {
  const indirect = random.below(4) > 0;
  const queueSize = random.pick([16, 64, 128, 256]);
  // Without indirect tables a request takes three descriptors and more.
  const depthMax = Math.min(128, indirect ? queueSize : Math.floor(queueSize / 3));
  const direct = random.below(4) === 0;
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

console.log(`seed ${random.seed}`);
const ticker = setInterval(tell, TELL_EVERY_MS);
await Promise.all(Array.from({ length: Number(values.jobs) }, job));
clearInterval(ticker);
tell();
