// kill -9 under load on an RBD image: the ring's record, the lock and the cluster's blocklist lose and repeat nothing together.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { limitTests } from "../support/bounded-test.ts";
import { cephUnavailable } from "../support/ceph-cluster.ts";
import { IMAGE_SIZE, KillRun, noTotals, tellTotals } from "../support/kill-run.ts";
import { tellSeed } from "../support/random.ts";
import { RbdRig } from "../support/rbd-rig.ts";
import { skipWithout } from "../support/skip.ts";

/** Each kill costs a start and an export; 200 of them say more, on a machine that has the time. */
const KILLS = Number(process.env.VRINGD_TEST_RBD_KILLS ?? 5);
const KILL_MS = 60_000;
limitTests(600_000 + KILLS * KILL_MS);

const SETUP = { eventIdx: true, engine: "io_uring", queues: 2, depth: 32 } as const;

describe("kill -9 under load", { skip: skipWithout(cephUnavailable()) }, () => {
  let rig: RbdRig;
  before(async () => {
    rig = await RbdRig.start();
  });
  after(() => rig[Symbol.asyncDispose]());

  for (const packed of [false, true]) {
    test(`loses and repeats no request on ${packed ? "packed" : "split"} rings`, async (t) => {
      const image = await rig.makeImage(IMAGE_SIZE >> 20);
      const totals = noTotals();
      const options = {
        ...SETUP,
        packed,
        args: [`--blk-file=${rig.uri(image)}`],
        env: rig.env(),
        lostAfterMs: KILL_MS,
        // librbd ignores those that are as small as these.
        noDiscards: true as const,
        readDisk: () => rig.cluster.exported(image),
      };
      {
        await using run = await KillRun.start(options, tellSeed(t), totals);
        await run.run(KILLS);
        // Not by waiting: each successor has found its predecessor's lock.
        assert.equal(run.daemon.linesLike(/is broken, and what it has sent is fenced off/).length, 1);
      }
      t.diagnostic(tellTotals(totals));
      assert.equal(totals.kills, KILLS);
      assert.ok(totals.recorded > 0, "nothing was in flight at any kill");
    });
  }
});
