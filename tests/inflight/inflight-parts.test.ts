// Where each queue's part of an inflight region lies, whoever made it: an earlier release, another back-end, or us.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { INFLIGHT_SIZE_MAX } from "../../assembly/abi/memory.ts";
import {
  INFLIGHT_DESC_NUM,
  INFLIGHT_REGION_VERSION,
  INFLIGHT_VERSION,
  SPLIT_ENTRIES,
  SPLIT_ENTRY_INFLIGHT,
  SPLIT_ENTRY_SIZE,
} from "../../assembly/spec/inflight.ts";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import { createMemfd } from "../../host/linux/memfd.ts";
import { partsOf, regionSize } from "../../host/memory/inflight-region.ts";
import { inflightStride } from "../support/inflight-entries.ts";
import { rawSplitRing } from "../support/raw-ring.ts";
import { Vringd } from "../support/vringd.ts";

const FORMATS = [
  { format: "split", packed: false, header: 16, entry: 16 },
  { format: "packed", packed: true, header: 32, entry: 32 },
];
const pages = (byteLength: number) => Math.ceil(byteLength / 4096) * 4096;

const NUMBERS_OF_QUEUES = [1, 2, 3, 4, 7, 16, 31, 63, 64, 65, 100, 128, 255, 256];

describe("a part of an inflight region", () => {
  for (const { format, packed, header, entry } of FORMATS) {
    test(`that we made has room for 1024 entries of a ${format} ring and what was asked for`, () => {
      for (const numQueues of NUMBERS_OF_QUEUES) {
        for (let queueSize = 1; queueSize <= 2100; queueSize++) {
          // The format may be negotiated after the region was made.
          for (const madeForPacked of [false, true]) {
            const byteLength = regionSize(numQueues, queueSize, madeForPacked);
            const parts = partsOf({ mmapSize: BigInt(byteLength), numQueues, queueSize }, packed);
            assert.ok(parts.entries >= Math.max(queueSize, 1024), `${numQueues} of ${queueSize}`);
            assert.ok(header + parts.entries * entry <= parts.stride);
            assert.ok(parts.stride * numQueues <= byteLength);
            assert.equal(parts.stride % 64, 0);
          }
        }
      }
    });

    test(`of a ${format} ring lies where queue_size says, if the region is that large`, () => {
      for (const numQueues of NUMBERS_OF_QUEUES) {
        for (const queueSize of [1, 2, 3, 8, 100, 128, 256, 1000, 1023, 1024, 1025, 4096]) {
          const aligned = inflightStride(queueSize, packed);
          const tight = header + queueSize * entry;
          for (const [stride, byteLength] of [
            [aligned, numQueues * aligned],
            [aligned, pages(numQueues * aligned)],
            [tight, numQueues * tight],
          ] as const) {
            const parts = partsOf({ mmapSize: BigInt(byteLength), numQueues, queueSize }, packed);
            assert.deepEqual(
              parts,
              { stride, entries: queueSize },
              `${numQueues} of ${queueSize}, ${byteLength}`,
            );
          }
        }
      }
    });

    test(`of a ${format} ring is an equal share of any other region`, () => {
      const parts = partsOf({ mmapSize: 100_000n, numQueues: 3, queueSize: 128 }, packed);
      assert.deepEqual(parts, { stride: 33280, entries: Math.floor((33280 - header) / entry) });
    });
  }

  test("holds as many entries as a ring can have at the most", () => {
    const { entries } = partsOf({ mmapSize: BigInt(INFLIGHT_SIZE_MAX), numQueues: 1, queueSize: 128 }, false);
    assert.equal(entries, 32768);
  });

  test("is as small as its ring allows where ample ones would be more than 64 MiB", () => {
    assert.equal(regionSize(64, 32768, false), 64 * (16 + 16 * 32768 + 48));
    assert.equal(regionSize(1, 32768, false), 32 + 32 * 32768 + 32);
  });
});

