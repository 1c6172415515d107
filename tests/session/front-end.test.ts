// The front-end and driver of the tests, tried on a back-end that isn't ours.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  BLK_CONFIG_NUM_QUEUES,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_IN,
} from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import { randomReads } from "../support/random-reads.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { StorageDaemon } from "../support/storage-daemon.ts";

const skip = skipWithout(whyNoProgram("qemu-storage-daemon"));

const CAPACITY = 32768;

/** Gives every sector a content of its own. */
function pattern(sector: number, sectors: number): Buffer {
  const bytes = Buffer.alloc(sectors * 512);
  for (let i = 0; i < sectors; i++) bytes.fill(`sector ${sector + i};`, i * 512, (i + 1) * 512);
  return bytes;
}

describe("the test front-end, with qemu-storage-daemon", { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "front-end-"));
  const socketPath = join(folder, "blk.sock");
  let daemon: StorageDaemon;

  before(() => {
    const image = join(folder, "disk.img");
    writeFileSync(image, "");
    truncateSync(image, CAPACITY * 512);
    daemon = StorageDaemon.start({ image, socketPath });
  });

  after(async () => {
    await daemon.stop();
    rmSync(folder, { recursive: true });
  });

  test("reads the config space", async () => {
    await using frontEnd = await FrontEnd.connect(socketPath);
    assert.equal(frontEnd.capacity, CAPACITY);
    assert.equal(frontEnd.config.readUInt16LE(BLK_CONFIG_NUM_QUEUES), 2);
    assert.equal(frontEnd.maxQueues, 2);
  });

  const variants: [name: string, options: FrontEndOptions][] = [
    ["as negotiated", {}],
    ["without EVENT_IDX", { eventIdx: false }],
    ["with the smallest ring that holds a request", { queueSize: 4 }],
    ["with the largest ring", { queueSize: 1024 }],
    ["without acknowledgements", { protocolFeatures: [0, 9] }],
    ["with one table of two regions", { protocolFeatures: [0, 3, 9], memory: twoRegions() }],
    ["with a region for each slot", { memory: twoRegions() }],
  ];
  for (const [name, options] of variants) {
    test(`reads what it wrote, ${name}`, async () => {
      await using frontEnd = await FrontEnd.connect(socketPath, options);
      const disk = frontEnd.disk();
      await disk.write(100, pattern(100, 24));
      await disk.flush();
      assert.deepEqual(await disk.read(100, 24), pattern(100, 24));
    });
  }

  test("uses indirect tables", async () => {
    await using frontEnd = await FrontEnd.connect(socketPath);
    const disk = frontEnd.disk();
    await disk.write(8, pattern(8, 8));
    const lengths = [...Array<number>(8).fill(512), 1];
    const request = { type: VIRTIO_BLK_T_IN, sector: 8, inLength: 4096, writableLengths: lengths };
    const { status, data, usedLength } = await disk.request({ ...request, indirect: true });
    assert.equal(status, 0);
    assert.equal(usedLength, 4097);
    assert.deepEqual(data, pattern(8, 8));
  });

  test("cuts a request into any framing", async () => {
    await using frontEnd = await FrontEnd.connect(socketPath);
    const request = { type: VIRTIO_BLK_T_IN, sector: 8, inLength: 512 };
    const { data } = await frontEnd.disk().request({
      ...request,
      readableLengths: [1, 7, 8],
      writableLengths: [1, 500, 12],
    });
    assert.deepEqual(data, pattern(8, 1));
  });

  test("zeroes, discards and identifies", async () => {
    await using frontEnd = await FrontEnd.connect(socketPath);
    const disk = frontEnd.disk();
    await disk.write(0, pattern(0, 16));
    await disk.writeZeroes([{ sector: 0, sectors: 8 }]);
    await disk.discard([{ sector: 8, sectors: 8 }]);
    assert.deepEqual(await disk.read(0, 8), Buffer.alloc(4096));
    assert.equal(typeof (await disk.getId()), "string");
  });

  test("reports the status of what the device doesn't know", async () => {
    await using frontEnd = await FrontEnd.connect(socketPath);
    const { status } = await frontEnd.disk().request({ type: 77, inLength: 512 });
    assert.equal(status, VIRTIO_BLK_S_UNSUPP);
  });

  test("keeps many requests in flight at once", async () => {
    await using frontEnd = await FrontEnd.connect(socketPath);
    const disk = frontEnd.disk();
    const sectors = Array.from({ length: 40 }, (_, i) => 1000 + i * 8);
    await Promise.all(sectors.map((sector) => disk.write(sector, pattern(sector, 8))));
    const blocks = await Promise.all(sectors.map((sector) => disk.read(sector, 8)));
    blocks.forEach((block, i) => {
      assert.deepEqual(block, pattern(sectors[i]!, 8));
    });
  });

  test("uses every queue", async () => {
    await using frontEnd = await FrontEnd.connect(socketPath, { queues: 2 });
    await frontEnd.disk(1).write(50, pattern(50, 1));
    assert.deepEqual(await frontEnd.disk(0).read(50, 1), pattern(50, 1));
  });

  test("stops a queue and starts it again", async () => {
    await using frontEnd = await FrontEnd.connect(socketPath);
    const disk = frontEnd.disk();
    await disk.write(7, pattern(7, 1));
    const base = await frontEnd.stopQueue(0);
    assert.equal(base, 1);
    await frontEnd.startQueue(0, base);
    assert.deepEqual(await disk.read(7, 1), pattern(7, 1));
  });

  test("comes back after a disconnect", async () => {
    await using frontEnd = await FrontEnd.connect(socketPath);
    const disk = frontEnd.disk();
    await disk.write(9, pattern(9, 1));
    frontEnd.disconnect();
    await frontEnd.reconnect(socketPath);
    assert.deepEqual(await disk.read(9, 1), pattern(9, 1));
  });

  test("reads at random without a failure", async () => {
    await using frontEnd = await FrontEnd.connect(socketPath);
    const result = await randomReads(frontEnd.disk(), 20_000, 32, 4096);
    assert.equal(result.failures, 0);
    assert.ok(result.calls <= result.count);
  });

  test("leaves no descriptor behind", async () => {
    const before = readdirSync("/proc/self/fd").length;
    const frontEnd = await FrontEnd.connect(socketPath, { queues: 2 });
    await frontEnd.disk().read(0, 1);
    frontEnd.close();
    assert.equal(readdirSync("/proc/self/fd").length, before);
  });
});

function twoRegions() {
  return [
    { gpa: 0x10_0000, byteLength: 1 << 20, userAddress: 0x5500_0000_0000 },
    { gpa: 0x1_0000_0000, byteLength: 8 << 20, userAddress: 0x7fff_0000_0000, mmapOffset: 0x20_0000 },
  ];
}
