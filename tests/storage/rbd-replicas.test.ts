// A cluster as people have them: three replicas of everything, and keys for its users.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { limitTests } from "../support/bounded-test.ts";
import { cephUnavailable } from "../support/ceph-cluster.ts";
import { newKey } from "../support/ceph-keys.ts";
import { tellSeed } from "../support/random.ts";
import { RbdRig } from "../support/rbd-rig.ts";
import { skipWithout } from "../support/skip.ts";
import { UnitLoad } from "../support/unit-load.ts";
import { Vringd } from "../support/vringd.ts";

limitTests(900_000);

const OSDS = 3;
const PATIENCE_MS = 300_000;
/** How many of the OSDs go, one after the other: each takes seconds of the processor to come back. */
const LOSSES = Number(process.env.VRINGD_TEST_RBD_LOSSES ?? 1);
/** As docs/ceph.md has them. */
const CAPS = ["mon", "profile rbd", "osd", "profile rbd pool=rbd"];

describe("a cluster of three OSDs that asks for keys", { skip: skipWithout(cephUnavailable()) }, () => {
  let rig: RbdRig;
  before(async () => {
    rig = await RbdRig.start({ store: "bluestore", osds: OSDS, cephx: true });
  });
  after(() => rig[Symbol.asyncDispose]());

  /** The URI by which a new user with these caps reaches the image. */
  async function asUser(image: string, name: string, caps: readonly string[]): Promise<string> {
    const keyring = join(rig.cluster.directory, `${name}.keyring`);
    await rig.cluster.ceph("auth", "get-or-create", `client.${name}`, ...caps, "-o", keyring);
    return rig.uri(image, { id: name, keyring });
  }

  test("loses one while it is written to, and has it again, and no request fails", async (t) => {
    const image = await rig.makeImage();
    const blkFile = await asUser(image, "writer", CAPS);
    await using daemon = await Vringd.start({ blkFile, env: rig.env() });
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

  test("lets a user with the caps that it takes fence off what was killed, and no other", async () => {
    const image = await rig.makeImage();
    const blkFile = await asUser(image, "fencing", CAPS);
    await using daemon = await Vringd.start({ blkFile, env: rig.env() });
    await daemon.kill9();
    await daemon.restart();
    await daemon.waitForLog(/is broken, and what it has sent is fenced off/);
    await daemon.kill9();
    const weaker = await asUser(image, "weaker", ["mon", "allow r", "osd", "allow rwx pool=rbd"]);
    rig.isRefused(weaker, /can't be broken: .*; the blocklist is part of the caps mon 'profile rbd'$/);
    await daemon.restart();
    assert.equal(await daemon.stop(), 0);
  });

  test("refuses whoever has a wrong key, none, or no caps, which is said in one sentence", async () => {
    const image = await rig.makeImage();
    const stranger = join(rig.cluster.directory, "stranger.keyring");
    writeFileSync(stranger, `[client.fencing]\nkey = ${newKey()}\n`);
    rig.isRefused(
      rig.uri(image, { id: "fencing", keyring: stranger }),
      /the cluster refuses client\.fencing: .*; compare its keyring with ceph auth get client\.fencing$/,
    );
    rig.isRefused(
      rig.uri(image, { id: "fencing", keyring: "/nowhere/keyring" }),
      /there is no keyring for client\.fencing \(looked for \/nowhere\/keyring\)$/,
    );
    const caps =
      /client\.\w+ may not open it: it needs the caps mon 'profile rbd' and osd 'profile rbd pool=POOL'$/;
    rig.isRefused(
      await asUser(image, "elsewhere", ["mon", "profile rbd", "osd", "profile rbd pool=other"]),
      caps,
    );
    rig.isRefused(await asUser(image, "nobody", ["mon", "allow r"]), caps);
  });
});
