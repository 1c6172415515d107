// As many queues as the protocol can tell apart, by default; and what they cost those who use one.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BLK_CONFIG_NUM_QUEUES } from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { encodeU64 } from "../../host/protocol/codec.ts";
import * as m from "../../host/protocol/messages.ts";
import { Vringd } from "../support/vringd.ts";

const QUEUES = 256;
const IMAGE_SIZE = 8 << 20;
/** Beside what differs from run to run: what the state of 256 queues would be if each took a page. */
const SLACK_KIB = 16 * 1024;

describe("256 queues", { timeout: 120_000 }, () => {
  for (const args of [["--threads=1"], ["--threads=2"], ["--engine=threads", "--threads=1"]]) {
    for (const packed of [false, true]) {
      test(`are there by default and serve, ${packed ? "packed" : "split"}, with ${args.join(" ")}`, async () => {
        await using daemon = await Vringd.start({ byteLength: IMAGE_SIZE, args: ["--packed", ...args] });
        await using frontEnd = await FrontEnd.connect(daemon.socketPath, {
          packed,
          inflight: true,
          queues: QUEUES,
          queueSize: 8,
        });
        assert.equal(frontEnd.maxQueues, QUEUES);
        assert.equal(frontEnd.config.readUInt16LE(BLK_CONFIG_NUM_QUEUES), QUEUES);
        const all = Array.from({ length: QUEUES }, (_, i) => i);
        await Promise.all(all.map((i) => frontEnd.disk(i).write(i, Buffer.alloc(512, i + 1))));
        await daemon.kill9();
        await daemon.restart();
        await frontEnd.reconnect(daemon.socketPath);
        const data = await Promise.all(all.map((i) => frontEnd.disk(i).read(QUEUES - 1 - i, 1)));
        for (const i of all) assert.equal(data[i]![0], (QUEUES - i) & 0xff);
        // The last one goes on when others have stopped, and a ring can start again behind it.
        for (const i of [0, 1, 128, 254]) await frontEnd.stopQueue(i);
        await frontEnd.disk(255).read(0, 1);
        const base = await frontEnd.stopQueue(255);
        await frontEnd.disk(253).read(0, 1);
        await frontEnd.startQueue(255, base);
        await frontEnd.disk(255).read(0, 1);
        assert.deepEqual(daemon.linesLike(/broken|no room/), []);
      });
    }
  }

  test("are the most: the messages have eight bits for a ring", async () => {
    await using daemon = await Vringd.start({ byteLength: IMAGE_SIZE });
    await using frontEnd = await FrontEnd.connect(daemon.socketPath, { queues: 0 });
    assert.notEqual(await frontEnd.setVringNum(QUEUES, 8), 0n);
    assert.equal(await frontEnd.setVringNum(QUEUES - 1, 8), 0n);
    // Bit 8 says that no descriptor comes; it is not part of the index.
    const noFd = encodeU64(BigInt(m.VHOST_USER_VRING_NOFD_MASK | (QUEUES - 1)));
    assert.equal(await frontEnd.command(m.VHOST_USER_SET_VRING_CALL, noFd), 0n);
    const { description, fd } = await frontEnd.getInflightFd(QUEUES, 1024);
    assert.ok(fd !== undefined && description.mmapSize <= 64n << 20n);
  });

  test("cost those who use one nothing", async () => {
    const kiB: number[] = [];
    for (const count of [1, QUEUES]) {
      const args = [`--num-queues=${count}`, "--threads=1"];
      await using daemon = await Vringd.start({ byteLength: IMAGE_SIZE, args });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      for (let i = 0; i < 100; i++) await frontEnd.disk().read(0, 1);
      kiB.push(daemon.memoryKiB("VmRSS"));
    }
    assert.ok(kiB[1]! - kiB[0]! < SLACK_KIB, `${kiB.join(", ")} KiB`);
  });
});
