// `vringd bench`: what it does to a disk, what it refuses, how it ends, and what it shows.
import assert from "node:assert/strict";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { openConnection } from "../../host/front-end/requests.ts";
import { textWidth } from "../../host/toolbox/terminal.ts";
import { BackendFiles } from "../support/backend-files.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { StorageDaemon } from "../support/storage-daemon.ts";
import { onTerminal, type Run, startToolbox, toolbox } from "../support/toolbox.ts";
import { Vringd } from "../support/vringd.ts";

const MIB = 1 << 20;
const IMAGE_SIZE = 16 * MIB;
const USAGE = 2;

const files = new BackendFiles();
after(() => files[Symbol.dispose]());

/** One second is the least, and enough. */
function load(socketPath: string, ...args: string[]): string[] {
  return ["bench", socketPath, "--seconds=1", "--timeout=60", ...args];
}

interface Figures {
  requests: number;
  iops: number;
  bytesPerSecond: number;
  latencyNs: Record<string, number>;
}

interface Report {
  load: Record<string, unknown>;
  seconds: number;
  ending: string;
  failures: number;
  abandoned: number;
  all: Figures;
  reads: Figures | null;
  writes: Figures | null;
  histogram: { fromNs: number; toNs: number; count: number }[];
}

async function measure(socketPath: string, ...args: string[]): Promise<Report> {
  const { status, stdout, stderr } = await toolbox(load(socketPath, "--json", ...args));
  assert.equal(stderr, "");
  assert.equal(status, 0);
  return JSON.parse(stdout);
}

async function assertRefused(args: string[], sentence: RegExp, status: number): Promise<void> {
  const outcome = await toolbox(args);
  assert.match(outcome.stderr, /^vringd: [^\n]*\n$/);
  assert.match(outcome.stderr, sentence);
  assert.equal(outcome.stdout, "");
  assert.equal(outcome.status, status);
}

