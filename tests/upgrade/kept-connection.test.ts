// A daemon that is killed, and whose service manager keeps its connections: whoever is started next goes on with a front-end that never
// connects again.
import { describe, test } from "node:test";
import { type KillOptions, KillRun, type KillTotals, noTotals, tellTotals } from "../support/kill-run.ts";
import { type Random, tellSeed } from "../support/random.ts";

const KILLS = Number(process.env.VRINGD_TEST_STORE_KILLS ?? 4);
/** A process starts after each, which takes its time on a busy machine. */
const KILL_MS_MAX = 10_000;

const SETUPS = [
  { what: "split rings", packed: false, eventIdx: true, queues: 2, engine: "io_uring" },
  { what: "packed rings", packed: true, eventIdx: false, queues: 2, engine: "threads" },
] as const;

describe("a connection outlives the daemon", {
  timeout: 60_000 + KILLS * KILL_MS_MAX,
  concurrency: 2,
}, () => {
  for (const { what, ...setup } of SETUPS)
    test(`with ${what}, and no request is lost or repeated`, async (t) => {
      const totals = noTotals();
      try {
        await runKilled({ ...setup, depth: 16, kept: true }, tellSeed(t), totals);
      } finally {
        t.diagnostic(tellTotals(totals));
      }
    });
});

async function runKilled(options: KillOptions, random: Random, totals: KillTotals): Promise<void> {
  await using run = await KillRun.start(options, random, totals);
  await run.run(KILLS);
}
