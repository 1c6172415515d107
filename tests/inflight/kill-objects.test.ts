// kill -9 under load for disks in TypeScript: the ring's record and the disk's own file lose and repeat nothing together.
// What a disk in memory held dies with its process; there is nothing to find again.
import assert from "node:assert/strict";
import { test } from "node:test";
import { KillRun, noTotals, tellTotals } from "../support/kill-run.ts";
import { tellSeed } from "../support/random.ts";
import { LIBRARY_PROGRAM } from "../support/vringd.ts";

const DISKS = [
  { disk: "an overlay", setup: { overlay: true as const } },
  { disk: "a file by the library", setup: { program: [process.execPath, LIBRARY_PROGRAM] } },
];

const RINGS = [
  { ring: "split", packed: false, eventIdx: true, queues: 2, depth: 32 },
  { ring: "packed", packed: true, eventIdx: true, queues: 4, depth: 128 },
];

/** As many kills as fit, but this many at the most. */
const KILLS = 50;
const TIME_MS = 6000;

for (const { disk, setup } of DISKS) {
  for (const { ring, ...rings } of RINGS) {
    test(`kill -9 under load loses and repeats no request on ${disk}, with ${ring} rings`, async (t) => {
      const totals = noTotals();
      {
        await using run = await KillRun.start({ ...rings, ...setup, engine: "threads" }, tellSeed(t), totals);
        await run.run(KILLS, TIME_MS);
      }
      t.diagnostic(tellTotals(totals));
      assert.ok(totals.kills > 0);
    });
  }
}