describe("bench", { timeout: 300_000 }, () => {
  let daemon: Vringd;
  const image = Buffer.alloc(IMAGE_SIZE, "was here before");

  before(async () => {
    daemon = await Vringd.start({ byteLength: IMAGE_SIZE, args: ["--num-queues=4", "--packed"] });
  });
  after(() => daemon[Symbol.asyncDispose]());

  test("reads at random, counts each request once, and leaves the data alone", async () => {
    writeFileSync(daemon.imagePath, image);
    const report = await measure(daemon.socketPath, "--iodepth=4");
    const { all, reads, writes, histogram, seconds } = report;
    assert.ok(all.requests > 0);
    assert.deepEqual(reads, all);
    assert.equal(writes, null);
    assert.deepEqual(
      { ending: report.ending, failures: report.failures, abandoned: report.abandoned },
      { ending: "time", failures: 0, abandoned: 0 },
    );
    assert.equal(
      histogram.reduce((sum, { count }) => sum + count, 0),
      all.requests,
    );
    assert.ok(Math.abs(all.iops * seconds - all.requests) < 1);
    assert.ok(Math.abs(all.bytesPerSecond - all.iops * 4096) < 1);
    const { p50, p90, p99, max } = all.latencyNs;
    assert.ok(p50! > 0 && p50! <= p90! && p90! <= p99! && p99! <= max!);
    assert.deepEqual(report.load, {
      rw: "randread",
      readPercent: 100,
      blockBytes: 4096,
      ioDepth: 4,
      queues: 1,
      ring: "split",
      offsetBytes: 0,
      byteLength: IMAGE_SIZE,
      seed: 1,
    });
    assert.ok(readFileSync(daemon.imagePath).equals(image));
  });

  test("reads in order to the end of the disk and over again", async () => {
    const { all, failures } = await measure(daemon.socketPath, "--rw=read", "--bs=1M", "--iodepth=2");
    assert.ok(all.requests > 0);
    assert.equal(failures, 0);
  });

  test("sleeps, uses packed rings and several queues as it is told", async () => {
    const { all, load: told } = await measure(daemon.socketPath, "--sleep", "--packed", "--queues=4");
    assert.ok(all.requests > 0);
    assert.equal(told.ring, "packed");
    assert.equal(told.queues, 4);
  });

  test("writes what it is told to, within its range and nowhere else", async () => {
    writeFileSync(daemon.imagePath, image);
    const [offset, size, block] = [MIB, 2 * MIB, 65536];
    const range = [`--offset=${offset}`, "--size=2M", "--bs=64k"];
    const { writes, reads } = await measure(daemon.socketPath, "--rw=write", "--write", ...range);
    assert.ok(writes!.requests >= size / block, "the whole range");
    assert.equal(reads, null);
    const now = readFileSync(daemon.imagePath);
    assert.equal(now.length, IMAGE_SIZE);
    assert.ok(now.subarray(0, offset).equals(image.subarray(0, offset)));
    assert.ok(now.subarray(offset + size).equals(image.subarray(offset + size)));
    for (let at = offset; at < offset + size; at += block) {
      assert.ok(!now.subarray(at, at + block).equals(image.subarray(at, at + block)), `block at ${at}`);
    }
  });

  test("mixes reads and writes, and tells them apart", async () => {
    const { reads, writes, all } = await measure(daemon.socketPath, "--rw=randrw", "--rwmix=70", "--write");
    assert.equal(reads!.requests + writes!.requests, all.requests);
    const percent = (reads!.requests * 100) / all.requests;
    assert.ok(percent > 60 && percent < 80, `${percent} % reads of ${all.requests}`);
  });

  test("writes the same for the same seed", async () => {
    const contents = [];
    for (const seed of [7, 7, 8]) {
      const args = ["--rw=write", "--write", "--size=1M", "--bs=1M", "--iodepth=1", `--seed=${seed}`];
      await measure(daemon.socketPath, ...args);
      contents.push(readFileSync(daemon.imagePath).subarray(0, MIB));
    }
    assert.ok(contents[0]!.equals(contents[1]!));
    assert.ok(!contents[0]!.equals(contents[2]!));
  });

  const refused: [what: string, args: string[], sentence: RegExp, status: number][] = [
    [
      "to write without --write",
      ["--rw=randwrite"],
      /--rw=randwrite destroys data .* give --write too/,
      USAGE,
    ],
    ["a mixed load without --write", ["--rw=rw"], /destroys data/, USAGE],
    ["a block size that is no multiple of a sector", ["--bs=1000"], /multiple of 512 bytes up to 1M/, USAGE],
    ["requests that are too large", ["--bs=2M"], /multiple of 512 bytes up to 1M, not 2097152/, USAGE],
    ["too many requests in flight", ["--queues=4", "--iodepth=200"], /at most 512 requests/, USAGE],
    [
      "sizes that are none",
      ["--size=big"],
      /--size takes bytes, such as 4096, 4k, 1M or 10G, not "big"/,
      USAGE,
    ],
    ["unknown patterns", ["--rw=trim"], /--rw takes one of read, write, .*, not "trim"/, USAGE],
    ["an unaligned offset", ["--offset=1k"], /--offset takes a multiple of --bs/, USAGE],
    ["what lies behind the end", ["--offset=15M", "--size=2M"], /has 16777216 bytes \(16 MiB\), too few/, 1],
    ["more queues than there are", ["--queues=5"], /has 4 queues, not 5/, 1],
  ];
  for (const [what, args, sentence, status] of refused) {
    test(`refuses ${what}`, () => assertRefused(load(daemon.socketPath, ...args), sentence, status));
  }

  for (const columns of [80, 200]) {
    test(`fits a terminal of ${columns} columns, and uses it`, async () => {
      const { stdout, status } = await onTerminal(columns, load(daemon.socketPath, "--rw=randrw", "--write"));
      const erase = "\r\u001b[K";
      const shown = stdout.split(erase);
      assert.ok(
        shown.some((line) => /^\d\.\d of 1 s .* IOPS .*\/s .*p50 .*p99 /.test(line)),
        "a live line",
      );
      const lines = shown.at(-1)!.trimEnd().split("\r\n");
      for (const line of [...lines, ...shown.slice(0, -1)]) assert.ok(textWidth(line) <= columns, line);
      assert.match(lines.join("\n"), /^ +REQUESTS +IOPS +RATE +P50 +P90 +P99 +P99\.9 +MAX$/m);
      const longest = Math.max(...lines.map((line) => /█*/.exec(line.slice(20))![0].length));
      assert.ok(longest > columns / 2 - 5 && longest < columns - 30, `${longest} of ${columns}`);
      assert.ok(!stdout.replaceAll(erase, "").includes("\u001b"), "NO_COLOR");
      assert.equal(status, 0);
    });
  }

  test("has colour on a terminal, and neither colour nor a live line elsewhere", async () => {
    const coloured = await onTerminal(80, load(daemon.socketPath), {});
    assert.ok(coloured.stdout.includes("\u001b[36m"));
    const piped = await toolbox(load(daemon.socketPath));
    assert.ok(!(piped.stdout + piped.stderr).includes("\u001b"));
    assert.equal(piped.stderr, "");
    assert.match(
      piped.stdout,
      /^randread, 4 KiB each, 32 in flight in one queue \(split\)\nover 16 MiB, for 1\.\d s\n/,
    );
    assert.match(piped.stdout, /100\.00 %\n$/);
  });
});

