// vringd-blk itself in Deno, which has Node's interfaces and runs koffi.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { QUIET } from "../support/core-runs.ts";
import { KillRun, noTotals } from "../support/kill-run.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { tellSeed } from "../support/random.ts";
import { findDeno } from "../support/runtimes.ts";
import { skipWithout } from "../support/skip.ts";
import { PROGRAM, Vringd } from "../support/vringd.ts";

const deno = findDeno();
const skip = skipWithout(deno.missing);

/** Few: what recovers is the core, which is the same everywhere. */
const KILLS = 3;
const KILL_TIME_MS = 10_000;

const program = [deno.path ?? "", "run", "--allow-all", "--no-lock", PROGRAM];

for (const engine of ["io_uring", "threads"] as const) {
  describe(`vringd-blk in Deno, with ${engine}`, { skip }, () => {
    let daemon: Vringd;

    before(async () => {
      Object.assign(process.env, QUIET);
      daemon = await Vringd.start({ program, args: [`--engine=${engine}`, "--packed", "--threads=2"] });
    });
    after(() => daemon[Symbol.asyncDispose]());

    for (const packed of [false, true]) {
      test(`It keeps a mixed load right, in ${packed ? "packed" : "split"} rings.`, async (t) => {
        await using frontEnd = await FrontEnd.connect(daemon.socketPath, { packed, inflight: true });
        const part = { firstSector: 4096, sectors: 8192 };
        const random = tellSeed(t);
        const load = { random, count: 500, depth: 16, indirect: false, ...part };
        const { model } = await MixedLoad.run(frontEnd.disk(), load);
        assert.ok(daemon.imageBytes(part.firstSector, part.sectors).equals(model), "the file differs");
      });
    }

    test("Killed under load, it loses and repeats no request.", async (t) => {
      const totals = noTotals();
      const setup = { packed: true, eventIdx: true, engine, queues: 1, depth: 32, program };
      await using run = await KillRun.start(setup, tellSeed(t), totals);
      await run.run(KILLS, KILL_TIME_MS);
      assert.ok(totals.kills > 0);
    });

    test("It ends at a signal, with status 0, and takes its socket with it.", async () => {
      assert.equal(await daemon.stop(), 0, daemon.log.join("\n"));
      assert.equal(existsSync(daemon.socketPath), false);
    });
  });
}
