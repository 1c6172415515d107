// The disk as a driver sees it, over a real socket: every engine with every ring format, queue size and framing.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { statSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import { whyNoFileOf } from "../support/machine.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { tellSeed } from "../support/random.ts";
import { randomReads } from "../support/random-reads.ts";
import { skipWithout } from "../support/skip.ts";
import { memoryDirectory, Vringd } from "../support/vringd.ts";

const SERIAL = "serial-0123456789-xy";
const RANGE_SEGMENTS = 8;
const IMAGE_SIZE = 64 << 20;
const CAPACITY = IMAGE_SIZE / 512;
/** From here on only the tests write that look at the space which the image takes. */
const QUIET_SECTOR = CAPACITY - 8192;
const UNMAP = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

const FORMATS: [name: string, options: FrontEndOptions][] = [
  ["split", {}],
  ["split without EVENT_IDX", { eventIdx: false }],
  ["packed", { packed: true }],
  ["packed without EVENT_IDX", { packed: true, eventIdx: false }],
];

/** Memory for the largest rings, and for loads of thousands. */
const LARGE_MEMORY = [{ gpa: 0x1_0000_0000, byteLength: 256 << 20, userAddress: 0x7f5a_c000_0000 }];

/** Of an image, in bytes: the last whole block below 2^63. */
const LARGEST = 2n ** 63n - 4096n;

