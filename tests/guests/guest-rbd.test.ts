// Guests with their disks on an RBD image: a file system, a load that verifies itself while the daemon is killed, and what the cluster
// holds then.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { limitTests } from "../support/bounded-test.ts";
import { cephUnavailable } from "../support/ceph-cluster.ts";
import { assertSound } from "../support/file-system.ts";
import {
  ext4RoundTrip,
  qemuUnavailable,
  runQemuGuest,
  runUmlGuest,
  startQemuGuest,
  umlUnavailable,
  verifiedLoad,
} from "../support/guest.ts";
import { RbdRig } from "../support/rbd-rig.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";

/** On a machine that has much else to do. */
limitTests(900_000);

const SIZE_MIB = 256;
/** Sectors read at a time. */
const CHUNK = 2048;

describe("a guest on an RBD image", { skip: skipWithout(cephUnavailable()) }, () => {
  let rig: RbdRig;
  before(async () => {
    rig = await RbdRig.start();
  });
  after(() => rig[Symbol.asyncDispose]());

  /** The file system is sound, and vringd shows what Ceph's own tool does. */
  async function check(image: string): Promise<void> {
    const exported = await rig.cluster.exported(image);
    const path = join(rig.cluster.directory, "exported");
    writeFileSync(path, exported);
    assertSound(path);
    await using daemon = await rig.serve(image, "--read-only");
    const frontEnd = await FrontEnd.connect(daemon.socketPath);
    try {
      for (let sector = 0; sector < frontEnd.capacity; sector += CHUNK) {
        const found = await frontEnd.disk().read(sector, CHUNK);
        assert.ok(found.equals(exported.subarray(sector * 512, (sector + CHUNK) * 512)), `sector ${sector}`);
      }
    } finally {
      frontEnd.close();
    }
  }

  for (const [of, run, unavailable] of [
    ["QEMU", runQemuGuest, qemuUnavailable()],
    ["user-mode-linux", runUmlGuest, umlUnavailable()],
  ] as const) {
    test(`of ${of} keeps a file system`, { skip: skipWithout(unavailable) }, async () => {
      const image = await rig.makeImage(SIZE_MIB);
      await using daemon = await rig.serve(image);
      const { socketPath } = daemon;
      const result = await run({ socketPath, script: ext4RoundTrip, ...(of === "QEMU" && { queues: 2 }) });
      assert.ok(result.ok, result.console);
      assert.equal(await daemon.stop(), 0);
      await check(image);
    });
  }

  test("of QEMU notices a pause, nothing else, when the daemon is killed under load", {
    skip: skipWithout(qemuUnavailable(), whyNoProgram("fio")),
  }, async () => {
    const image = await rig.makeImage(SIZE_MIB);
    await using daemon = await rig.serve(image);
    await using guest = await startQemuGuest({
      socketPath: daemon.socketPath,
      script: verifiedLoad,
      programs: ["fio"],
      queues: 2,
      reconnectSeconds: 1,
    });
    assert.equal(await guest.waitForReport("BOOT"), "first");
    for (let kill = 0; kill < 2; kill++) {
      await guest.waitForReport("ROUND");
      await daemon.kill9();
      await daemon.restart();
    }
    await rig.cluster.rbd("snap", "create", `${image}@loaded`);
    await guest.waitForReport("ROUND");
    guest.send("end");
    const result = await guest.exit();
    assert.ok(result.ok, result.console);
    assert.equal(await daemon.stop(), 0);
    await check(image);
  });
});
