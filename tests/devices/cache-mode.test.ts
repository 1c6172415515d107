// Flush and write-through are real: what the driver is told to be stable went through fdatasync or RWF_DSYNC.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import {
  INFLIGHT_DESC_NUM,
  INFLIGHT_REGION_VERSION,
  INFLIGHT_VERSION,
  SPLIT_ENTRIES,
  SPLIT_ENTRY_INFLIGHT,
  SPLIT_ENTRY_SIZE,
} from "../../assembly/spec/inflight.ts";
import {
  BLK_CONFIG_WRITEBACK,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_FLUSH,
} from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { VHOST_USER_CONFIG_F_WRITABLE } from "../../host/protocol/messages.ts";
import { rawSplitRing } from "../support/raw-ring.ts";
import { skipWithout } from "../support/skip.ts";
import { straceTo, traceLines, whyNoStrace } from "../support/strace.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const SECTOR = Buffer.alloc(512, 1);
const FLUSH = 1n << BigInt(VIRTIO_BLK_F_FLUSH);
const CONFIG_WCE = 1n << BigInt(VIRTIO_BLK_F_CONFIG_WCE);

const writeback = async (frontEnd: FrontEnd) => (await frontEnd.readConfig())[BLK_CONFIG_WRITEBACK];
const chooseWriteback = (frontEnd: FrontEnd, value: number) =>
  frontEnd.setConfig({
    offset: BLK_CONFIG_WRITEBACK,
    flags: VHOST_USER_CONFIG_F_WRITABLE,
    bytes: Buffer.of(value),
  });

describe("the writeback field", () => {
  let daemon: Vringd;

  before(async () => {
    daemon = await Vringd.start();
  });
  after(() => daemon[Symbol.asyncDispose]());

  test("starts at 1", async () => {
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    assert.equal(await writeback(frontEnd), 1);
  });

  test("becomes what the driver writes", async () => {
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    assert.equal(await chooseWriteback(frontEnd, 0), 0n);
    assert.equal(await writeback(frontEnd), 0);
    assert.equal(await chooseWriteback(frontEnd, 1), 0n);
    assert.equal(await writeback(frontEnd), 1);
  });

  test("takes no other value", async () => {
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    assert.notEqual(await chooseWriteback(frontEnd, 2), 0n);
    assert.equal(await writeback(frontEnd), 1);
  });

  test("is 1 again for the next front-end", async () => {
    const first = await FrontEnd.connect(daemon.socketPath);
    await chooseWriteback(first, 0);
    first.close();
    await using second = await FrontEnd.connect(daemon.socketPath);
    assert.equal(await writeback(second), 1);
  });
});

