// A guest that is moved while it runs: its memory is copied pass by pass, by the log of what the back-end writes.
// VRINGD_TEST_MIGRATION_PASSES says how many.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { createEventfd, drainEventfd } from "../../host/linux/eventfd.ts";
import { close } from "../../host/linux/libc.ts";
import { createMemfd } from "../../host/linux/memfd.ts";
import { featureMask } from "../../host/protocol/feature-bits.ts";
import * as m from "../../host/protocol/messages.ts";
import {
  type MigrationGuestOptions,
  moveGuest,
  PASSES,
  PROTOCOL_FEATURES,
  randomImage,
} from "../support/migration-load.ts";
import { endLogging, MigrationLog, startLogging } from "../support/moved-memory.ts";
import { tellSeed } from "../support/random.ts";
import { randomReads } from "../support/random-reads.ts";
import { until } from "../support/until.ts";
import { Vringd, type VringdOptions } from "../support/vringd.ts";

const IMAGE_SIZE = 16 << 20;
/** A pass takes some milliseconds, and many times that on a busy machine. */
const TIMEOUT_MS = 300_000 + 1000 * PASSES;
const LOG_ALL = featureMask([m.VHOST_F_LOG_ALL]);

async function start(options: VringdOptions = {}): Promise<Vringd> {
  const daemon = await Vringd.start({ byteLength: IMAGE_SIZE, ...options });
  await daemon.stop();
  writeFileSync(daemon.imagePath, randomImage(IMAGE_SIZE));
  await daemon.restart();
  return daemon;
}

/** The pages that were not copied as they are: there must be none. */
async function move(daemon: Vringd, t: TestContext, options: MigrationGuestOptions): Promise<number[]> {
  const { wrong, requests, pages } = await moveGuest(daemon.socketPath, tellSeed(t), options);
  t.diagnostic(`${requests} requests, ${pages} pages in ${PASSES} passes`);
  assert.ok(pages > 0);
  return wrong;
}

for (const engine of ["io_uring", "threads"]) {
  describe(`a guest of ${engine} is moved whole`, { timeout: TIMEOUT_MS }, () => {
    let daemon: Vringd;
    before(async () => {
      daemon = await start({ args: [`--engine=${engine}`, "--packed"] });
    });
    after(() => daemon[Symbol.asyncDispose]());

    for (const packed of [false, true]) {
      for (const eventIdx of [false, true]) {
        const ring = `${packed ? "packed" : "split"} ring ${eventIdx ? "with" : "without"} event indices`;
        test(`with a ${ring}`, async (t) => {
          assert.deepEqual(await move(daemon, t, { packed, eventIdx }), []);
        });
        test(`with a ${ring}, and more memory than the core sees at a time`, async (t) => {
          assert.deepEqual(await move(daemon, t, { packed, eventIdx, isLarge: true }), []);
        });
      }
    }
  });
}

test("a guest whose buffers O_DIRECT refuses is moved whole", { timeout: TIMEOUT_MS }, async (t) => {
  await using daemon = await start({ onDisk: true, args: ["--direct"] });
  assert.deepEqual(await move(daemon, t, { isUnaligned: true }), []);
});

describe("the log of what is written", { timeout: 300_000 }, () => {
  let daemon: Vringd;
  before(async () => {
    daemon = await start({ args: ["--num-queues=2"] });
  });
  after(() => daemon[Symbol.asyncDispose]());

  const connect = () => FrontEnd.connect(daemon.socketPath, { protocolFeatures: PROTOCOL_FEATURES });

  test("may be replaced under load: nothing comes into the old one once the new one is acknowledged", async () => {
    await using frontEnd = await connect();
    const logs = [new MigrationLog(2 ** 33), new MigrationLog(2 ** 34)] as const;
    let isOver = false;
    const load = (async () => {
      while (!isOver) await randomReads(frontEnd.disk(), 64, 16, 4096);
    })();
    await startLogging(frontEnd, logs[0]);
    for (let i = 1; i <= 50; i++) {
      const [before, now] = i % 2 ? logs : [logs[1], logs[0]];
      assert.equal(await frontEnd.setLogBase(now.description, now.fd), 0n);
      before.take();
      await until(() => now.take().length > 0, "the new log is used");
      assert.deepEqual(before.take(), []);
    }
    await endLogging(frontEnd);
    await sleep(20);
    for (const log of logs) log.take();
    await sleep(20);
    assert.deepEqual([...logs[0].take(), ...logs[1].take()], []);
    isOver = true;
    await load;
    assert.ok(!daemon.isMapped("log"), "the log is still mapped");
    for (const log of logs) log.close();
  });

  const faulty: [what: string, byteLength: number, size: bigint, offset: bigint][] = [
    ["too small for the guest's memory", 4096, 4096n, 0n],
    ["larger than what can be logged", 32 << 20, 32n << 20n, 0n],
    ["longer than its file", 4096, 1n << 20n, 0n],
    ["misaligned", 1 << 20, 1n << 19n, 8n],
    ["of no length", 4096, 0n, 0n],
  ];
  for (const [what, byteLength, mmapSize, mmapOffset] of faulty) {
    test(`that is ${what} is answered, and then refused where it would be used; the guest goes on`, async () => {
      await using frontEnd = await connect();
      const fd = createMemfd("log", byteLength);
      assert.notEqual(await frontEnd.setLogBase({ mmapSize, mmapOffset }, fd), 0n);
      close(fd);
      assert.notEqual(await frontEnd.setFeatures(frontEnd.features | LOG_ALL), 0n);
      assert.equal((await frontEnd.disk().read(0, 8)).length, 4096);
      const log = new MigrationLog(2 ** 33);
      await startLogging(frontEnd, log);
      await frontEnd.disk().read(0, 8);
      assert.ok(log.take().length > 0);
      log.close();
    });
  }

  test("that can't take the place of one in use ends the connection, before anything goes unlogged", async () => {
    await using frontEnd = await connect();
    const log = new MigrationLog(2 ** 33);
    await startLogging(frontEnd, log);
    const fd = createMemfd("log", 4096);
    assert.notEqual(await frontEnd.setLogBase({ mmapSize: 4096n, mmapOffset: 0n }, fd), 0n);
    close(fd);
    assert.equal(await frontEnd.receive(), undefined);
    log.close();
  });

  test("is told of by its eventfd", async () => {
    await using frontEnd = await connect();
    const log = new MigrationLog(2 ** 33);
    const fd = createEventfd();
    assert.equal(await frontEnd.setLogFd(fd), 0n);
    await startLogging(frontEnd, log);
    await frontEnd.disk().read(0, 8);
    await until(() => drainEventfd(fd), "the log's eventfd is written");
    await frontEnd.stopQueue(0);
    assert.ok(drainEventfd(fd), "a ring that has stopped is not told of");
    close(fd);
    log.close();
  });

  test("goes on after the back-end was killed, with the rings as they are then", async () => {
    await using frontEnd = await connect();
    const log = new MigrationLog(2 ** 33);
    await frontEnd.trackInflight(1);
    await startLogging(frontEnd, log);
    await frontEnd.disk().read(0, 8);
    await daemon.kill9();
    log.take();
    await daemon.restart();
    await frontEnd.reconnect(daemon.socketPath, []);
    await startLogging(frontEnd, log);
    await frontEnd.startQueue(0, frontEnd.basesAfterCrash()[0]!);
    await frontEnd.disk().read(0, 8);
    const { used } = frontEnd.queues[0]!.ring.addresses;
    assert.ok(log.take().includes(used - (used % 4096)), "the ring is not logged");
    log.close();
  });
});
