// What a guest, a front-end or a client does without end takes a few lines of the log, which count the rest.
import assert from "node:assert/strict";
import { truncateSync } from "node:fs";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { BLK_CONFIG_WRITEBACK, VIRTIO_BLK_T_IN } from "../../assembly/spec/virtio-blk.ts";
import { AVAIL_IDX } from "../../assembly/spec/virtqueue.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { encodeMessage } from "../../host/protocol/codec.ts";
import { Observed } from "../support/observed.ts";
import { rawSplitRing } from "../support/raw-ring.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const FLOOD = 300;
/** Ten at once and one in ten seconds: a flood may take minutes. */
const LINES_MAX = 40;
const UNKNOWN_REQUEST = 200;
const MIB = 1 << 20;

const config = (value: number) => ({ offset: BLK_CONFIG_WRITEBACK, flags: 0, bytes: Buffer.of(value) });

/** The lines are few, and with those that they say were left out there are `times`. Only once the daemon has ended. */
function areFew(daemon: Vringd, sentence: string, times: number): void {
  const lines = daemon.linesLike(new RegExp(`^\\S+ \\S+ \\w+ +${sentence}(  |$)`));
  assert.ok(lines.length > 0 && lines.length <= LINES_MAX, `${lines.length} lines: ${sentence}`);
  const leftOut = lines.map((line) => Number(/ leftOut=(\d+)/.exec(line)?.[1] ?? 0));
  assert.equal(
    leftOut.reduce((sum, each) => sum + each, lines.length),
    times,
    lines.join("\n"),
  );
}

