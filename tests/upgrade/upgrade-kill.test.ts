// Either process killed at any step of an upgrade: the other goes on, or a new one does what was in flight, once.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { limitTests } from "../support/bounded-test.ts";
import { Random } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";
import { whyNoStrace } from "../support/strace.ts";
import { until } from "../support/until.ts";
import { isAlive, UpgradeRun } from "../support/upgraded.ts";
import { PROGRAM } from "../support/vringd.ts";

/** A process starts for each upgrade, which takes its time on a busy machine. */
limitTests(600_000);

/** What it offers takes three, for the lengths, descriptors, and text; its state as many. */
const SENDS = 6;

/** Those that a process has started and that have not ended. */
function childrenOf(pid: number): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.filter((each) => parentOf(each) === pid && isAlive(Number(each))).map(Number);
}

function parentOf(pid: string): number {
  try {
    return Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]);
  } catch {
    return 0;
  }
}

for (let send = 1; send <= SENDS; send++) {
  test(`the predecessor is killed at its sendmsg(2) ${send} of ${SENDS}`, {
    skip: skipWithout(whyNoStrace()),
  }, async () => {
    await using run = await UpgradeRun.start({ queues: 2, packed: send % 2 === 0 }, new Random());
    const { upgraded } = run;
    const { daemon } = upgraded;
    const inject = ["-e", "trace=sendmsg", "-e", `inject=sendmsg:signal=KILL:when=${send}`];
    await run.under(async () => {
      const strace = spawn("strace", ["-o", "/dev/null", ...inject, "-p", String(daemon.pid)], {
        stdio: ["ignore", "ignore", "pipe"],
      });
      await once(strace.stderr, "data");
      const [answer] = await Promise.allSettled([upgraded.upgrade()]);
      assert.equal(answer?.status, "rejected");
      // All that it had started has ended with it: else its lock would keep the next one away.
      assert.equal(await daemon.end(), "SIGKILL");
      await Promise.all([daemon.restart(), run.reconnect()]);
    });
    assert.equal(await daemon.stop(), 0);
  });
}

test("the predecessor is killed when it has handed over all, and was not told yet", {
  skip: skipWithout(whyNoStrace()),
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  await using run = await UpgradeRun.start({ queues: 2 }, new Random());
  const { upgraded } = run;
  try {
    // It says by its fifth that it takes over, and has nothing begun before.
    const inject = "-e trace=sendmsg -e inject=sendmsg:delay_enter=3s:when=5";
    const binary = join(directory, "slow");
    writeFileSync(
      binary,
      `#!/bin/sh\nexec strace -D -f -o /dev/null ${inject} ${process.execPath} ${PROGRAM} "$@"\n`,
    );
    chmodSync(binary, 0o755);
    await run.under(async () => {
      const [before] = [upgraded.pid];
      const answer = upgraded.upgrade(binary).catch((error: Error) => error);
      // A child that has not begun its program yet has whatever its parent has.
      const parent = commandOf(before);
      const successor = await until(
        () => childrenOf(before).find((pid) => commandOf(pid) !== parent),
        "a successor starts",
        120_000,
      );
      await until(() => hasInflight(successor), "the successor has all", 120_000);
      process.kill(before, "SIGKILL");
      assert.ok((await answer) instanceof Error);
      upgraded.adopt(successor);
      await run.progress();
    });
    assert.equal(upgraded.daemon.linesLike(/front-end left/).length, 0);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("the successor is killed when it has taken over, as any daemon may be", async () => {
  await using run = await UpgradeRun.start({ queues: 2 }, new Random());
  const { upgraded } = run;
  await run.under(async () => {
    await upgraded.upgrade();
    process.kill(upgraded.pid, "SIGKILL");
    await until(() => !upgraded.isAlive, "the successor ends");
    await upgraded.daemon.end();
    await Promise.all([upgraded.daemon.restart(), run.reconnect()]);
    upgraded.adopt(upgraded.daemon.pid);
  });
  await upgraded.stop();
});

function commandOf(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, "latin1");
}

/** Whether it has the last descriptor that a front-end has sent. */
function hasInflight(pid: number): boolean {
  try {
    const names = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
    return names.some((name) => name.startsWith("/memfd:vringd-inflight"));
  } catch {
    return false;
  }
}
