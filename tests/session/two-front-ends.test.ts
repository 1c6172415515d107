// Two front-ends at a time: one is served, and the other may say all that it has to say, and wait for the rings of the first.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { BLK_CONFIG_WRITEBACK } from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd, Refused } from "../../host/front-end/front-end.ts";
import { Memory } from "../../host/front-end/memory.ts";
import { Disconnected } from "../../host/front-end/requests.ts";
import { encodeMessage } from "../../host/protocol/codec.ts";
import * as m from "../../host/protocol/messages.ts";
import { allHaveLeft, footprint, settledFds } from "../support/footprint.ts";
import { bringMemory, comeBeside, MOVING, startRings, stopRings } from "../support/moving-guest.ts";
import { Observed } from "../support/observed.ts";
import { randomReads } from "../support/random-reads.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

/** Long enough to see that nothing happens. */
const QUIET_MS = 150;
/** All of its lines, however many front-ends come. */
const PACKED = { args: ["--packed", "--num-queues=4", "--threads=2", "--log-level=debug"] };

const isPending = async (promise: Promise<unknown>) =>
  (await Promise.race([promise.catch(() => {}).then(() => "settled"), sleep(QUIET_MS, "pending")])) ===
  "pending";

/** Reads that go on until they are told to stop; how many there were. */
function readOn(guest: FrontEnd): { end(): Promise<number> } {
  let isOver = false;
  const reading = (async () => {
    let count = 0;
    for (; !isOver; count += 64) {
      const { failures } = await randomReads(guest.disk(), 64, 16, 4096, { stallTimeoutMs: 60_000 });
      assert.equal(failures, 0);
    }
    return count;
  })();
  reading.catch(() => {});
  return {
    end() {
      isOver = true;
      return reading;
    },
  };
}

for (const packed of [false, true]) {
  describe(`two front-ends with ${packed ? "packed" : "split"} rings`, { timeout: 300_000 }, () => {
    const options = { ...MOVING, packed };
    let daemon: Vringd;

    before(async () => {
      daemon = await Vringd.start(PACKED);
    });
    after(() => daemon[Symbol.asyncDispose]());
    afterEach(() => allHaveLeft(daemon));

    test("are served one after the other, as the source and the destination of a migration", async () => {
      await using source = await FrontEnd.connect(daemon.socketPath, options);
      const load = readOn(source);
      await using destination = await comeBeside(source, daemon.socketPath, options);
      assert.deepEqual(destination.config, source.config);
      const bases = await stopRings(source);
      await bringMemory(destination, source);
      await startRings(destination, bases);
      assert.ok((await load.end()) > 0);
      source.disconnect();
      const left = await daemon.waitForLog(/front-end left .*frontEnd=1/);
      assert.doesNotMatch(left, / reads=0 /);
      await daemon.waitForLog(/front-end is served in place of another .*frontEnd=2/);
      assert.equal((await source.disk().read(0, 8)).length, 4096);
      destination.disconnect();
    });

    test("may have the guest in turn, again and again, and it misses nothing", async () => {
      await using source = await FrontEnd.connect(daemon.socketPath, options);
      await using destination = await comeBeside(source, daemon.socketPath, options);
      await bringMemory(destination, source);
      const load = readOn(source);
      for (let i = 0; i < 20; i++) {
        await startRings(destination, await stopRings(source));
        await sleep(1);
        await startRings(source, await stopRings(destination));
        await sleep(1);
      }
      assert.ok((await load.end()) > 0);
      destination.disconnect();
      assert.equal((await source.disk().read(0, 8)).length, 4096);
    });

    test("may begin with the second's rings before the first's have stopped: they wait", async () => {
      await using source = await FrontEnd.connect(daemon.socketPath, options);
      await using destination = await comeBeside(source, daemon.socketPath, options);
      await bringMemory(destination, source);
      const started = destination.startQueue(0);
      assert.ok(await isPending(started), "its ring runs beside the first's");
      await stopRings(source);
      await started;
      assert.equal((await source.disk().read(0, 8)).length, 4096);
      destination.disconnect();
    });
  });
}