describe("a flood", { timeout: 300_000 }, () => {
  test("of refused requests, known and unknown", async () => {
    await using daemon = await Vringd.start();
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    for (let i = 0; i < FLOOD; i++) {
      assert.notEqual(await frontEnd.setConfig(config(2)), 0n);
      await frontEnd.raw(UNKNOWN_REQUEST + i);
      assert.notEqual(await frontEnd.setVringNum(0, 1), 0n);
    }
    await frontEnd.disk().read(0, 1);
    frontEnd.close();
    await daemon.stop();
    areFew(daemon, "request refused", 3 * FLOOD);
  });

  test("of front-ends that come and go, and of some that speak no vhost-user", async () => {
    await using daemon = await Vringd.start();
    for (let i = 0; i < FLOOD; i++) {
      await using frontEnd = await FrontEnd.open(daemon.socketPath);
      if (i % 2 === 0) await frontEnd.getFeatures();
      else {
        await frontEnd.connection.send(Buffer.alloc(64, 0xff));
        assert.equal(await frontEnd.receive(), undefined);
      }
      frontEnd.close();
    }
    await using last = await FrontEnd.connect(daemon.socketPath);
    await last.disk().read(0, 1);
    last.close();
    await daemon.stop();
    areFew(daemon, "front-end connected", FLOOD + 1);
    areFew(daemon, "front-end left", FLOOD + 1);
    areFew(daemon, "connection closed", FLOOD / 2);
  });

  test("of rings that are broken and started anew", async () => {
    await using daemon = await Vringd.start({ args: ["--num-queues=1"] });
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    for (let i = 0; i < FLOOD; i++) {
      const queue = frontEnd.queues[0]!;
      rawSplitRing(queue).avail[AVAIL_IDX / 2] = 0x7fff;
      queue.kick(true);
      await until(() => queue.takeError(), "the ring is broken");
      await frontEnd.renewQueue(0);
    }
    frontEnd.close();
    await daemon.stop();
    areFew(daemon, "ring broken", FLOOD);
  });

  test("of cache modes", async () => {
    await using daemon = await Vringd.start();
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    for (let i = 0; i < FLOOD; i++) {
      for (const writeback of [0, 1]) assert.equal(await frontEnd.setConfig(config(writeback)), 0n);
    }
    frontEnd.close();
    await daemon.stop();
    areFew(daemon, "write-through is on", FLOOD);
    areFew(daemon, "write-through is off", FLOOD);
  });

  test("of debug lines, which are many, but not without a bound", async () => {
    await using daemon = await Vringd.start({ args: ["--log-level=debug"] });
    await using frontEnd = await FrontEnd.open(daemon.socketPath);
    const many = 20_000;
    const batch = 200;
    for (let sent = batch; sent <= many; sent += batch) {
      const requests = Array.from({ length: batch - 1 }, () => encodeMessage(3, 0));
      await frontEnd.connection.send(Buffer.concat(requests));
      await frontEnd.getFeatures();
      // The first thousand have lines of their own, and a pipe whose reader is slow holds fewer: none may be lost in it.
      const own = Math.min(sent, 900);
      await until(() => daemon.linesLike(/ debug request /).length >= own, "the lines are read");
    }
    frontEnd.close();
    await daemon.waitForLog(/front-end left/);
    await daemon.stop();
    const lines = daemon.linesLike(/ debug request /);
    const leftOut = lines.map((line) => Number(/ leftOut=(\d+)/.exec(line)?.[1] ?? 0));
    assert.ok(lines.length >= 1000 && lines.length < many, `${lines.length} lines`);
    assert.equal(
      leftOut.reduce((sum, each) => sum + each, lines.length),
      many,
    );
  });

  describe("of a client of the control socket", () => {
    let observed: Observed;
    before(async () => {
      observed = await Observed.start();
    });
    after(() => observed[Symbol.asyncDispose]());

    test("that changes the log's level, asks for nothing that is there, and says no HTTP", async () => {
      const { daemon, controlSocket } = observed;
      for (let i = 0; i < FLOOD; i++) {
        assert.equal((await observed.ask("PUT", "/v1/log-level", '{"level":"info"}')).status, 200);
        assert.equal((await observed.ask("GET", `/v1/${i}`)).status, 404);
        assert.equal((await observed.ask("PUT", "/v1/log-level", "{")).status, 400);
        await new Promise<void>((resolve) => {
          connect(controlSocket)
            .on("error", () => {})
            .on("close", resolve)
            .resume()
            .end("hello\r\n\r\n");
        });
      }
      await daemon.stop();
      areFew(daemon, "log level changed", FLOOD);
      // Beside these there is what each daemon says.
      assert.ok(daemon.log.length < LINES_MAX + 10, daemon.log.join("\n"));
    });
  });

  for (const engine of ["io_uring", "threads"]) {
    test(`of reads that fail, by ${engine}: the first at once, the others by number`, async () => {
      await using daemon = await Vringd.start({ args: [`--engine=${engine}`] });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      truncateSync(daemon.imagePath, MIB);
      const disk = frontEnd.disk();
      const read = (sector: number) => disk.request({ type: VIRTIO_BLK_T_IN, sector, inLength: 512 });
      assert.equal((await read(4096)).status, 1);
      const line = await daemon.waitForLog(/ warn +a read failed /);
      assert.match(line, / errno=EIO {2}sector=4096 .*shorter than the disk.* file=\S+disk\.img$/);
      for (let i = 0; i < 2 * FLOOD; i++) assert.equal((await read(8192 + i)).status, 1);
      frontEnd.close();
      await daemon.stop();
      assert.equal(daemon.linesLike(/a read failed/).length, 1);
      const more = daemon.linesLike(
        /more reads failed .* errno=EIO {2}firstSector=\d+ .* file=\S+disk\.img$/,
      );
      assert.ok(more.length > 0 && more.length < LINES_MAX);
      const counts = more.map((line) => Number(/ count=(\d+)/.exec(line)![1]));
      assert.equal(
        counts.reduce((sum, each) => sum + each),
        2 * FLOOD,
      );
    });

    test(`of requests that ask for what no disk has is no I/O error of ${engine}`, async () => {
      await using daemon = await Vringd.start({ args: [`--engine=${engine}`] });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      for (let i = 0; i < FLOOD; i++) {
        const { status } = await frontEnd
          .disk()
          .request({ type: VIRTIO_BLK_T_IN, sector: 1 << 30, inLength: 512 });
        assert.equal(status, 1);
      }
      frontEnd.close();
      await daemon.stop();
      assert.deepEqual(
        daemon.linesLike(/failed|error|warn/i).filter((line) => !line.includes(" failures=")),
        [],
      );
      assert.match(daemon.linesLike(/front-end left/)[0]!, new RegExp(` failures=${FLOOD} `));
    });
  }
});
