// A daemon that is upgraded while a front-end loads it: nothing is lost, repeated, or forgotten.
import assert from "node:assert/strict";
import { test } from "node:test";
import { limitTests } from "../support/bounded-test.ts";
import { tellSeed } from "../support/random.ts";
import { UpgradeRun } from "../support/upgraded.ts";

/** A process starts for each upgrade, which takes its time on a busy machine. */
limitTests(600_000);

const UPGRADES = Number(process.env.VRINGD_TEST_UPGRADES ?? 3);

for (const packed of [false, true]) {
  for (const inflight of [true, false]) {
    const rings = `${packed ? "packed" : "split"} rings ${inflight ? "with" : "without"} an inflight region`;
    test(`is upgraded again and again under load, on ${rings}`, async (t) => {
      const pauses: number[] = [];
      await using run = await UpgradeRun.start({ packed, inflight, queues: 2 }, tellSeed(t));
      const { upgraded } = run;
      await run.under(async () => {
        for (let i = 0; i < UPGRADES; i++) {
          const { pauseMs } = await upgraded.upgrade();
          pauses.push(pauseMs);
          await run.progress();
        }
      });
      pauses.sort((a, b) => a - b);
      t.diagnostic(`pauses of ${pauses[0]} to ${pauses.at(-1)} ms`);
      await upgraded.stop();
      const { daemon } = upgraded;
      assert.equal(daemon.linesLike(/front-end left/).length, 1, daemon.log.join("\n"));
    });
  }
}
