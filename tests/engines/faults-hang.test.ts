// Storage that doesn't answer: what it holds up, what not, and what becomes of a daemon that has to end meanwhile.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { VIRTIO_BLK_S_OK, VIRTIO_BLK_T_OUT } from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { Memory } from "../../host/front-end/memory.ts";
import { FaultRig } from "../support/fault-rig.ts";
import { whyNoFuse } from "../support/fuse.ts";
import { skipWithout } from "../support/skip.ts";
import { until } from "../support/until.ts";

/** More than either engine has threads for. */
const MANY = 100;

for (const engine of ["io_uring", "threads"] as const) {
  describe(`storage that doesn't answer, with ${engine},`, {
    skip: skipWithout(whyNoFuse()),
    timeout: 120_000,
  }, () => {
    for (const threads of [1, 2]) {
      test(`holds up its own request and no other, with ${threads} workers`, async () => {
        await using rig = await FaultRig.start({
          engine,
          args: [`--threads=${threads}`],
          frontEnd: { queues: 2 },
        });
        const { storage, driver, frontEnd } = rig;
        storage.fault = ({ offset }) => (offset === 0 ? "hold" : undefined);
        const reading = driver.read(0, 8);
        await until(() => storage.held.length === 1, "a read is held");
        for (let i = 1; i < 20; i++) {
          await driver.write(i * 8, Buffer.alloc(4096, i));
          assert.deepEqual(await frontEnd.disk(1).read(i * 8, 8), Buffer.alloc(4096, i));
        }
        storage.release();
        await reading;
      });
    }

    test("leaves the front-end its answers", async () => {
      await using rig = await FaultRig.start({ engine });
      const { storage, driver, frontEnd } = rig;
      storage.fault = () => "hold";
      const reading = readMany(rig);
      await until(() => storage.held.length > 0, "reads are held");
      await frontEnd.getFeatures();
      await frontEnd.readConfig();
      storage.release();
      await reading;
      await driver.read(0, 8);
    });

    test("stops a ring only when it has answered", async () => {
      await using rig = await FaultRig.start({ engine });
      const { storage, driver, frontEnd } = rig;
      storage.fault = () => "hold";
      const reading = driver.read(0, 8);
      await until(() => storage.held.length === 1, "a read is held");
      let hasStopped = false;
      const stopping = frontEnd.stopQueue(0).finally(() => {
        hasStopped = true;
      });
      await sleep(100);
      assert.ok(!hasStopped);
      storage.release();
      assert.equal(await stopping, 1);
      await reading;
    });

    test("keeps a front-end's memory in place after that has left, and lets the next one wait", async () => {
      await using rig = await FaultRig.start({ engine });
      const { storage, daemon, driver, frontEnd } = rig;
      storage.bytes.fill(7, 0, 4096);
      storage.fault = () => "hold";
      const reading = driver.read(0, 8);
      await until(() => storage.held.length === 1, "a read is held");
      frontEnd.disconnect();
      await using successor = await FrontEnd.open(daemon.socketPath);
      successor.replyTimeoutMs = 60_000;
      await successor.negotiate();
      await successor.shareMemory(new Memory());
      let isServed = false;
      const queue = successor.addQueue().finally(() => {
        isServed = true;
      });
      // Longer than it would wait for one that is still connected.
      await sleep(6000);
      assert.ok(daemon.isMapped("guest") && !isServed);
      storage.release();
      // Memory that nobody else has any more has its data all the same.
      assert.deepEqual(await reading, Buffer.alloc(4096, 7));
      await queue;
      assert.equal((await successor.disk().read(0, 8)).readUInt8(0), 7);
      successor.close();
      await until(() => !daemon.isMapped("guest"), "no guest's memory is mapped");
    });

    test("is waited for at SIGTERM, and the request completes", async () => {
      await using rig = await FaultRig.start({ engine });
      const { storage, daemon, driver } = rig;
      storage.fault = () => "hold";
      const writing = driver.write(0, Buffer.alloc(4096, 7));
      await until(() => storage.held.length === 1, "a write is held");
      const stopping = daemon.stop();
      await daemon.waitForLog(/stopping/);
      await sleep(200);
      assert.ok(!daemon.hasEnded);
      storage.release();
      assert.equal(await stopping, 0);
      await writing;
    });

    test("is not waited for longer than 5 s at SIGTERM; the image stays locked until it has answered", async () => {
      await using rig = await FaultRig.start({ engine, frontEnd: { inflight: true } });
      const { storage, daemon, driver, frontEnd } = rig;
      storage.fault = () => "hold";
      const writing = driver.request({ type: VIRTIO_BLK_T_OUT, sector: 0, out: Buffer.alloc(4096, 7) });
      await until(() => storage.held.length === 1, "a write is held");
      const startMs = performance.now();
      const stopping = daemon.stop();
      await daemon.waitForLog(/requests are stuck; the image stays locked/, 10_000);
      assert.ok(performance.now() - startMs > 4900);
      // The kernel keeps a process whose I/O it has not finished.
      assert.ok(!daemon.hasEnded);
      storage.release();
      assert.equal(await stopping, 1);
      await Promise.all([daemon.restart(), frontEnd.reconnect(daemon.socketPath)]);
      assert.equal((await writing).status, VIRTIO_BLK_S_OK);
    });

    test("holds up the successor of a killed daemon, whose write can't land on a newer one", async () => {
      await using rig = await FaultRig.start({ engine, frontEnd: { inflight: true } });
      const { storage, daemon, driver, frontEnd } = rig;
      storage.fault = ({ name }) => (name === "write" ? "hold" : undefined);
      const writing = driver.write(0, Buffer.alloc(4096, 1));
      await until(() => storage.held.length === 1, "a write is held");
      // With threads the kernel keeps the process, with io_uring the open file: either way the lock.
      const killed = daemon.kill9();
      const isKept = await Promise.race([killed, sleep(500, true)]);
      const successor = isKept ? undefined : daemon.restart();
      if (successor) await daemon.waitForLog(/waiting for the I\/O of a killed process/);
      storage.release();
      await killed;
      assert.equal(storage.bytes[0], 1);
      await Promise.all([successor ?? daemon.restart(), frontEnd.reconnect(daemon.socketPath)]);
      await writing;
      await driver.write(0, Buffer.alloc(4096, 2));
      assert.deepEqual(await driver.read(0, 8), Buffer.alloc(4096, 2));
      assert.equal(storage.count("write"), 3);
    });
  });
}

/** As many at once as hold up every thread that there is. */
async function readMany({ driver }: FaultRig): Promise<void> {
  await Promise.all(
    Array.from({ length: MANY }, (_, i) =>
      driver.request({ type: 0, sector: i * 8, inLength: 512, indirect: true }),
    ),
  );
}
