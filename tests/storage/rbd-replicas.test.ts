// A cluster as people have them, with three replicas of everything. Its OSDs take a machine of two processors half a minute, so this is for
// who asks for it; what a cluster of one OSD does when that goes and comes back is in rbd-outage.test.ts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { limitTests } from "../support/bounded-test.ts";
import { cephUnavailable } from "../support/ceph-cluster.ts";
import { tellSeed } from "../support/random.ts";
import { RbdRig } from "../support/rbd-rig.ts";
import { skipWithout } from "../support/skip.ts";
import { UnitLoad } from "../support/unit-load.ts";

const OSDS = 3;
/** How many of the OSDs go, one after the other, and come back. */
const LOSSES = Number(process.env.VRINGD_TEST_RBD_LOSSES ?? 0);
const PATIENCE_MS = 300_000;
limitTests(900_000 + LOSSES * PATIENCE_MS);

if (LOSSES > 0) {
  test("no request fails while one of three OSDs is away, and nothing is lost when it is back", {
    skip: skipWithout(cephUnavailable()),
  }, async (t) => {
    await using rig = await RbdRig.start({ store: "bluestore", osds: OSDS });
    const image = await rig.makeImage();
    await using daemon = await rig.serve(image);
    const frontEnd = await FrontEnd.connect(daemon.socketPath);
    t.after(() => frontEnd.close());
    const load = new UnitLoad(frontEnd.disk(), tellSeed(t), PATIENCE_MS);
    await load.someMore();
    for (let i = 0; i < LOSSES; i++) {
      const osd = `osd.${i % OSDS}` as const;
      await rig.cluster.kill(osd);
      await load.someMore();
      rig.cluster.startDaemon(osd);
      await rig.cluster.untilUp(OSDS);
      await load.someMore();
    }
    await load.end();
    assert.equal(await daemon.stop(), 0);
    load.check(await rig.cluster.exported(image));
    assert.deepEqual(daemon.linesLike(/ error | failed/), []);
  });
}