/** Whether writes are stable when they complete, for whoever has not told this daemon that they need not be. */
describe("a driver that was there before the daemon", {
  skip: skipWithout(whyNoStrace()),
  timeout: 60_000,
}, () => {
  let directory: string;
  let trace: string;
  let daemon: Vringd;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "vringd-trace-"));
    trace = join(directory, "trace");
    // Appended: one daemon after the other.
    const under = straceTo(trace, "-A", "-e", "trace=pwrite64,pwritev,pwritev2,fdatasync");
    daemon = await Vringd.start({
      under,
      args: ["--engine=threads", "--packed", "--num-queues=2", "--threads=2"],
    });
  });
  after(async () => {
    await daemon?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  async function restart(): Promise<void> {
    await daemon.kill9();
    await daemon.restart();
  }

  /** Whether this write is stable when it completes. */
  async function isStable(frontEnd: FrontEnd, queue = 0): Promise<boolean> {
    const seen = traceLines(trace).length - 1;
    await frontEnd.disk(queue).write(0, SECTOR);
    let writes: string[] = [];
    await until(() => {
      writes = traceLines(trace)
        .slice(seen)
        .filter((line) => /pwrite.*\b512\b/.test(line));
      return writes.length > 0;
    }, "the write is traced");
    return writes.some((line) => line.includes("RWF_DSYNC"));
  }

  // A packed ring that is not tracked can't be taken over from a daemon that was killed.
  for (const [what, packed, inflight] of [
    ["split rings", false, false],
    ["split rings, tracked", false, true],
    ["packed rings, tracked", true, true],
  ] as const) {
    test(`writes through after a crash, until its first FLUSH: ${what}`, async () => {
      await using frontEnd = await FrontEnd.connect(daemon.socketPath, { packed, inflight, queues: 2 });
      await chooseWriteback(frontEnd, 0);
      for (const queue of [0, 1]) assert.ok(await isStable(frontEnd, queue));
      await restart();
      await frontEnd.reconnect(daemon.socketPath);
      for (const queue of [0, 1]) assert.ok(await isStable(frontEnd, queue));
      await frontEnd.disk(1).flush();
      for (const queue of [0, 1]) assert.ok(!(await isStable(frontEnd, queue)));
      // As after memory has been plugged in: a restart within a session brings nothing new.
      await frontEnd.startQueue(0, await frontEnd.stopQueue(0));
      assert.ok(!(await isStable(frontEnd)));
      // The guest may have been restarted, and its new driver have read 0 before the old one's FLUSH came.
      const bases = [await frontEnd.stopQueue(0), await frontEnd.stopQueue(1)];
      for (const [index, base] of bases.entries()) await frontEnd.startQueue(index, base);
      for (const queue of [0, 1]) assert.ok(await isStable(frontEnd, queue));
    });
  }

  test("writes through after a FLUSH that it had sent to the daemon before", async () => {
    await using frontEnd = await FrontEnd.connect(daemon.socketPath, { queues: 0 });
    const { bytes } = await frontEnd.trackInflight(1);
    const queue = frontEnd.makeQueue();
    const flush = frontEnd.disk().flush();
    const head = rawSplitRing(queue).avail[2]!;
    bytes.writeUInt16LE(INFLIGHT_VERSION, INFLIGHT_REGION_VERSION);
    bytes.writeUInt16LE(bytes.length / SPLIT_ENTRY_SIZE - 1, INFLIGHT_DESC_NUM);
    bytes[SPLIT_ENTRIES + head * SPLIT_ENTRY_SIZE + SPLIT_ENTRY_INFLIGHT] = 1;
    await frontEnd.startQueue(0);
    await flush;
    assert.ok(await isStable(frontEnd));
    await frontEnd.disk().flush();
    assert.ok(!(await isStable(frontEnd)));
  });

  test("writes through after a crash, until it says otherwise", async () => {
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    await frontEnd.disk().write(0, SECTOR);
    await restart();
    await frontEnd.reconnect(daemon.socketPath);
    assert.ok(await isStable(frontEnd));
    await chooseWriteback(frontEnd, 1);
    assert.ok(!(await isStable(frontEnd)));
    await chooseWriteback(frontEnd, 0);
    await frontEnd.disk().flush();
    assert.ok(await isStable(frontEnd));
  });

  test("is served write-back without CONFIG_WCE", async () => {
    const first = await FrontEnd.connect(daemon.socketPath);
    const features = first.features & ~CONFIG_WCE;
    first.close();
    await using frontEnd = await FrontEnd.connect(daemon.socketPath, { features });
    await frontEnd.disk().write(0, SECTOR);
    await restart();
    await frontEnd.reconnect(daemon.socketPath);
    assert.ok(!(await isStable(frontEnd)));
  });

  test("is not there where rings begin afresh", async () => {
    for (const packed of [false, true]) {
      await using frontEnd = await FrontEnd.connect(daemon.socketPath, { packed, inflight: true });
      assert.ok(!(await isStable(frontEnd)));
      // Not even where the ring is stopped before it has seen a FLUSH, and goes on.
      await frontEnd.startQueue(0, await frontEnd.stopQueue(0));
      assert.ok(!(await isStable(frontEnd)));
    }
  });
});

