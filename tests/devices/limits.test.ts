// Limits of a disk in bytes and requests a second: by options, at run time, and as seen from outside. How exact they are is
// measured by npm run bench -- --grid limits; here only that nothing comes too soon, and that all comes.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { Observed } from "../support/observed.ts";
import { tryToStart } from "../support/start-attempt.ts";
import { toolbox } from "../support/toolbox.ts";

const MIB = 1 << 20;

function limit(observed: Observed, ...args: string[]): Promise<{ status: number; error?: string }> {
  return observed.command("limits", ...args);
}

async function metric(observed: Observed, name: string): Promise<number> {
  const { text } = await observed.ask("GET", "/v1/metrics");
  const values = [...text.matchAll(new RegExp(`^vringd_blk_${name}(?:\\{.*\\})? (\\S+)$`, "gm"))];
  return values.reduce((sum, [, value]) => sum + Number(value), 0);
}

/** How long all of them take, in seconds. */
async function timed(begin: () => Promise<unknown>[]): Promise<number> {
  const start = performance.now();
  await Promise.all(begin());
  return (performance.now() - start) / 1000;
}

function reads(frontEnd: FrontEnd, count: number, sectors = 8, queue = 0): Promise<unknown>[] {
  return Array.from({ length: count }, (_, i) => frontEnd.disk(queue).read(8 * i, sectors));
}

describe("a limit", { timeout: 180_000 }, () => {
  for (const [what, options] of [
    ["with io_uring", { args: ["--engine=io_uring"] }],
    ["with threads", { args: ["--engine=threads"] }],
    ["of a disk in memory", { blkFile: "memory:64M" }],
  ] as const) {
    test(`lets no more requests through than it says, of all queues together: ${what}`, async () => {
      const args = ["--iops-total=100", ...("args" in options ? options.args : [])];
      await using observed = await Observed.start({ ...options, args });
      await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath, { queues: 2, packed: false });
      const seconds = await timed(() => [...reads(frontEnd, 30), ...reads(frontEnd, 31, 8, 1)]);
      // A tenth of a second's come at once, and one more of each worker's may.
      assert.ok(seconds >= 0.47, `61 reads took ${seconds} s`);
      assert.ok((await metric(observed, "limit_wait_seconds_total")) > 0);
      assert.equal(await metric(observed, "iops_total_limit"), 100);
      assert.deepEqual((await observed.get("/v1/status")).limits, { "iops-total": 100 });
    });
  }

  test("of bytes has a large request paid off", async () => {
    await using observed = await Observed.start({ args: ["--bps-write=4194304"] });
    await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath);
    const disk = frontEnd.disk();
    const large = Buffer.alloc(2 * MIB);
    const seconds = await timed(() => [disk.write(0, large), disk.write(0, large), disk.flush()]);
    assert.ok(seconds >= 0.39, `4 MiB took ${seconds} s`);
    assert.ok((await timed(() => reads(frontEnd, 10, 256))) < 10, "reads are not written");
  });

  test("is changed while requests wait, and taken away", async () => {
    await using observed = await Observed.start({ args: ["--iops-read=1"] });
    await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath);
    const waiting = reads(frontEnd, 40);
    assert.equal((await limit(observed, "iops-read=200", "iops-write=10")).status, 200);
    await Promise.all(waiting);
    const more = reads(frontEnd, 40);
    const { stdout, status } = await toolbox(["ctl", observed.controlSocket, "limits", "iops-read=0"]);
    assert.deepEqual([status, stdout], [0, "iops-write  10\n"]);
    await Promise.all(more);
    assert.equal((await limit(observed, "iops-write=0")).status, 200);
    assert.equal((await observed.get("/v1/status")).limits, undefined);
  });

  test("holds up no stop of a ring, no suspension, and no end", async () => {
    await using observed = await Observed.start({ args: ["--iops-total=1", "--packed"] });
    for (const packed of [false, true]) {
      await using frontEnd = await FrontEnd.connect(observed.daemon.socketPath, { packed, inflight: true });
      await frontEnd.disk().read(0, 8);
      void Promise.allSettled(reads(frontEnd, 20));
      const base = await frontEnd.stopQueue(0);
      await frontEnd.startQueue(0, base);
      await frontEnd.stopQueue(0);
    }
    assert.equal(await observed.daemon.stop(), 0);
  });

  test("loses and repeats nothing where its daemon is killed", async () => {
    await using observed = await Observed.start({ args: ["--iops-total=50"] });
    const { daemon } = observed;
    await using frontEnd = await FrontEnd.connect(daemon.socketPath, { inflight: true });
    const disk = frontEnd.disk();
    disk.requestTimeoutMs = 60_000;
    const writes = Array.from({ length: 40 }, (_, i) => disk.write(i, Buffer.alloc(512, i + 1)));
    await writes[5];
    await daemon.kill9();
    await daemon.restart();
    await frontEnd.reconnect(daemon.socketPath);
    await Promise.all(writes);
    for (let i = 0; i < 40; i++) assert.equal(daemon.imageBytes(i, 1)[0], i + 1);
  });

  test("has QEMU's rules", async () => {
    await using observed = await Observed.start();
    const refused: [string[], RegExp][] = [
      [["iops-total=5", "iops-read=5"], /iops-total and iops-read exclude each other/],
      [["bps-total=5", "bps-write=5"], /bps-total and bps-write exclude each other/],
      [["iops-total-max=5"], /iops-total-max needs iops-total/],
      [["bps-read=5", "bps-read-max=4"], /bps-read-max is below bps-read/],
      [["iops-total=5", "iops-total-max-length=3"], /iops-total-max-length needs iops-total-max/],
      [["iops-size=4096"], /iops-size .*needs a limit/],
      [["iops=5"], /there is no limit "iops"; they are bps-total/],
      [["iops-total"], /iops-total takes a whole number/],
      [["iops-total=-1"], /iops-total takes a whole number/],
      [["iops-total=1e3"], /iops-total takes a whole number/],
      [["iops-total=9999999999999999"], /iops-total takes a whole number/],
      [["__proto__=1"], /there is no limit/],
    ];
    for (const [args, sentence] of refused) {
      const { status, error } = await limit(observed, ...args);
      assert.equal(status, 400, args.join(" "));
      assert.match(error!, sentence);
    }
    assert.equal((await observed.get("/v1/status")).limits, undefined, "all or nothing");
    const { status } = await limit(
      observed,
      "iops-total=5",
      "iops-total-max=9",
      "iops-total-max-length=3",
      "iops-size=512",
    );
    assert.equal(status, 200);
    assert.equal((await limit(observed, "iops-total=0", "iops-size=0")).status, 200);
    const { stderr } = tryToStart([`--blk-file=${observed.daemon.imagePath}`, "--iops-read-max=5"]);
    assert.match(stderr, /^vringd-blk: --iops-read-max needs --iops-read, to which a burst comes down\n/);
  });
});