describe("an inflight region and its rings", () => {
  let daemon: Vringd;
  before(async () => {
    daemon = await Vringd.start({ byteLength: 8 << 20, args: ["--packed", "--num-queues=4"] });
  });
  beforeEach(() => {
    daemon.log.length = 0;
  });
  after(() => daemon[Symbol.asyncDispose]());

  const connect = (options: FrontEndOptions = {}) =>
    FrontEnd.connect(daemon.socketPath, { queues: 0, ...options });

  for (const { format, packed } of FORMATS) {
    for (const ringSize of [64, 256, 1024]) {
      test(`asked for with 128 entries tracks ${format} rings of ${ringSize}`, async () => {
        await using frontEnd = await connect({ packed });
        const { bytes, description } = await frontEnd.trackInflight(4, 128);
        for (let i = 0; i < 4; i++) {
          await frontEnd.addQueue(ringSize);
          await frontEnd.disk(i).write(i, Buffer.alloc(512, i + 1));
        }
        const share = Number(description.mmapSize) / 4;
        for (let i = 0; i < 4; i++) {
          assert.equal(bytes.readUInt16LE(i * share + INFLIGHT_REGION_VERSION), INFLIGHT_VERSION);
          assert.ok(bytes.readUInt16LE(i * share + INFLIGHT_DESC_NUM) >= ringSize);
        }
        // Again and again, as a successor sees it.
        await frontEnd.reconnect(daemon.socketPath);
        for (let i = 0; i < 4; i++) {
          assert.deepEqual(await frontEnd.disk(i).read(i, 1), Buffer.alloc(512, i + 1));
        }
        assert.deepEqual(daemon.linesLike(/ring broken|no room/), []);
      });
    }

    test(`made before ${format} rings were agreed on tracks them`, async () => {
      await using frontEnd = await connect({ packed: !packed });
      const { bytes } = await frontEnd.trackInflight(1, 128);
      await frontEnd.negotiate({ packed });
      await frontEnd.addQueue(1024);
      await frontEnd.disk().write(0, Buffer.alloc(512, 7));
      assert.equal(bytes.readUInt16LE(INFLIGHT_REGION_VERSION), INFLIGHT_VERSION);
    });

    test(`too small for a ${format} ring leaves it untracked, with one warning`, async () => {
      await using frontEnd = await connect({ packed });
      const mmapSize = BigInt(2 * inflightStride(64, packed));
      const description = { mmapSize, mmapOffset: 0n, numQueues: 2, queueSize: 64 };
      const { bytes } = await frontEnd.bringInflight(description, createMemfd("foreign", mmapSize));
      // Too large, small enough, and one more than there are parts for.
      for (const [i, size] of [128, 64, 64].entries()) {
        await frontEnd.addQueue(size);
        await frontEnd.disk(i).write(i, Buffer.alloc(512, i + 1));
        assert.deepEqual(await frontEnd.disk(i).read(i, 1), Buffer.alloc(512, i + 1));
      }
      assert.equal(bytes.readUInt16LE(INFLIGHT_REGION_VERSION), 0);
      assert.equal(
        bytes.readUInt16LE(inflightStride(64, packed) + INFLIGHT_REGION_VERSION),
        INFLIGHT_VERSION,
      );
      assert.equal(
        daemon.linesLike(/"?ring"?[=:]0.*no room for this ring|no room for this ring.*ring=0/).length,
        1,
      );
      assert.equal(daemon.linesLike(/no room for this ring/).length, 1);
    });
  }

  for (const [what, byteLength, stride] of [
    ["of an earlier release", 4 * inflightStride(128, false), inflightStride(128, false)],
    ["of whole pages", pages(4 * inflightStride(128, false)), inflightStride(128, false)],
    ["without gaps", 4 * (16 + 16 * 128), 16 + 16 * 128],
    ["of ours", 4 * inflightStride(1024, true), inflightStride(1024, true)],
  ] as const) {
    test(`${what} has what a predecessor left in each part, and it is done`, async () => {
      await using frontEnd = await connect({ eventIdx: false });
      const description = { mmapSize: BigInt(byteLength), mmapOffset: 0n, numQueues: 4, queueSize: 128 };
      const { bytes } = await frontEnd.bringInflight(description, createMemfd("foreign", byteLength));
      const { entries } = partsOf(description, false);
      const writes: Promise<unknown>[] = [];
      for (let i = 0; i < 4; i++) {
        const queue = frontEnd.makeQueue(128);
        writes.push(frontEnd.disk(i).write(8 + i, Buffer.alloc(512, 0x40 + i)));
        const head = rawSplitRing(queue).avail[2]!;
        const part = i * stride;
        bytes.writeUInt16LE(INFLIGHT_VERSION, part + INFLIGHT_REGION_VERSION);
        bytes.writeUInt16LE(entries, part + INFLIGHT_DESC_NUM);
        bytes[part + SPLIT_ENTRIES + head * SPLIT_ENTRY_SIZE + SPLIT_ENTRY_INFLIGHT] = 1;
      }
      // Taken already, as these bases say: only the region tells that they have not been done.
      for (let i = 0; i < 4; i++) await frontEnd.startQueue(i, 1);
      await Promise.all(writes);
      for (let i = 0; i < 4; i++) {
        assert.deepEqual(await frontEnd.disk(i).read(8 + i, 1), Buffer.alloc(512, 0x40 + i));
      }
    });
  }
});
