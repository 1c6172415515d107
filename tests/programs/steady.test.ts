// The short form of the long phases of `npm run soak`: one daemon, many front-ends, hostile queues beside a good one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { noTotals } from "../support/kill-run.ts";
import { tellSeed } from "../support/random.ts";
import { SteadyRun } from "../support/steady-run.ts";

const TIME_MS = 4000;

for (const engine of ["io_uring", "threads"] as const) {
  for (const killsEvery of [0, 1]) {
    const how = killsEvery === 0 ? "" : " and kills";
    test(`a queue is served right beside hostile ones${how}, with ${engine}`, async (t) => {
      const totals = noTotals();
      const options = { engine, threads: 1, hostileQueues: 3, killsEvery };
      await using run = await SteadyRun.start(options, tellSeed(t), totals);
      const endMs = performance.now() + TIME_MS;
      // A busy machine may take longer until a ring breaks.
      await run.run(() => performance.now() > endMs && totals.completed > 0 && run.totals.broken > 0);
      const { frontEnds, broken } = run.totals;
      t.diagnostic(`${totals.completed} requests, ${frontEnds} front-ends, ${broken} rings broken`);
      assert.equal(totals.kills, killsEvery === 0 ? 0 : frontEnds);
    });
  }
}
