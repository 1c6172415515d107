// What goes over to a successor beside requests: settings, counts, sockets, who is connected; and how either process ends.
import assert from "node:assert/strict";
import { closeSync, existsSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { BLK_CONFIG_WRITEBACK } from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import type { Stats } from "../../host/observability/stats.ts";
import type { Status } from "../../host/observability/status.ts";
import { isImageHeld } from "../../host/storage/file/lock.ts";
import { limitTests } from "../support/bounded-test.ts";
import { bringMemory, comeBeside, MOVING, startRings, stopRings } from "../support/moving-guest.ts";
import { ask } from "../support/observed.ts";
import { Random, tellSeed } from "../support/random.ts";
import { Manager } from "../support/service-manager.ts";
import { until } from "../support/until.ts";
import { UpgradedDaemon, UpgradeRun } from "../support/upgraded.ts";

/** A process starts for each upgrade, which takes its time on a busy machine. */
limitTests(600_000);

test("settings that were changed, and counts, go over; and so do they to the next one", async () => {
  await using run = await UpgradeRun.start({ queues: 1, args: ["--iops-total=100000"] }, new Random());
  const { upgraded, frontEnd } = run;
  const off = { offset: BLK_CONFIG_WRITEBACK, flags: 0, bytes: Buffer.of(0) };
  const counts = async () => (await upgraded.ask<Stats>("GET", "/v1/stats")).queues[0]!;
  await run.under(async () => {
    assert.equal(await frontEnd.setConfig(off), 0n);
    await upgraded.ask("POST", "/v1/commands", { command: "limits", arguments: ["iops-total=5000"] });
    await upgraded.ask("PUT", "/v1/log-level", { level: "debug" });
    await upgraded.ask("POST", "/v1/commands", { command: "resize", arguments: [] });
    for (let i = 0; i < 2; i++) {
      const before = await counts();
      await upgraded.upgrade();
      const status = await upgraded.ask<Status>("GET", "/v1/status");
      assert.equal(status.pid, upgraded.pid);
      assert.equal(status.logLevel, "debug");
      assert.equal((status as unknown as { limits: Record<string, number> }).limits["iops-total"], 5000);
      assert.equal((await frontEnd.getConfig(BLK_CONFIG_WRITEBACK, 1))![0], 0);
      const after = await counts();
      assert.ok(after.kicks >= before.kicks, "kicks are counted on");
      const isMore = Object.entries(before.operations).every(
        ([name, { requests }]) => after.operations[name]!.requests >= requests,
      );
      assert.ok(isMore, "requests are counted on");
      await run.progress();
    }
  });
  await upgraded.stop();
  assert.equal(existsSync(upgraded.controlSocket), false);
  assert.equal(existsSync(upgraded.daemon.socketPath), false);
});

test("the lock of the image is held by somebody at every moment", async () => {
  await using run = await UpgradeRun.start({}, new Random());
  const fd = openSync(run.upgraded.daemon.imagePath, "r");
  try {
    let isOver = false;
    let looks = 0;
    const looking = (async () => {
      for (; !isOver; looks++) {
        assert.ok(isImageHeld(fd, false), "nobody has the lock");
        await nextTurn();
      }
    })();
    await run.under(async () => {
      await run.upgraded.upgrade();
      await run.upgraded.upgrade();
    });
    isOver = true;
    await looking;
    assert.ok(looks > 0);
  } finally {
    closeSync(fd);
  }
});

test("a daemon without a front-end is upgraded, and serves whoever comes then", async () => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  const metrics = join(directory, "metrics");
  try {
    await using upgraded = await UpgradedDaemon.start({ args: ["--once", `--metrics=unix:${metrics}`] });
    await upgraded.upgrade();
    // The successor answers there once it has taken over all else.
    await until(
      () =>
        ask(metrics, "GET", "/metrics").then(
          ({ status }) => status === 200,
          () => false,
        ),
      "the successor answers",
      120_000,
    );
    const frontEnd = await FrontEnd.connect(upgraded.daemon.socketPath);
    await frontEnd.disk().read(0, 8);
    await upgraded.upgrade();
    await frontEnd.disk().read(0, 8);
    // It was told to end with its front-end.
    frontEnd.close();
    await until(() => !upgraded.isAlive, "the successor ends");
    assert.equal(await upgraded.daemon.end(), 0);
    assert.equal(existsSync(upgraded.daemon.socketPath), false);
    assert.equal(existsSync(metrics), false);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("of two front-ends one goes on, and the other takes its place when the guest moves", async () => {
  await using upgraded = await UpgradedDaemon.start({ args: ["--num-queues=4"] });
  const { socketPath } = upgraded.daemon;
  await using source = await FrontEnd.connect(socketPath, MOVING);
  await using destination = await comeBeside(source, socketPath);
  await upgraded.upgrade();
  assert.equal((await upgraded.ask<Status>("GET", "/v1/status")).frontEnds.length, 2);
  await source.disk().read(0, 8);
  const bases = await stopRings(source);
  await bringMemory(destination, source);
  await startRings(destination, bases);
  await destination.disk().read(0, 8);
  await upgraded.upgrade();
  await destination.disk().read(0, 8);
});

test("a successor that is told to end before it has begun to serve ends its front-ends", async (t) => {
  for (let i = 0; i < 3; i++) {
    await using run = await UpgradeRun.start({}, tellSeed(t));
    const { upgraded } = run;
    await upgraded.upgrade();
    await upgraded.stop();
    const { daemon } = upgraded;
    assert.deepEqual(daemon.linesLike(/ error /), []);
    assert.equal(daemon.linesLike(/front-end left/).length, 1);
  }
});

test("a service manager is told which process is the main one, and that it is ready", async () => {
  const name = `@vringd-test-upgrade-${process.pid}`;
  const manager = new Manager(name);
  try {
    await using upgraded = await UpgradedDaemon.start({ under: ["env", `NOTIFY_SOCKET=${name}`] });
    await manager.hears(/^READY=1$/m);
    const { pid } = await upgraded.upgrade();
    await manager.hears(new RegExp(`^MAINPID=${pid}$`, "m"));
    const readies = () => manager.all().filter((text) => /^READY=1$/m.test(text)).length;
    await until(() => readies() === 2, "the successor is ready");
    const order = manager.all().findIndex((text) => text.startsWith("MAINPID="));
    assert.ok(order < manager.all().findLastIndex((text) => /^READY=1$/m.test(text)));
    await upgraded.stop();
    await manager.hears(/^STOPPING=1$/m);
  } finally {
    manager.close();
  }
});
