// An RBD image that goes from one process to another: with a guest that moves, at an upgrade, and to a standby. Its lock goes along, and
// nobody who lives is fenced off.
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { BLK_CONFIG_CAPACITY } from "../../assembly/spec/virtio-blk.ts";
import { limitTests } from "../support/bounded-test.ts";
import { cephUnavailable } from "../support/ceph-cluster.ts";
import { IMAGE_SIZE, KillRun, noTotals, tellTotals } from "../support/kill-run.ts";
import { bringMemory, comeBeside, startRings } from "../support/moving-guest.ts";
import { tellSeed } from "../support/random.ts";
import { RbdRig } from "../support/rbd-rig.ts";
import { skipWithout } from "../support/skip.ts";
import { whyNoStrace } from "../support/strace.ts";
import { MIGRATING, moveUnderLoad, TwoProcesses } from "../support/two-processes.ts";
import { until } from "../support/until.ts";
import { UpgradeRun } from "../support/upgraded.ts";
import { PROGRAM } from "../support/vringd.ts";

/** On a machine that has much else to do. */
limitTests(900_000);

const PATIENCE_MS = 120_000;
const SIZE_MIB = IMAGE_SIZE >> 20;
const UPGRADES = Number(process.env.VRINGD_TEST_UPGRADES ?? 1);
const STANDBY_KILLS = Number(process.env.VRINGD_TEST_STANDBY_KILLS ?? 1);
const FENCED_OFF = /is broken, and what it has sent is fenced off/;
const COMPLAINTS = / (warn|error) /;

describe("an RBD image goes to another process", { skip: skipWithout(cephUnavailable()) }, () => {
  let rig: RbdRig;
  before(async () => {
    rig = await RbdRig.start();
  });
  after(() => rig[Symbol.asyncDispose]());

  /** Whoever was fenced off since the cluster was made. */
  const blocklist = async () => (await rig.cluster.ceph("osd", "blocklist", "ls")).trim();
  const watchers = async (image: string) =>
    (await rig.cluster.rbd("status", image)).split("\n").filter((line) => line.includes("watcher="));

  test("with a guest that moves there and back under load", async (t) => {
    const image = await rig.makeImage(SIZE_MIB);
    await using both = await TwoProcesses.start(rig.options(image, ["--num-queues=2"]));
    await moveUnderLoad(t, both, 300, { noDiscards: true });
    for (const daemon of [both.source, both.destination]) {
      assert.ok(daemon.linesLike(/ the disk is taken over /).length > 0);
      assert.deepEqual(daemon.linesLike(COMPLAINTS), []);
    }
    assert.equal(await blocklist(), "", "somebody was fenced off who lives");
  });

  test("with a guest, from a source that is killed, and back from a destination that is", async () => {
    const image = await rig.makeImage(SIZE_MIB);
    await using both = await TwoProcesses.start(rig.options(image));
    const { source, destination, sourceEnd, destinationEnd } = both;
    const disk = sourceEnd.disk();
    disk.requestTimeoutMs = PATIENCE_MS;
    await disk.write(0, Buffer.alloc(4096, 1));
    const bases = await both.leave();
    await rig.cluster.rbd("resize", "--no-progress", "--size", "12M", image);
    await startRings(destinationEnd, bases);
    const capacity = (await destinationEnd.readConfig()).readBigUInt64LE(BLK_CONFIG_CAPACITY);
    assert.equal(capacity, BigInt(12 << 11), "the size that it has by then");
    await disk.write(8, Buffer.alloc(4096, 2));
    await destination.kill9();
    await startRings(sourceEnd, sourceEnd.basesAfterCrash());
    await disk.write(16, Buffer.alloc(4096, 3));
    assert.equal(source.linesLike(FENCED_OFF).length, 1);

    await destination.restart();
    await using again = await comeBeside(sourceEnd, destination.socketPath, MIGRATING);
    await bringMemory(again, sourceEnd);
    await source.kill9();
    await startRings(again, sourceEnd.basesAfterCrash());
    assert.deepEqual([...new Set(await disk.read(0, 24))], [1, 2, 3]);
    assert.equal(destination.linesLike(FENCED_OFF).length, 1);
  });

  test("with a guest, but not from a source that keeps it, which is named", async () => {
    const image = await rig.makeImage(SIZE_MIB);
    await using both = await TwoProcesses.start(rig.options(image), {}, ["--lock-timeout=0"]);
    const { source, destination, sourceEnd, destinationEnd } = both;
    await startRings(destinationEnd, sourceEnd.basesAfterCrash());
    const refusal = / error .*rings can't start.* is in use by process (\d+), which has not let it go/;
    const line = await destination.waitForLog(refusal, PATIENCE_MS);
    assert.equal(Number(refusal.exec(line)?.[1]), source.pid);
    assert.equal((await sourceEnd.disk().read(0, 8)).length, 4096);
  });

  const upgraded = (image: string) =>
    ({
      ...rig.options(image),
      queues: 2,
      noDiscards: true,
      readDisk: () => rig.cluster.exported(image),
    }) as const;

  test("at upgrades under load", async (t) => {
    const image = await rig.makeImage(SIZE_MIB);
    const before = await blocklist();
    await using run = await UpgradeRun.start(upgraded(image), tellSeed(t));
    await run.under(async () => {
      for (let i = 0; i < UPGRADES; i++) {
        const { pauseMs } = await run.upgraded.upgrade();
        t.diagnostic(`paused for ${pauseMs} ms`);
        await run.progress();
        const isAlone = async () => (await watchers(image)).length === 1;
        await until(isAlone, "the cluster hears of no predecessor any more", 20_000);
      }
    });
    await run.upgraded.stop();
    assert.equal(await blocklist(), before);
    assert.deepEqual(await watchers(image), []);
  });

  test("at an upgrade, and back from a successor that dies when it has the lock", {
    skip: skipWithout(whyNoStrace()),
  }, async (t) => {
    const image = await rig.makeImage(SIZE_MIB);
    const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
    try {
      await using run = await UpgradeRun.start(upgraded(image), tellSeed(t));
      // Its fifth is its word, with which it would go on.
      const inject = "-e trace=sendmsg -e inject=sendmsg:signal=KILL:when=5";
      const binary = join(directory, "mortal");
      const node = `${process.execPath} ${PROGRAM}`;
      writeFileSync(binary, `#!/bin/sh\nexec strace -D -o /dev/null ${inject} ${node} "$@"\n`);
      chmodSync(binary, 0o755);
      await run.under(async () => {
        assert.match(await run.upgraded.refusal(binary), /SIGKILL/);
        await run.progress();
      });
      assert.equal(run.upgraded.daemon.linesLike(FENCED_OFF).length, 1);
      await run.upgraded.stop();
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("to a standby when it is killed under load", async (t) => {
    const image = await rig.makeImage(SIZE_MIB);
    const totals = noTotals();
    const options = {
      packed: true,
      eventIdx: true,
      engine: "io_uring",
      queues: 2,
      depth: 32,
      standby: true,
      args: [`--blk-file=${rig.uri(image)}`],
      env: rig.env(),
      lostAfterMs: PATIENCE_MS,
      noDiscards: true,
      readDisk: () => rig.cluster.exported(image),
    } as const;
    {
      await using run = await KillRun.start(options, tellSeed(t), totals);
      await run.run(STANDBY_KILLS);
      assert.equal(run.daemon.linesLike(FENCED_OFF).length, STANDBY_KILLS);
    }
    t.diagnostic(tellTotals(totals));
    assert.equal(totals.kills, STANDBY_KILLS);
  });
});
