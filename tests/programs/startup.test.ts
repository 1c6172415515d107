// What a start and an idle daemon cost, and what a request does: printed as measured. Bounds are on processor time and calls, which
// other programs on the machine hardly change; what hangs runs into a timeout.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { randomReads } from "../support/random-reads.ts";
import { skipWithout } from "../support/skip.ts";
import { straceTo, whyNoStrace } from "../support/strace.ts";
import { PROGRAM, Vringd } from "../support/vringd.ts";

const ROUNDS = 5;
const READS = 100_000;
const DEPTH = 32;
const BLOCK_SIZE = 4096;
/** Of 10 ms, on all processors: a start takes about 30. */
const START_TICKS_MAX = 200;

describe("the daemon", { timeout: 120_000 }, () => {
  test("accepts a front-end soon after its start", async (t) => {
    const times: number[] = [];
    const ticks: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const start = performance.now();
      await using daemon = await Vringd.start({ readyWhen: "accepting" });
      times.push(performance.now() - start);
      ticks.push(cpuTicks(daemon));
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      await frontEnd.disk().read(0, 8);
    }
    assert.ok(Math.min(...ticks) < START_TICKS_MAX, `${inOrder(ticks)} ticks`);
    t.diagnostic(`start to accept: ${inOrder(times)} ms`);
  });

  test("has data to give soon after its start", async (t) => {
    const times: number[] = [];
    const ticks: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const start = performance.now();
      await using daemon = await Vringd.start({ readyWhen: "accepting" });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      await frontEnd.disk().read(0, 8);
      times.push(performance.now() - start);
      ticks.push(cpuTicks(daemon));
    }
    assert.ok(Math.min(...ticks) < START_TICKS_MAX, `${inOrder(ticks)} ticks`);
    t.diagnostic(`start to the first sector read: ${inOrder(times)} ms`);
  });

  test("prints its capabilities without much ado", (t) => {
    const times = Array.from({ length: ROUNDS }, () => {
      const start = performance.now();
      const text = execFileSync(process.execPath, [PROGRAM, "--print-capabilities"], { encoding: "utf8" });
      assert.equal(JSON.parse(text).type, "block");
      return performance.now() - start;
    });
    t.diagnostic(`--print-capabilities: ${inOrder(times)} ms`);
  });

  test("takes little memory and no time while it is idle", async (t) => {
    await using daemon = await Vringd.start();
    {
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      await frontEnd.disk().read(0, 8);
    }
    await daemon.waitForLog(/front-end left/);
    await sleep(200);
    const ticksBefore = cpuTicks(daemon);
    await sleep(1000);
    const ticks = cpuTicks(daemon) - ticksBefore;
    t.diagnostic(
      `idle: ${(daemon.memoryKiB("VmRSS") / 1024).toFixed(1)} MiB resident, ${ticks} ticks in a second`,
    );
    assert.ok(daemon.memoryKiB("VmRSS") < 150 << 10);
    assert.ok(ticks <= 10);
  });

  for (const engine of ["io_uring", "threads"]) {
    test(`reads at depth ${DEPTH} with ${engine}`, async (t) => {
      await using daemon = await Vringd.start({ args: [`--engine=${engine}`] });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      const { iops, failures } = await randomReads(frontEnd.disk(), READS, DEPTH, BLOCK_SIZE);
      t.diagnostic(`${Math.round(iops / 1000)} k reads of ${BLOCK_SIZE} bytes a second`);
      assert.equal(failures, 0);
    });
  }

  test("makes fewer than one system call a queued request", {
    skip: skipWithout(whyNoStrace()),
  }, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), "vringd-trace-"));
    try {
      const path = join(directory, "counts");
      // Of all threads, the start and the end included: the worker alone makes fewer still.
      await using daemon = await Vringd.start({ args: ["--engine=io_uring"], under: straceTo(path, "-c") });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      const { failures } = await randomReads(frontEnd.disk(), READS, DEPTH, BLOCK_SIZE);
      assert.equal(failures, 0);
      assert.equal(await daemon.stop(), 0);
      const counts = readFileSync(path, "latin1");
      const calls = (name: string) => {
        const line = counts.split("\n").find((line) => line.endsWith(` ${name}`));
        return Number(line?.trim().split(/\s+/)[3]);
      };
      t.diagnostic(
        `${READS} reads: ${calls("total")} system calls, ${calls("io_uring_enter")} io_uring_enter`,
      );
      assert.ok(calls("total") < READS, counts);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

function inOrder(times: readonly number[]): string {
  return [...times]
    .sort((a, b) => a - b)
    .map((time) => time.toFixed(0))
    .join(", ");
}

/** User and system time of all threads: fields 14 and 15 of /proc/PID/stat. */
function cpuTicks(daemon: Vringd): number {
  const fields = daemon
    .proc("stat")
    .replace(/^.*\) /s, "")
    .split(" ");
  return Number(fields[11]) + Number(fields[12]);
}
