// A daemon of several disks that is upgraded: its successor has the disks that are there by then, whatever the file says.
import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { limitTests } from "../support/bounded-test.ts";
import { DescriptorKeeper } from "../support/descriptor-keeper.ts";
import { type DiskSpec, ManyDisks } from "../support/many-disks.ts";
import { ask } from "../support/observed.ts";
import { until } from "../support/until.ts";
import { UpgradedDaemon } from "../support/upgraded.ts";
import type { Vringd } from "../support/vringd.ts";

/** A process starts for each upgrade, which takes its time on a busy machine. */
limitTests(600_000);

const SECTOR = 512;
/** Longer than a standby takes to start. */
const LATE_MS = 1500;

function childrenOf(daemon: Vringd): number[] {
  return daemon.proc(`task/${daemon.pid}/children`).split(" ").filter(Boolean).map(Number);
}

/** The process that takes over, once it has opened the disks that are there. */
function standbyOf(disks: ManyDisks): Promise<number> {
  return until(async () => {
    const { standby } = JSON.parse((await ask(disks.controlOf("web"), "GET", "/v1/status")).text);
    return standby.pid ?? undefined;
  }, "a standby is ready");
}

describe("a daemon of several disks", () => {
  test("is upgraded while both are served, and their front-ends notice nothing", async () => {
    await using disks = await ManyDisks.start(["web", "db"]);
    await using upgraded = UpgradedDaemon.of(disks.daemon, disks.control);
    await using web = await disks.connect("web", { inflight: true });
    await using db = await disks.connect("db");
    await web.disk().write(0, Buffer.alloc(SECTOR, 1));
    await db.disk().write(0, Buffer.alloc(SECTOR, 2));
    for (let i = 0; i < 2; i++) {
      const before = upgraded.pid;
      await upgraded.upgrade();
      assert.notEqual(upgraded.pid, before);
      assert.equal((await web.disk().read(0, 1))[0], 1);
      assert.equal((await db.disk().read(0, 1))[0], 2);
      assert.deepEqual(
        (await disks.list()).map(({ name, state }) => [name, state]),
        [
          ["web", "connected"],
          ["db", "connected"],
        ],
      );
    }
    assert.equal(disks.daemon.linesLike(/front-end connected/).length, 2);
    await upgraded.stop();
  });

  test("hands over what was added and not what was removed, also where its file is gone", async () => {
    await using disks = await ManyDisks.start(["first", "second"], { args: ["--iops-total=100000"] });
    await using upgraded = UpgradedDaemon.of(disks.daemon, disks.control);
    await using second = await disks.connect("second");
    assert.equal((await disks.remove("first")).status, 200);
    assert.equal((await disks.add(disks.disk("third", { "read-only": true }))).status, 201);
    await using third = await disks.connect("third");
    rmSync(disks.configPath);
    await upgraded.upgrade();
    await second.disk().write(0, Buffer.alloc(SECTOR, 3));
    await third.disk().read(0, 1);
    assert.deepEqual(
      (await disks.list()).map(({ name }) => name),
      ["second", "third"],
    );

    // What comes and goes now is the successor's, down to sockets that its predecessor has had.
    await disks.remove("third", "?force=true");
    assert.equal((await disks.add(disks.disk("third"))).status, 201);
    assert.equal((await disks.add(disks.disk("first"))).status, 201);
    await using again = await disks.connect("first");
    await upgraded.upgrade();
    await again.disk().read(0, 1);
    assert.deepEqual(
      (await disks.list()).map(({ name }) => name),
      ["second", "third", "first"],
    );
    await upgraded.stop();
  });

  test("is not upgraded where one disk can't be, and all are served on", async () => {
    await using disks = await ManyDisks.start(["web"]);
    await using upgraded = UpgradedDaemon.of(disks.daemon, disks.control);
    await using web = await disks.connect("web");
    assert.equal((await disks.add(disks.disk("ram", { "blk-file": "memory:1M" }))).status, 201);
    assert.match(await upgraded.refusal(), /memory:1M/);
    await web.disk().read(0, 1);
    assert.equal((await disks.remove("ram")).status, 200);
    await upgraded.upgrade();
    await web.disk().read(0, 1);
    await upgraded.stop();
  });

  test("has one standby, however many disks come and go at a time", async () => {
    await using disks = await ManyDisks.start(["web"], { args: ["--standby"] });
    const { daemon } = disks;
    const first = await standbyOf(disks);
    const more = ["a", "b", "c"].map((name) => disks.disk(name));
    const replies = await Promise.all(more.map((disk) => disks.add(disk)));
    assert.deepEqual(
      replies.map(({ status }) => status),
      [201, 201, 201],
    );
    await Promise.all([disks.remove("a"), disks.remove("b")]);
    const last = await standbyOf(disks);
    assert.notEqual(last, first);
    // One that nobody has told to end would be ready by then, too.
    await sleep(LATE_MS);
    assert.deepEqual(childrenOf(daemon), [await standbyOf(disks)]);
    assert.equal(await daemon.stop(), 0);
  });

  test("has a standby, which takes over the disks that are there by then", async () => {
    await using disks = await ManyDisks.start(["web"], { args: ["--standby"] });
    await using upgraded = UpgradedDaemon.of(disks.daemon, disks.control);
    assert.equal((await disks.add(disks.disk("db"))).status, 201);
    await standbyOf(disks);
    await using db = await disks.connect("db", { inflight: true });
    await db.disk().write(0, Buffer.alloc(SECTOR, 5));
    writeFileSync(disks.configPath, "{");
    process.kill(upgraded.pid, "SIGKILL");
    await until(async () => (await disks.list().catch(() => [])).length === 2, "the standby serves");
    const { pid } = JSON.parse((await disks.ask("GET", "/v1/process")).text);
    upgraded.adopt(pid);
    await db.reconnect(disks.socketOf("db"));
    assert.equal((await db.disk().read(0, 1))[0], 5);
    await using web = await disks.connect("web");
    await web.disk().read(0, 1);
  });
});