describe("of two front-ends", { timeout: 300_000 }, () => {
  let observed: Observed;
  let daemon: Vringd;
  let seen = 0;

  before(async () => {
    observed = await Observed.start(PACKED);
    daemon = observed.daemon;
  });
  after(() => observed[Symbol.asyncDispose]());
  beforeEach(() => {
    seen = daemon.log.length;
  });
  afterEach(() => allHaveLeft(daemon));

  /** Lines of this test's. */
  const linesLike = (pattern: RegExp) => daemon.log.slice(seen).filter((line) => pattern.test(line));

  test("the first goes on when the migration fails before the second has started", async () => {
    await using source = await FrontEnd.connect(daemon.socketPath, MOVING);
    await using destination = await comeBeside(source, daemon.socketPath);
    await bringMemory(destination, source);
    const bases = await stopRings(source);
    destination.disconnect();
    await startRings(source, bases);
    assert.equal((await source.disk().read(0, 8)).length, 4096);
    assert.equal(linesLike(/in place of another/).length, 0);
  });

  test("the first has its rings back when the second has left", async () => {
    await using source = await FrontEnd.connect(daemon.socketPath, MOVING);
    await using destination = await comeBeside(source, daemon.socketPath);
    await bringMemory(destination, source);
    await startRings(destination, await stopRings(source));
    assert.equal((await source.disk().read(0, 8)).length, 4096);
    destination.disconnect();
    await startRings(source, source.basesAfterCrash());
    assert.equal((await source.disk().read(8, 8)).length, 4096);
  });

  test("the second is told that it can't, while the first's rings go on", async () => {
    await using source = await FrontEnd.connect(daemon.socketPath, MOVING);
    const load = readOn(source);
    await using destination = await comeBeside(source, daemon.socketPath);
    await bringMemory(destination, source);
    await assert.rejects(startRings(destination, [0]), Refused);
    assert.ok(linesLike(/request refused .*rings of another front-end, which is connected too/).length > 0);
    assert.ok((await load.end()) > 0);
    assert.equal(footprint(daemon).guestMappings, 1);
    // It may try again.
    await startRings(destination, await stopRings(source));
    assert.equal((await source.disk().read(0, 8)).length, 4096);
    destination.disconnect();
  });

  test("the second is let go of if it has not asked for replies", async () => {
    await using source = await FrontEnd.connect(daemon.socketPath, MOVING);
    const protocolFeatures = MOVING.protocolFeatures!.filter(
      (bit) => bit !== m.VHOST_USER_PROTOCOL_F_REPLY_ACK,
    );
    await using destination = await comeBeside(source, daemon.socketPath, { ...MOVING, protocolFeatures });
    await bringMemory(destination, source);
    await startRings(destination, [0]);
    await assert.rejects(destination.getFeatures(), Disconnected);
    destination.disconnect();
    assert.equal((await source.disk().read(0, 8)).length, 4096);
  });

  test("one that is idle has nothing mapped, and the first's guest may be reset beside it", async () => {
    const clean = footprint(daemon);
    await using source = await FrontEnd.connect(daemon.socketPath, MOVING);
    const before = footprint(daemon).guestMappings;
    await using idle = await FrontEnd.open(daemon.socketPath);
    await idle.negotiate(MOVING);
    await idle.shareMemory(new Memory());
    idle.makeQueue();
    assert.equal(footprint(daemon).guestMappings, before);
    for (let i = 0; i < 10; i++) {
      await source.renewQueue(0);
      assert.equal((await source.disk().read(0, 8)).length, 4096);
    }
    idle.close();
    source.close();
    assert.equal(await settledFds(daemon), clean.fds);
    assert.equal(footprint(daemon).guestMappings, 0);
  });

  test("either may be killed at any time", async () => {
    const { fds } = footprint(daemon);
    for (let steps = 0; steps < 8; steps++) {
      const source = await FrontEnd.connect(daemon.socketPath, MOVING);
      void randomReads(source.disk(), 1000, 16, 4096, { stallTimeoutMs: 100 }).catch(() => {});
      await using destination = await comeBeside(source, daemon.socketPath);
      const moves = [
        () => bringMemory(destination, source),
        () => stopRings(source),
        () => destination.startQueue(0, source.basesAfterCrash()[0]!),
      ];
      for (const move of moves.slice(0, steps >> 1)) await move();
      (steps % 2 ? source : destination).disconnect();
      const successor = await FrontEnd.open(daemon.socketPath);
      assert.notEqual(await successor.getFeatures(), 0n);
      for (const each of [destination, source, successor]) each.disconnect();
      assert.equal(await settledFds(daemon), fds);
      source.close();
    }
    await using last = await FrontEnd.connect(daemon.socketPath, MOVING);
    await last.disk().read(0, 8);
  });

  test("one that floods the daemon with requests doesn't hold up the other", async () => {
    await using source = await FrontEnd.connect(daemon.socketPath, MOVING);
    await using flooding = await FrontEnd.open(daemon.socketPath);
    const flood = Buffer.concat(
      Array.from({ length: 2000 }, () => encodeMessage(m.VHOST_USER_SEND_RARP, 0, Buffer.alloc(8))),
    );
    const sent = flooding.connection.send(flood).catch(() => {});
    for (let i = 0; i < 5; i++) {
      const base = await source.stopQueue(0);
      await source.startQueue(0, base);
      assert.equal((await source.disk().read(0, 8)).length, 4096);
    }
    await sent;
  });

  test("each has the cache mode that it has chosen", async () => {
    await using source = await FrontEnd.connect(daemon.socketPath, MOVING);
    const writeback = async (frontEnd: FrontEnd) =>
      (await frontEnd.getConfig(BLK_CONFIG_WRITEBACK, 1))!.readUInt8(0);
    const writeThrough = { offset: BLK_CONFIG_WRITEBACK, flags: 0, bytes: Buffer.of(0) };
    assert.equal(await source.setConfig(writeThrough), 0n);
    await using destination = await comeBeside(source, daemon.socketPath);
    await bringMemory(destination, source);
    assert.equal(await writeback(source), 0);
    await startRings(destination, await stopRings(source));
    assert.equal(await writeback(destination), 1);
    await startRings(source, await stopRings(destination));
    assert.equal(await writeback(source), 0);
    // What it would change is the device of another.
    assert.notEqual(await destination.setConfig({ ...writeThrough, bytes: Buffer.of(1) }), 0n);
    assert.equal(await writeback(source), 0);
    destination.disconnect();
  });

  test("a third waits until one has left", async () => {
    await using _first = await FrontEnd.connect(daemon.socketPath, MOVING);
    const second = await FrontEnd.open(daemon.socketPath);
    assert.notEqual(await second.getFeatures(), 0n);
    await using third = await FrontEnd.open(daemon.socketPath);
    const answer = third.getFeatures();
    assert.ok(await isPending(answer), "the third was served beside two");
    second.close();
    assert.notEqual(await answer, 0n);
  });

  test("both are shown by the status", async () => {
    await using source = await FrontEnd.connect(daemon.socketPath, MOVING);
    await using destination = await comeBeside(source, daemon.socketPath);
    const served = async () => {
      const { frontEnds, frontEnd } = await observed.get("/v1/status");
      assert.deepEqual(
        frontEnd.features,
        frontEnds.find((each: { served: boolean }) => each.served).features,
      );
      return frontEnds.map((each: { served: boolean }) => each.served);
    };
    assert.deepEqual(await served(), [true, false]);
    await bringMemory(destination, source);
    await startRings(destination, await stopRings(source));
    assert.deepEqual(await served(), [false, true]);
    destination.disconnect();
    await until(() => linesLike(/front-end left/).length === 1, "one has left");
    const { frontEnds } = await observed.get("/v1/status");
    assert.equal(frontEnds.length, 1);
  });
});
