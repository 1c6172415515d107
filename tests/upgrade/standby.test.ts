// A daemon whose standby takes over when it is killed: under load, again and again, and at each time of its life.
import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { type KillOptions, KillRun, type KillTotals, noTotals, tellTotals } from "../support/kill-run.ts";
import { Observed } from "../support/observed.ts";
import { Random, tellSeed } from "../support/random.ts";
import { Manager } from "../support/service-manager.ts";
import { commandLine, StandingBy } from "../support/standing-by.ts";
import { tryToStart } from "../support/start-attempt.ts";
import { toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";
import { isAlive, UpgradedDaemon } from "../support/upgraded.ts";
import { PROGRAM, Vringd, type VringdOptions } from "../support/vringd.ts";

const KILLS = Number(process.env.VRINGD_TEST_STANDBY_KILLS ?? 5);
/** A standby is ready half a second after the one before it has taken over, and a busy machine takes its time. */
const KILL_MS_MAX = 10_000;

const SETUPS = [
  { what: "split rings", packed: false, eventIdx: false, queues: 2, engine: "io_uring" },
  { what: "packed rings", packed: true, eventIdx: true, queues: 2, engine: "io_uring" },
  { what: "packed rings, with threads", packed: true, eventIdx: false, queues: 1, engine: "threads" },
  { what: "an overlay", packed: false, eventIdx: true, queues: 1, engine: "threads", overlay: true },
  {
    what: "a disk past the page cache",
    packed: false,
    eventIdx: true,
    queues: 1,
    engine: "io_uring",
    onDisk: true,
    args: ["--direct"],
  },
] as const;

describe("a standby takes over", { timeout: 60_000 + KILLS * KILL_MS_MAX, concurrency: 2 }, () => {
  for (const { what, ...setup } of SETUPS)
    test(`${what}, and loses and repeats no request`, async (t) => {
      const totals = noTotals();
      await runKills({ ...setup, depth: 64, standby: true }, tellSeed(t), totals);
      t.diagnostic(tellTotals(totals));
      assert.equal(totals.kills, KILLS);
    });
});

/** What it has completed is counted when it has ended. */
async function runKills(options: KillOptions, random: Random, totals: KillTotals): Promise<void> {
  await using run = await KillRun.start(options, random, totals);
  await run.run(KILLS);
}

test("the first completion after a kill comes sooner than from a daemon that is started anew", async (t) => {
  const setup = { packed: true, eventIdx: true, engine: "io_uring", queues: 1, depth: 128 } as const;
  for (const standby of [true, undefined]) {
    await using run = await KillRun.start({ ...setup, ...(standby && { standby }) }, new Random());
    const times: number[] = [];
    for (let i = 0; i < KILLS; i++) times.push(await run.recoveryTime(false));
    const text = times.map((ms) => ms.toFixed(0)).join(", ");
    t.diagnostic(`${standby ? "with a standby" : "started anew"}: after ${text} ms`);
  }
});

async function start({ args = [], ...options }: VringdOptions = {}): Promise<StandingBy> {
  return new StandingBy(await Vringd.start({ ...options, args: ["--standby", ...args] }));
}

describe("a daemon with a standby", { timeout: 120_000 }, () => {
  test("leaves nobody and nothing behind when it is told to end, nor does a successor", async () => {
    for (const kills of [0, 1]) {
      await using standing = await start();
      const standby = await standing.standby();
      assert.match(commandLine(standby), /^vringd-blk \(standby\) .*--standby/);
      for (let i = 0; i < kills; i++) {
        await standing.kill9();
        await standing.standby();
        assert.match(commandLine(standing.pid), /^vringd-blk --/);
      }
      await standing.stop();
      assert.equal(existsSync(standing.daemon.socketPath), false);
      assert.deepEqual(standing.daemon.linesLike(/ error /), []);
    }
  });

  test("has another one when that has ended", async () => {
    await using standing = await start();
    const first = await standing.standby();
    process.kill(first, "SIGKILL");
    await standing.daemon.waitForLog(/ warn +there is no standby +reason="it ended with SIGKILL"/);
    assert.notEqual(await standing.standby(), first);
  });

  test("lets front-ends wait at the same socket, and whoever asks at the same control socket", async () => {
    await using observed = await Observed.start({ args: ["--standby"] });
    await using standing = new StandingBy(observed.daemon);
    const standby = await standing.standby();
    const told = await toolbox(["ctl", observed.controlSocket, "status"]);
    assert.match(told.stdout, new RegExp(`^standby +process ${standby} takes over if this one dies$`, "m"));
    await standing.kill9();
    await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath);
    await frontEnd.disk().write(0, Buffer.alloc(512, 7));
    assert.equal(observed.daemon.imageBytes(0, 1)[0], 7);
    const next = await standing.standby();
    const { pid, standby: state } = await observed.get("/v1/status");
    assert.deepEqual([pid, state], [standing.pid, { pid: next }]);
    const { text } = await observed.ask("GET", "/v1/metrics");
    assert.match(text, /^vringd_blk_standby_ready 1$/m);
  });

  test("is upgraded, and its successor has a standby of its own", async () => {
    await using observed = await Observed.start({ args: ["--standby"] });
    await using standing = new StandingBy(observed.daemon);
    const standby = await standing.standby();
    const { pid } = await UpgradedDaemon.of(observed.daemon, observed.controlSocket).upgrade();
    standing.pid = pid;
    await until(() => !isAlive(standby), "the former standby has ended");
    await standing.standby();
    await standing.kill9();
    await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath);
    await frontEnd.disk().write(0, Buffer.alloc(512, 7));
  });

  test("is upgraded once where that is asked for twice, and no former standby takes that for a death", async () => {
    await using observed = await Observed.start({ args: ["--standby"] });
    await using standing = new StandingBy(observed.daemon);
    const former = await standing.standby();
    const control = UpgradedDaemon.of(observed.daemon, observed.controlSocket);
    // Long enough for another standby to be ready before it has taken over.
    const slow = join(observed.daemon.directory, "slow");
    writeFileSync(slow, `#!/bin/sh\nsleep 3\nexec ${process.execPath} ${PROGRAM} "$@"\n`, { mode: 0o755 });
    const upgrading = control.upgrade(slow);
    await observed.daemon.waitForLog(/a successor starts/);
    assert.match(await control.refusal(), /under way already/);
    standing.pid = (await upgrading).pid;
    assert.equal(observed.daemon.linesLike(/a standby is ready/).length, 1, "there is another one");
    await until(() => !isAlive(former) && !isAlive(observed.daemon.pid), "the former processes have ended");
    const next = await standing.standby();
    assert.deepEqual(standing.processes, [standing.pid, next]);
    assert.deepEqual(observed.daemon.linesLike(/takes over/), []);
  });

  test("says to a service manager which process is the main one", async () => {
    const name = `@vringd-test-standby-${process.pid}`;
    const manager = new Manager(name);
    try {
      await using standing = await start({ env: { NOTIFY_SOCKET: name } });
      await standing.standby();
      await standing.kill9();
      await manager.hears(new RegExp(`^MAINPID=${standing.pid}$`, "m"));
    } finally {
      manager.close();
    }
  });
});

test("a standby is refused where it could not go on", async () => {
  await using other = await Vringd.start({ byteLength: 1 << 20 });
  await other.stop();
  for (const [disk, why] of [
    ["memory:1M", /memory:1M is this process's alone.*: leave out --standby/],
    ["/dev/fd/3", /\/dev\/fd\/3 is open in this process alone.*: leave out --standby/],
    [other.imagePath, /the front-end of --fd is connected already.*: leave out --standby/],
  ] as const) {
    const { status, stderr } = tryToStart([`--blk-file=${disk}`, "--standby"]);
    assert.equal(status, 1);
    assert.match(stderr, why);
  }
});
