// A Ceph cluster that goes away: before a daemon starts, and while it serves.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { limitTests } from "../support/bounded-test.ts";
import { cephUnavailable } from "../support/ceph-cluster.ts";
import { Observed } from "../support/observed.ts";
import { tellSeed } from "../support/random.ts";
import { RbdRig } from "../support/rbd-rig.ts";
import { skipWithout } from "../support/skip.ts";
import { UnitLoad } from "../support/unit-load.ts";
import { until } from "../support/until.ts";

limitTests(900_000);

const PATIENCE_MS = 300_000;

describe("a Ceph cluster that goes away", { skip: skipWithout(cephUnavailable()) }, () => {
  let rig: RbdRig;
  before(async () => {
    rig = await RbdRig.start({ store: "bluestore", client: ["client_mount_timeout = 5"] });
  });
  after(() => rig[Symbol.asyncDispose]());

  test("fails no request: they wait until its OSD is back, and go on while its monitor is away", async (t) => {
    const image = await rig.makeImage();
    await using daemon = await rig.serve(image);
    const frontEnd = await FrontEnd.connect(daemon.socketPath);
    t.after(() => frontEnd.close());
    const load = new UnitLoad(frontEnd.disk(), tellSeed(t), PATIENCE_MS);
    await load.someMore();
    await rig.cluster.kill("osd.0");
    await daemon.waitForLog(/ warn .*the Ceph cluster does not answer; requests wait for it/, PATIENCE_MS);
    rig.cluster.startDaemon("osd.0");
    await daemon.waitForLog(/ info .*the Ceph cluster answers again/, PATIENCE_MS);
    await load.someMore();

    // Who knows its OSDs needs no monitor, and finds it again.
    await rig.cluster.kill("mon");
    await load.someMore();
    rig.cluster.startDaemon("mon");
    await rig.cluster.rbd("resize", "--no-progress", "--size", "20M", image);
    await daemon.waitForLog(/ info .*the disk has another size/, PATIENCE_MS);
    await load.someMore();
    await load.end();
    assert.equal(await daemon.stop(), 0);
    load.check(await rig.cluster.exported(image));
    assert.deepEqual(daemon.linesLike(/ a (read|write) failed/), []);
  });

  test("keeps no daemon from ending when it is told to", async (t) => {
    const image = await rig.makeImage();
    await using observed = await Observed.start(rig.options(image));
    const { daemon } = observed;
    const frontEnd = await FrontEnd.connect(daemon.socketPath);
    t.after(() => frontEnd.close());
    rig.cluster.signal("osd.0", "SIGSTOP");
    try {
      const write = frontEnd.disk().write(0, Buffer.alloc(4096, 1));
      write.catch(() => {});
      const isSilent = async () => (await observed.get("/v1/status")).disk.silentSeconds > 0;
      await until(isSilent, "the status shows that nothing is answered", PATIENCE_MS);
      assert.equal(await daemon.stop(), 1);
      assert.equal(daemon.linesLike(/requests are stuck/).length, 1);
    } finally {
      rig.cluster.signal("osd.0", "SIGCONT");
    }
  });

  test("is told of at a start, in one sentence, be it an OSD or the monitor", async () => {
    const image = await rig.makeImage();
    rig.cluster.signal("osd.0", "SIGSTOP");
    rig.isRefused(rig.uri(image), /the cluster has not answered for 10 s; ceph health says why$/);
    rig.cluster.signal("osd.0", "SIGCONT");
    await rig.cluster.kill("mon");
    const silence = /no monitor of the cluster answers within 5 s \(mon_host is \[v2:127\.0\.0\.1:\d+\]\)$/;
    rig.isRefused(rig.uri(image), silence);
    rig.cluster.startDaemon("mon");
    await using daemon = await rig.serve(image);
    assert.equal(await daemon.stop(), 0);
  });
});
