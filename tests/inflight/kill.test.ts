// The daemon killed under load at random instants: every request completes once and only once, with what it asked for.
// `npm run soak` does the same for longer, with more kinds of rings and loads.
import assert from "node:assert/strict";
import { test } from "node:test";
import { KillRun, noTotals, tellTotals } from "../support/kill-run.ts";
import { Random, tellSeed } from "../support/random.ts";

const RINGS = [
  { ring: "split", packed: false, eventIdx: false, queues: 2, depth: 32 },
  { ring: "split with EVENT_IDX", packed: false, eventIdx: true, queues: 4, depth: 128 },
  { ring: "packed", packed: true, eventIdx: true, queues: 2, depth: 128 },
] as const;

/** As many kills as fit, but this many at the most. */
const KILLS = 50;
const TIME_MS = 4000;

test("kill -9 under load loses and repeats no request", { concurrency: 2 }, async (t) => {
  const totals = noTotals();
  const engines = ["io_uring", "threads"] as const;
  const runs = engines.flatMap((engine) =>
    RINGS.map(({ ring, ...setup }) =>
      t.test(`on ${ring} rings, with ${engine}`, async (t) => {
        await using run = await KillRun.start({ ...setup, engine }, tellSeed(t), totals);
        await run.run(KILLS, TIME_MS);
      }),
    ),
  );
  await Promise.all(runs);
  t.diagnostic(tellTotals(totals));
  assert.ok(totals.kills > 0 && totals.recorded > 0);
});

const RECOVERIES = 5;

test("the first completion after a kill comes soon", async (t) => {
  const setup = { packed: true, eventIdx: true, engine: "io_uring", queues: 1, depth: 128 } as const;
  await using run = await KillRun.start(setup, new Random());
  for (const isLoaded of [false, true]) {
    const times: number[] = [];
    for (let i = 0; i < RECOVERIES; i++) times.push(await run.recoveryTime(isLoaded));
    times.sort((a, b) => a - b);
    const median = times[(RECOVERIES - 1) / 2]!;
    const text = times.map((ms) => ms.toFixed(0)).join(", ");
    t.diagnostic(
      `with ${isLoaded ? 128 : 0} requests in flight: ${median.toFixed(0)} ms, the median of ${text}`,
    );
    // What it takes is the start of a process: a loaded machine takes its time.
    assert.ok(median < 5000);
  }
});