describe("the system calls of a request", { skip: skipWithout(whyNoStrace()), timeout: 60_000 }, () => {
  let directory: string;
  let trace: string;
  let daemon: Vringd;
  let seen: number;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "vringd-trace-"));
    trace = join(directory, "trace");
    const calls = "trace=io_uring_enter,pwrite64,pwritev,pwritev2,fdatasync,fsync,fallocate";
    // The threads engine, since io_uring's requests are no system calls of their own.
    daemon = await Vringd.start({ under: straceTo(trace, "-e", calls), args: ["--engine=threads"] });
  });
  after(async () => {
    await daemon?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  let frontEnd: FrontEnd;
  beforeEach(async () => {
    frontEnd = await FrontEnd.connect(daemon.socketPath);
    mark();
  });
  afterEach(() => frontEnd.close());

  /** From here on calls count. */
  function mark(): void {
    seen = traceLines(trace).length - 1;
  }

  function calls(name: RegExp): string[] {
    // A call that another thread interrupts has a second line, which names it as resumed.
    return traceLines(trace)
      .slice(seen)
      .filter((line) => name.test(line) && !line.includes("resumed"));
  }

  test("a write is stable only once it is flushed", async () => {
    await frontEnd.disk().write(0, SECTOR);
    assert.equal(calls(/pwrite/).length, 1);
    assert.equal(calls(/RWF_DSYNC|sync\(/).length, 0);
    await frontEnd.disk().flush();
    assert.equal(calls(/fdatasync\(/).length, 1);
  });

  test("each write is stable after the driver has turned writeback off", async () => {
    await chooseWriteback(frontEnd, 0);
    for (let i = 0; i < 3; i++) await frontEnd.disk().write(i, SECTOR);
    assert.equal(calls(/pwritev2\(.*RWF_DSYNC/).length, 3);
  });

  test("each write is stable, in several buffers too", async () => {
    await chooseWriteback(frontEnd, 0);
    const out = Buffer.alloc(4096, 2);
    await frontEnd.disk().request({ type: 1, sector: 0, out, readableLengths: [16, 1024, 1024, 2048] });
    assert.equal(calls(/pwritev2\(.*RWF_DSYNC/).length, 1);
  });

  test("a discard and zeroes are stable too without writeback", async () => {
    await chooseWriteback(frontEnd, 0);
    await frontEnd.disk().discard([{ sector: 0, sectors: 8 }]);
    assert.equal(calls(/fallocate\(/).length, 1);
    assert.equal(calls(/fdatasync\(/).length, 1);
    await frontEnd.disk().writeZeroes([{ sector: 0, sectors: 8 }]);
    assert.equal(calls(/fdatasync\(/).length, 2);
  });

  test("no write is stable by itself after the driver has turned writeback on again", async () => {
    await chooseWriteback(frontEnd, 0);
    await chooseWriteback(frontEnd, 1);
    await frontEnd.disk().write(0, SECTOR);
    assert.equal(calls(/pwrite/).length, 1);
    assert.equal(calls(/RWF_DSYNC/).length, 0);
  });

  test("each write is stable for a driver that knows neither FLUSH nor CONFIG_WCE", async () => {
    const features = frontEnd.features & ~FLUSH & ~CONFIG_WCE;
    frontEnd.close();
    await using simple = await FrontEnd.connect(daemon.socketPath, { features });
    mark();
    await simple.disk().write(0, SECTOR);
    assert.equal(calls(/pwritev2\(.*RWF_DSYNC/).length, 1);
  });

  test("no write is stable by itself for a driver that knows FLUSH alone", async () => {
    const features = frontEnd.features & ~CONFIG_WCE;
    frontEnd.close();
    await using simple = await FrontEnd.connect(daemon.socketPath, { features });
    mark();
    await simple.disk().write(0, SECTOR);
    assert.equal(calls(/pwrite/).length, 1);
    assert.equal(calls(/RWF_DSYNC/).length, 0);
  });

  test("the mode changes in the midst of a load, and no request fails", async () => {
    const disk = frontEnd.disk();
    let isOver = false;
    const load = Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        while (!isOver) await disk.write(i * 8, SECTOR);
      }),
    );
    for (let i = 1; i <= 20; i++) assert.equal(await chooseWriteback(frontEnd, i % 2), 0n);
    await until(() => calls(/RWF_DSYNC/).length > 0, "a write that is stable");
    isOver = true;
    await load;
  });
});