test("a daemon of several disks is killed: connections outlive it by the names of disks, whatever their order", async () => {
  const keeper = new DescriptorKeeper();
  try {
    await using disks = await ManyDisks.start(["web", "db"], { handedDown: () => keeper.handedDown() });
    await using web = await disks.connect("web", { inflight: true });
    await using db = await disks.connect("db", { inflight: true });
    await web.disk().write(0, Buffer.alloc(SECTOR, 1));
    await db.disk().write(0, Buffer.alloc(SECTOR, 2));
    await restartWith(disks, keeper, ["db", "web"]);
    assert.equal((await web.disk().read(0, 1))[0], 1);
    assert.equal((await db.disk().read(0, 1))[0], 2);

    await restartWith(disks, keeper, ["db"]);
    await db.disk().read(0, 1);
    await disks.daemon.waitForLog(/its device is served no more/);
    assert.deepEqual(statesOf(keeper), ["vringd.db.1.state"]);
    assert.equal(await disks.daemon.stop(), 0);
  } finally {
    keeper.close();
  }
});

async function restartWith(
  disks: ManyDisks,
  keeper: DescriptorKeeper,
  names: readonly string[],
): Promise<void> {
  await until(() => statesOf(keeper).every((name) => keeper.isGood(name)), "all states are whole");
  await disks.daemon.kill9();
  const { disks: before } = JSON.parse(readFileSync(disks.configPath, "utf8"));
  const after = names.map((name) => before.find((disk: DiskSpec) => disk.name === name));
  writeFileSync(disks.configPath, JSON.stringify({ disks: after }));
  await disks.daemon.restart();
}

function statesOf(keeper: DescriptorKeeper): string[] {
  return keeper.names.filter((name) => name.endsWith(".state"));
}