test("bench refuses to write to a read-only disk, and packed rings that are not offered", async () => {
  await using daemon = await Vringd.start({ args: ["--read-only"] });
  await assertRefused(load(daemon.socketPath, "--rw=write", "--write"), /the disk is read-only/, 1);
  await assertRefused(load(daemon.socketPath, "--packed"), /offers no packed rings: leave out --packed/, 1);
  assert.ok((await measure(daemon.socketPath)).all.requests > 0);
});

test("bench keeps to the disk's block size", async () => {
  await using daemon = await Vringd.start({ args: ["--block-size=4096"] });
  await assertRefused(load(daemon.socketPath, "--bs=512"), /the disk's blocks have 4096 bytes/, 1);
});

test("bench counts requests that fail, and says so with status 1", async () => {
  await using daemon = await Vringd.start({ byteLength: IMAGE_SIZE });
  // The disk goes on as long as it was.
  truncateSync(daemon.imagePath, IMAGE_SIZE / 2);
  const { status, stdout, stderr } = await toolbox(load(daemon.socketPath, "--json"));
  const { failures, all }: Report = JSON.parse(stdout);
  assert.ok(failures > 0 && failures < all.requests);
  assert.match(stderr, new RegExp(`^vringd: ${failures} of \\d+ requests failed\\n$`));
  assert.equal(status, 1);
});

/** A load that goes on for long, and a daemon whose log tells when it has begun. */
async function startLongLoad(daemon: Vringd): Promise<Run> {
  const run = startToolbox(["bench", daemon.socketPath, "--seconds=600", "--timeout=60", "--json"]);
  await daemon.waitForLog(/ring started/, 60_000);
  await sleep(1500);
  return run;
}

const TELLING = { args: ["--log-level=debug"] };

for (const [signal, expected] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const) {
  test(`bench ends at ${signal} with what was measured so far, and leaves cleanly`, {
    timeout: 120_000,
  }, async () => {
    await using daemon = await Vringd.start(TELLING);
    const run = await startLongLoad(daemon);
    run.child.kill(signal);
    const { status, stdout } = await run.done;
    assert.equal(status, expected);
    const report: Report = JSON.parse(stdout);
    assert.equal(report.ending, signal);
    assert.equal(report.abandoned, 0);
    assert.ok(report.seconds < 600 && report.all.requests > 0);
    assert.equal(daemon.linesLike(/ring stopped/).length, 1);
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    assert.equal((await frontEnd.disk().read(0, 1)).length, 512);
  });
}

test("bench tells what it has measured when the back-end dies", { timeout: 120_000 }, async () => {
  await using daemon = await Vringd.start(TELLING);
  const run = await startLongLoad(daemon);
  await daemon.kill9();
  const { status, stdout, stderr } = await run.done;
  assert.match(stderr, /^vringd: the back-end at .* went away\n$/);
  assert.equal(status, 1);
  const report: Report = JSON.parse(stdout);
  assert.equal(report.ending, "gone");
  assert.ok(report.all.requests > 0);
});

const skip = skipWithout(whyNoProgram("qemu-storage-daemon"));

test("bench measures qemu-storage-daemon, too", { skip, timeout: 120_000 }, async () => {
  const image = files.write("qsd.img", Buffer.alloc(IMAGE_SIZE, "before"));
  const socketPath = files.path("qsd.sock");
  await using _daemon = StorageDaemon.start({ image, socketPath });
  (await openConnection(socketPath)).close();
  const reading = await measure(socketPath, "--queues=2");
  assert.ok(reading.all.requests > 0);
  assert.ok(readFileSync(image).equals(Buffer.alloc(IMAGE_SIZE, "before")));
  const writing = await measure(socketPath, "--rw=write", "--write", "--size=1M", "--bs=128k", "--sleep");
  assert.ok(writing.writes!.requests >= 8);
  const now = readFileSync(image);
  assert.ok(now.subarray(MIB).equals(Buffer.alloc(IMAGE_SIZE, "before").subarray(MIB)));
  assert.ok(!now.subarray(0, MIB).equals(Buffer.alloc(MIB, "before")));
});

test("bench says that nobody is there as probe does", async () => {
  await assertRefused(load(files.path("none.sock")), /there is no socket at /, 1);
});