for (const engine of ["io_uring", "threads"]) {
  describe(`a disk served by ${engine}`, { timeout: 120_000 }, () => {
    let daemon: Vringd;

    before(async () => {
      daemon = await Vringd.start({
        byteLength: IMAGE_SIZE,
        args: [
          `--engine=${engine}`,
          "--packed",
          "--threads=2",
          `--serial=${SERIAL}`,
          `--range-segments=${RANGE_SEGMENTS}`,
        ],
      });
    });
    after(() => daemon[Symbol.asyncDispose]());

    const connect = (options: FrontEndOptions = {}) => FrontEnd.connect(daemon.socketPath, options);

    test("runs on the engine that was asked for", () => {
      assert.match(daemon.log.join("\n"), new RegExp(`engine=${engine}`));
    });

    for (const [format, options] of FORMATS) {
      for (const indirect of [false, true]) {
        const variant = `${format}, ${indirect ? "indirect" : "direct"}`;

        test(`reads back what it wrote at random sectors (${variant})`, async (t) => {
          await using frontEnd = await connect(options);
          const random = tellSeed(t);
          const disk = frontEnd.disk();
          for (let round = 0; round < 50; round++) {
            const sectors = random.between(1, 256);
            const sector = random.below(QUIET_SECTOR - sectors);
            const out = random.bytes(sectors * 512);
            const write = { type: VIRTIO_BLK_T_OUT, sector, out, indirect };
            assert.deepEqual(await statusAndLength(disk.request(write)), [VIRTIO_BLK_S_OK, 1]);
            const { status, data, usedLength } = await disk.request({
              type: VIRTIO_BLK_T_IN,
              sector,
              inLength: out.length,
              indirect,
            });
            assert.equal(status, VIRTIO_BLK_S_OK);
            assert.equal(usedLength, out.length + 1);
            assert.ok(data.equals(out), "read something else");
            assert.ok(daemon.imageBytes(sector, sectors).equals(out), "the file holds something else");
          }
          await disk.flush();
        });

        test(`keeps a mixed load of depth 64 right (${variant})`, async (t) => {
          await using frontEnd = await connect({ ...options, queueSize: 512 });
          const random = tellSeed(t);
          const part = { firstSector: 4096, sectors: 8192 };
          const { model } = await MixedLoad.run(frontEnd.disk(), {
            random,
            count: 2000,
            depth: 64,
            ...part,
            indirect,
          });
          assert.ok(daemon.imageBytes(part.firstSector, part.sectors).equals(model), "the file differs");
        });

        test(`gives the space of discarded sectors back (${variant})`, async () => {
          await using frontEnd = await connect(options);
          const disk = frontEnd.disk();
          const before = blocksOf(daemon);
          await disk.write(QUIET_SECTOR, Buffer.alloc(1 << 20, 1));
          assert.equal(blocksOf(daemon), before + 2048);
          await disk.discard([{ sector: QUIET_SECTOR, sectors: 2048 }]);
          assert.equal(blocksOf(daemon), before);
          assert.deepEqual(await disk.read(QUIET_SECTOR, 8), Buffer.alloc(4096));
        });

        test(`zeroes with and without giving the space back (${variant})`, async () => {
          await using frontEnd = await connect(options);
          const disk = frontEnd.disk();
          const sector = QUIET_SECTOR;
          const before = blocksOf(daemon);
          await disk.write(sector, Buffer.alloc(1 << 20, 2));
          await disk.writeZeroes([{ sector, sectors: 2048 }]);
          assert.deepEqual(await disk.read(sector, 2048), Buffer.alloc(1 << 20));
          assert.equal(blocksOf(daemon), before + 2048);

          await disk.write(sector, Buffer.alloc(1 << 20, 3));
          await disk.writeZeroes([{ sector, sectors: 2048, flags: UNMAP }]);
          assert.deepEqual(await disk.read(sector, 2048), Buffer.alloc(1 << 20));
          assert.equal(blocksOf(daemon), before);
        });
      }
    }

    test("zeroes a part of a block without harm to its neighbours", async () => {
      await using frontEnd = await connect();
      const disk = frontEnd.disk();
      await disk.write(64, Buffer.alloc(16 * 512, 7));
      await disk.writeZeroes([{ sector: 67, sectors: 10 }]);
      const expected = Buffer.alloc(16 * 512, 7).fill(0, 3 * 512, 13 * 512);
      assert.deepEqual(await disk.read(64, 16), expected);
    });

    test("tells its serial number", async () => {
      await using frontEnd = await connect();
      assert.equal(await frontEnd.disk().getId(), SERIAL);
    });

    test(`zeroes and discards ${RANGE_SEGMENTS} segments in one request`, async () => {
      await using frontEnd = await connect();
      const disk = frontEnd.disk();
      await disk.write(0, Buffer.alloc(1 << 20, 9));
      const ranges = Array.from({ length: RANGE_SEGMENTS }, (_, i) => ({ sector: i * 16, sectors: 8 }));
      await disk.writeZeroes(ranges);
      await disk.discard(ranges.map(({ sector }) => ({ sector: sector + 1024, sectors: 8 })));
      const expected = Buffer.alloc(1 << 20, 9);
      for (const { sector } of ranges) {
        expected.fill(0, sector * 512, (sector + 8) * 512);
        expected.fill(0, (sector + 1024) * 512, (sector + 1032) * 512);
      }
      assert.ok((await disk.read(0, 2048)).equals(expected));
    });

    for (const packed of [false, true]) {
      const format = packed ? "packed" : "split";

      test(`keeps several ${format} queues right at a time`, async (t) => {
        const queues = 5;
        await using frontEnd = await connect({ packed, queues, queueSize: 256 });
        const random = tellSeed(t);
        const loads = Array.from({ length: queues }, (_, i) =>
          MixedLoad.run(frontEnd.disk(i), {
            random,
            count: 600,
            depth: 32,
            firstSector: i * 4096,
            sectors: 4096,
            indirect: i % 2 === 0,
          }),
        );
        await Promise.all(loads);
      });

      test(`has more than 1,024 requests of a ${format} queue in flight`, async () => {
        await using frontEnd = await connect({ packed, queueSize: 32768, memory: LARGE_MEMORY });
        const image = daemon.imageBytes(0, CAPACITY);
        let wrong = 0;
        const { failures } = await randomReads(frontEnd.disk(), 20_000, 3000, 4096, {
          check(sector, block) {
            if (Buffer.compare(block, image.subarray(sector * 512, sector * 512 + 4096)) !== 0) wrong++;
          },
        });
        assert.equal(failures, 0);
        assert.equal(wrong, 0);
      });
    }

    for (const [packed, sizes] of [
      [false, [2, 4, 128, 1024, 32768]],
      [true, [2, 3, 5, 100, 32768]],
    ] as const) {
      for (const queueSize of sizes) {
        test(`serves a ${packed ? "packed" : "split"} queue of ${queueSize}`, async (t) => {
          await using frontEnd = await connect({ packed, queueSize, memory: LARGE_MEMORY });
          const random = tellSeed(t);
          const disk = frontEnd.disk();
          // Often enough to go round the ring several times, where that takes no minutes.
          const rounds = Math.min(queueSize * 3, 400);
          for (let round = 0; round < rounds; round++) {
            const sector = random.below(QUIET_SECTOR);
            const out = random.bytes(512);
            const indirect = round % 3 === 0;
            // Two descriptors are enough for any request.
            const framing = { readableLengths: [16 + 512], writableLengths: [1], indirect };
            const write = await disk.request({ type: VIRTIO_BLK_T_OUT, sector, out, ...framing });
            assert.equal(write.status, VIRTIO_BLK_S_OK);
            const read = await disk.request({
              type: VIRTIO_BLK_T_IN,
              sector,
              inLength: 512,
              writableLengths: [513],
              indirect,
            });
            assert.equal(read.status, VIRTIO_BLK_S_OK);
            assert.deepEqual(read.data, out);
          }
        });
      }

      test(`fills a ${packed ? "packed" : "split"} queue to its last descriptor`, async () => {
        await using frontEnd = await connect({ packed, queueSize: 128 });
        const disk = frontEnd.disk();
        const read = { type: VIRTIO_BLK_T_IN, inLength: 512, writableLengths: [513] };
        const results = await Promise.all(
          Array.from({ length: 64 }, (_, i) => disk.request({ ...read, sector: i * 8 })),
        );
        assert.ok(results.every(({ status }) => status === VIRTIO_BLK_S_OK));
        const indirect = await Promise.all(
          Array.from({ length: 128 }, (_, i) => disk.request({ ...read, sector: i, indirect: true })),
        );
        assert.ok(indirect.every(({ status }) => status === VIRTIO_BLK_S_OK));
      });

      test(`takes chains of 515 descriptors in a table, from a ${packed ? "packed" : "split"} queue of 128`, async (t) => {
        await using frontEnd = await connect({ packed, queueSize: 128 });
        const disk = frontEnd.disk();
        const out = tellSeed(t).bytes(513 * 512);
        const pieces = Array<number>(513).fill(512);
        const write = { type: VIRTIO_BLK_T_OUT, sector: 300, out, readableLengths: [16, ...pieces] };
        assert.equal((await disk.request({ ...write, indirect: true })).status, VIRTIO_BLK_S_OK);
        const read = { type: VIRTIO_BLK_T_IN, sector: 300, inLength: out.length };
        const { status, data, usedLength } = await disk.request({
          ...read,
          writableLengths: [...pieces, 1],
          indirect: true,
        });
        assert.equal(status, VIRTIO_BLK_S_OK);
        assert.equal(usedLength, out.length + 1);
        assert.ok(data.equals(out));
      });

      describe(`framing is free in a ${packed ? "packed" : "split"} queue`, () => {
        const framings: [name: string, readableLengths: number[], writableLengths: number[]][] = [
          ["the header byte by byte", Array<number>(16).fill(1), [1024, 1]],
          ["the status merged with the data", [16], [1025]],
          ["data in odd pieces", [16], [1, 1022, 1, 1]],
          ["empty descriptors everywhere", [0, 8, 0, 8, 0], [0, 512, 0, 512, 0, 1, 0]],
        ];
        for (const [name, readableLengths, writableLengths] of framings) {
          for (const indirect of [false, true]) {
            test(`${name}, ${indirect ? "indirect" : "direct"}`, async (t) => {
              await using frontEnd = await connect({ packed });
              const disk = frontEnd.disk();
              const out = tellSeed(t).bytes(1024);
              await disk.write(40, out);
              const { status, data, usedLength } = await disk.request({
                type: VIRTIO_BLK_T_IN,
                sector: 40,
                inLength: 1024,
                readableLengths,
                writableLengths,
                indirect,
              });
              assert.equal(status, VIRTIO_BLK_S_OK);
              assert.equal(usedLength, 1025);
              assert.deepEqual(data, out);
            });
          }
        }

        test("header and written data in pieces that straddle", async (t) => {
          await using frontEnd = await connect({ packed });
          const disk = frontEnd.disk();
          const out = tellSeed(t).bytes(1024);
          const readableLengths = [7, 0, 109, 924];
          const { status } = await disk.request({ type: VIRTIO_BLK_T_OUT, sector: 50, out, readableLengths });
          assert.equal(status, VIRTIO_BLK_S_OK);
          assert.deepEqual(await disk.read(50, 2), out);
        });
      });
    }

    test("moves 16 MiB in one request", async (t) => {
      await using frontEnd = await connect({ memory: LARGE_MEMORY });
      const disk = frontEnd.disk();
      const out = tellSeed(t).bytes(16 << 20);
      await disk.write(0, out);
      assert.ok((await disk.read(0, CAPACITY / 4)).equals(out));
      await disk.discard([{ sector: 0, sectors: CAPACITY / 4 }]);
    });

    test("serves its last sector and refuses the one past it", async () => {
      await using frontEnd = await connect();
      const disk = frontEnd.disk();
      const last = CAPACITY - 1;
      await disk.write(last, Buffer.alloc(512, 5));
      assert.deepEqual(await disk.read(last, 1), Buffer.alloc(512, 5));
      for (const [sector, sectors] of [
        [CAPACITY, 1],
        [last, 2],
      ] as const) {
        const read = await disk.request({ type: VIRTIO_BLK_T_IN, sector, inLength: sectors * 512 });
        assert.equal(read.status, VIRTIO_BLK_S_IOERR);
        const out = Buffer.alloc(sectors * 512, 6);
        const write = await disk.request({ type: VIRTIO_BLK_T_OUT, sector, out });
        assert.equal(write.status, VIRTIO_BLK_S_IOERR);
      }
      assert.deepEqual(await disk.read(last, 1), Buffer.alloc(512, 5));
      assert.equal(statSync(daemon.imagePath).size, IMAGE_SIZE);
    });
  });

  describe(`a sparse disk of 16 TiB served by ${engine}`, { timeout: 60_000 }, () => {
    // The largest that ext4 has: 2^32 - 1 blocks of 4 KiB.
    const byteLength = 16 * 2 ** 40 - 4096;
    const sectors = byteLength / 512;

    const skip = skipWithout(whyNoFileOf(BigInt(byteLength), memoryDirectory()));

    test("holds data at both ends and across every power of two", { skip }, async (t) => {
      await using daemon = await Vringd.start({ byteLength, args: [`--engine=${engine}`] });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      assert.equal(frontEnd.capacity, sectors);
      const disk = frontEnd.disk();
      const random = tellSeed(t);
      const borders = [2 ** 22, 2 ** 23, 2 ** 31, 2 ** 32, 2 ** 33, sectors - 4];
      const places = [0, ...borders.map((border) => border - 4)];
      const contents = places.map(() => random.bytes(8 * 512));
      for (const [i, place] of places.entries()) await disk.write(place, contents[i]!);
      for (const [i, place] of places.entries()) assert.deepEqual(await disk.read(place, 8), contents[i]);
      await disk.discard([{ sector: sectors - 0x3f_fff8, sectors: 0x3f_fff8 }]);
      assert.deepEqual(await disk.read(sectors - 8, 8), Buffer.alloc(4096));
      assert.deepEqual(await disk.read(2 ** 33 - 4, 8), contents[5]);
    });
  });

  test(`a sparse disk of nearly 8 EiB served by ${engine} has sectors that a JavaScript number can't tell apart`, {
    skip: skipWithout(whyNoFileOf(LARGEST, memoryDirectory())),
  }, async () => {
    await using daemon = await Vringd.start({ args: [`--engine=${engine}`] });
    await daemon.stop();
    // Node's own truncate takes no more than 2^53 bytes.
    assert.equal(spawnSync("truncate", ["-s", String(LARGEST), daemon.imagePath]).status, 0);
    await daemon.restart();
    assert.match(daemon.log.join("\n"), new RegExp(`sectors=${2n ** 54n - 8n}`));
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    const disk = frontEnd.disk();
    const places = [2n ** 53n, 2n ** 53n + 1n, 2n ** 54n - 10n, 2n ** 54n - 9n];
    for (const [i, place] of places.entries()) await disk.write(place, Buffer.alloc(512, i + 1));
    for (const [i, place] of places.entries()) {
      assert.deepEqual(await disk.read(place, 1), Buffer.alloc(512, i + 1));
    }
  });
}

function blocksOf(daemon: Vringd): number {
  return statSync(daemon.imagePath).blocks;
}

async function statusAndLength(
  result: Promise<{ status: number; usedLength: number }>,
): Promise<[number, number]> {
  const { status, usedLength } = await result;
  return [status, usedLength];
}
