// What becomes of requests that a driver should not have made: each ends with a status, and the queue goes on.
import assert from "node:assert/strict";
import { closeSync, constants, openSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import {
  BLK_CONFIG_BLK_SIZE,
  BLK_CONFIG_MAX_DISCARD_SECTORS,
  BLK_CONFIG_MAX_DISCARD_SEG,
  BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS,
  BLK_HEADER_SIZE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from "../../assembly/spec/virtio-blk.ts";
import type { Segment } from "../../host/driver/ring.ts";
import {
  type BlkRange,
  type BlkRequest,
  encodeBlkHeader,
  encodeRanges,
} from "../../host/front-end/blk-driver.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { whyNoDirect } from "../support/machine.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { tellSeed } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";
import { diskDirectory, memoryDirectory, Vringd } from "../support/vringd.ts";

const OK = VIRTIO_BLK_S_OK;
const IOERR = VIRTIO_BLK_S_IOERR;
const UNSUPP = VIRTIO_BLK_S_UNSUPP;
const UNMAP = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

const IMAGE_SIZE = 64 << 20;
const CAPACITY = IMAGE_SIZE / 512;
/** As the config space says: see the first test. */
const RANGE_SECTORS_MAX = 0x3ffff8;
const U64_MAX = 2n ** 64n - 1n;

const sectors = (count: number) => Buffer.alloc(count * 512, 0x55);
const read = (sector: number | bigint, inLength = 512): BlkRequest => ({
  type: VIRTIO_BLK_T_IN,
  sector,
  inLength,
});
const write = (sector: number | bigint, out: Uint8Array = sectors(1)): BlkRequest => ({
  type: VIRTIO_BLK_T_OUT,
  sector,
  out,
});
const discard = (...ranges: BlkRange[]): BlkRequest => ({
  type: VIRTIO_BLK_T_DISCARD,
  out: encodeRanges(ranges),
});
const zero = (...ranges: BlkRange[]): BlkRequest => ({
  type: VIRTIO_BLK_T_WRITE_ZEROES,
  out: encodeRanges(ranges),
});

const CASES: [name: string, request: BlkRequest, status: number][] = [
  ["a read of no sectors", read(0, 0), OK],
  ["a read of the last sector", read(CAPACITY - 1), OK],
  ["a read past the end", read(CAPACITY), IOERR],
  ["a read over the end", read(CAPACITY - 1, 1024), IOERR],
  ["a read of a sector that wraps around as bytes", read(2n ** 55n), IOERR],
  ["a read of the largest sector number", read(U64_MAX), IOERR],
  ["a read whose end wraps around", read(U64_MAX - 1n, 2048), IOERR],
  ["a read of half a sector", read(0, 256), IOERR],
  ["a read of a sector and a byte", read(0, 513), IOERR],
  ["a write past the end", write(CAPACITY), IOERR],
  ["a write over the end", write(CAPACITY - 1, sectors(2)), IOERR],
  ["a write of the largest sector number", write(U64_MAX), IOERR],
  ["a write of half a sector", write(0, Buffer.alloc(256)), IOERR],
  ["a write of a sector and a byte", write(0, Buffer.alloc(513)), IOERR],
  ["a write of nothing", write(0, Buffer.alloc(0)), OK],
  ["an unknown type", { type: 77, inLength: 512 }, UNSUPP],
  ["an unknown type with nothing to it", { type: 0xffff_ffff }, UNSUPP],
  ["the type of an admin's secure erase, which is not offered", { type: 14, out: sectors(1) }, UNSUPP],
  ["a SCSI command, which is of the past", { type: 2, out: sectors(1), inLength: 96 }, UNSUPP],
  ["a flush with a sector, which means nothing", { type: VIRTIO_BLK_T_FLUSH, sector: 99 }, OK],
  ["a GET_ID with room for more", { type: VIRTIO_BLK_T_GET_ID, inLength: 64 }, OK],
  ["a GET_ID with room for less", { type: VIRTIO_BLK_T_GET_ID, inLength: 4 }, OK],

  ["a discard", discard({ sector: 8, sectors: 8 }), OK],
  ["a discard of nothing", discard({ sector: 8, sectors: 0 }), OK],
  ["a discard past the end", discard({ sector: CAPACITY, sectors: 1 }), IOERR],
  ["a discard over the end", discard({ sector: CAPACITY - 1, sectors: 2 }), IOERR],
  ["a discard that wraps around", discard({ sector: U64_MAX, sectors: 2 }), IOERR],
  ["a discard of more than the maximum", discard({ sector: 0, sectors: RANGE_SECTORS_MAX + 1 }), IOERR],
  ["a discard with the UNMAP flag", discard({ sector: 8, sectors: 8, flags: UNMAP }), UNSUPP],
  ["a discard with an unknown flag", discard({ sector: 8, sectors: 8, flags: 4 }), UNSUPP],
  [
    "a discard of more segments than offered",
    discard({ sector: 0, sectors: 8 }, { sector: 16, sectors: 8 }),
    UNSUPP,
  ],
  ["a discard of no segment", { type: VIRTIO_BLK_T_DISCARD }, IOERR],
  ["a discard of half a segment", { type: VIRTIO_BLK_T_DISCARD, out: Buffer.alloc(8) }, IOERR],

  ["write zeroes", zero({ sector: 8, sectors: 8 }), OK],
  ["write zeroes with UNMAP", zero({ sector: 8, sectors: 8, flags: UNMAP }), OK],
  ["write zeroes past the end", zero({ sector: CAPACITY, sectors: 1 }), IOERR],
  ["write zeroes over the end", zero({ sector: CAPACITY - 1, sectors: 2 }), IOERR],
  ["write zeroes of more than the maximum", zero({ sector: 0, sectors: RANGE_SECTORS_MAX + 1 }), IOERR],
  ["write zeroes of 2^32 - 1 sectors", zero({ sector: 0, sectors: 0xffff_ffff }), IOERR],
  ["write zeroes with an unknown flag", zero({ sector: 8, sectors: 8, flags: 2 }), UNSUPP],
  [
    "write zeroes with UNMAP and an unknown flag",
    zero({ sector: 8, sectors: 8, flags: UNMAP | 0x4000_0000 }),
    UNSUPP,
  ],
  [
    "write zeroes of more segments than offered",
    zero({ sector: 0, sectors: 8 }, { sector: 16, sectors: 8 }),
    UNSUPP,
  ],
  ["write zeroes of no segment", { type: VIRTIO_BLK_T_WRITE_ZEROES }, IOERR],
];

for (const engine of ["io_uring", "threads"]) {
  describe(`requests to ${engine}`, { timeout: 60_000 }, () => {
    let daemon: Vringd;

    before(async () => {
      daemon = await Vringd.start({ byteLength: IMAGE_SIZE, args: [`--engine=${engine}`, "--packed"] });
    });
    after(() => daemon[Symbol.asyncDispose]());

    test("are limited as the config space says", async () => {
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      assert.equal(frontEnd.config.readUInt32LE(BLK_CONFIG_MAX_DISCARD_SECTORS), RANGE_SECTORS_MAX);
      assert.equal(frontEnd.config.readUInt32LE(BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS), RANGE_SECTORS_MAX);
      assert.equal(frontEnd.config.readUInt32LE(BLK_CONFIG_MAX_DISCARD_SEG), 1);
    });

    for (const packed of [false, true]) {
      describe(`on a ${packed ? "packed" : "split"} queue`, () => {
        let frontEnd: FrontEnd;

        before(async () => {
          frontEnd = await FrontEnd.connect(daemon.socketPath, { packed });
        });
        after(() => frontEnd.close());

        for (const [name, request, status] of CASES) {
          test(`${name} ends with status ${status}`, async () => {
            const result = await frontEnd.disk().request(request);
            assert.equal(result.status, status);
            const written = status === OK ? lengthOnSuccess(request) : 1;
            assert.equal(result.usedLength, written);
            await isAlive(frontEnd);
          });
        }

        test("a refused range changes nothing of an accepted one before it", async () => {
          const disk = frontEnd.disk();
          await disk.write(16, sectors(8));
          const request = zero({ sector: 16, sectors: 8 }, { sector: CAPACITY, sectors: 8 });
          assert.notEqual((await disk.request(request)).status, OK);
          assert.deepEqual(await disk.read(16, 8), sectors(8));
        });

        const chains: [
          name: string,
          readable: Buffer,
          readableLengths: number[],
          writableLengths: number[],
        ][] = [
          ["without a header", Buffer.alloc(0), [], [512, 1]],
          ["with half a header", encodeBlkHeader(VIRTIO_BLK_T_IN, 0).subarray(0, 8), [8], [512, 1]],
          ["with an empty header", Buffer.alloc(0), [0], [1]],
          ["without a status", encodeBlkHeader(VIRTIO_BLK_T_FLUSH, 0), [BLK_HEADER_SIZE], []],
          ["with an empty status", encodeBlkHeader(VIRTIO_BLK_T_FLUSH, 0), [BLK_HEADER_SIZE], [0]],
          [
            "with data to write and no status",
            Buffer.concat([encodeBlkHeader(VIRTIO_BLK_T_OUT, 0), sectors(1)]),
            [BLK_HEADER_SIZE, 512],
            [],
          ],
          ["of one empty descriptor", Buffer.alloc(0), [], [0]],
        ];
        for (const [name, readable, readableLengths, writableLengths] of chains) {
          for (const indirect of [false, true]) {
            test(`a chain ${name} is used with length 0, ${indirect ? "indirect" : "direct"}`, async () => {
              const disk = frontEnd.disk();
              const before = await disk.read(0, 1);
              const { usedLength } = await disk.submit(readable, readableLengths, writableLengths, {
                indirect,
              });
              assert.equal(usedLength, 0);
              assert.deepEqual(await disk.read(0, 1), before);
              await isAlive(frontEnd);
            });
          }
        }
      });
    }
  });

  describe(`a read-only disk served by ${engine}`, () => {
    let daemon: Vringd;
    let frontEnd: FrontEnd;

    before(async () => {
      daemon = await Vringd.start({ args: [`--engine=${engine}`, "--read-only"] });
      frontEnd = await FrontEnd.connect(daemon.socketPath);
    });
    after(async () => {
      frontEnd.close();
      await daemon[Symbol.asyncDispose]();
    });

    test("says so, and offers nothing that would write", () => {
      const offers = (bit: number) => ((frontEnd.backendFeatures >> BigInt(bit)) & 1n) === 1n;
      assert.ok(offers(VIRTIO_BLK_F_RO));
      assert.ok(!offers(VIRTIO_BLK_F_DISCARD));
      assert.ok(!offers(VIRTIO_BLK_F_WRITE_ZEROES));
    });

    for (const [name, request] of [
      ["a write", write(0)],
      ["a discard", discard({ sector: 0, sectors: 8 })],
      ["write zeroes", zero({ sector: 0, sectors: 8 })],
    ] as const) {
      test(`refuses ${name} and stays as it is`, async () => {
        assert.equal((await frontEnd.disk().request(request)).status, IOERR);
        assert.deepEqual(daemon.imageBytes(0, 64), Buffer.alloc(64 * 512));
        await isAlive(frontEnd);
      });
    }

    test("takes a flush", async () => {
      await frontEnd.disk().flush();
    });
  });

  describe(`a disk with blocks of 4096 bytes served by ${engine}`, () => {
    let daemon: Vringd;
    let frontEnd: FrontEnd;

    before(async () => {
      daemon = await Vringd.start({ args: [`--engine=${engine}`, "--block-size=4096"] });
      frontEnd = await FrontEnd.connect(daemon.socketPath);
    });
    after(async () => {
      frontEnd.close();
      await daemon[Symbol.asyncDispose]();
    });

    test("says so", () => {
      assert.equal(frontEnd.config.readUInt32LE(BLK_CONFIG_BLK_SIZE), 4096);
    });

    test("counts sectors of 512 all the same", async () => {
      assert.equal(frontEnd.capacity, CAPACITY);
      await frontEnd.disk().write(8, sectors(8));
      assert.deepEqual(daemon.imageBytes(8, 8), sectors(8));
    });

    test("refuses a request that begins within a block", async () => {
      assert.equal((await frontEnd.disk().request(read(1, 4096))).status, IOERR);
      assert.equal((await frontEnd.disk().request(write(4, sectors(8)))).status, IOERR);
      await isAlive(frontEnd);
    });
  });

  for (const onDisk of [false, true]) {
    const where = onDisk ? "a disk's file system" : "memory";

    const skip = skipWithout(whyNoDirect(onDisk ? diskDirectory() : memoryDirectory()));

    describe(`O_DIRECT on ${where}, served by ${engine}`, { skip, timeout: 60_000 }, () => {
      let daemon: Vringd;

      before(async () => {
        const args = [`--engine=${engine}`, "--direct", "--block-size=512"];
        daemon = await Vringd.start({ onDisk, args });
        closeSync(openSync(daemon.imagePath, constants.O_RDWR | constants.O_DIRECT));
      });
      after(() => daemon?.[Symbol.asyncDispose]());

      test("takes guest buffers at any address", async (t) => {
        await using frontEnd = await FrontEnd.connect(daemon.socketPath);
        const random = tellSeed(t);
        const { memory } = frontEnd;
        const place = memory.allocate(64 << 10);
        const header = memory.allocate(BLK_HEADER_SIZE);
        const status = memory.allocate(1);
        for (const offset of [0, 1, 16, 256, 511, 512, 4095]) {
          const out = random.bytes(16 * 512);
          const data = (writable: boolean): Segment => ({
            gpa: place + offset,
            length: out.length,
            writable,
          });
          const around = (middle: Segment): Segment[] => [
            { gpa: header, length: BLK_HEADER_SIZE, writable: false },
            middle,
            { gpa: status, length: 1, writable: true },
          ];
          const writeHeader = encodeBlkHeader(VIRTIO_BLK_T_OUT, 64);
          const disk = frontEnd.disk();
          const wrote = await disk.submitAt(around(data(false)), Buffer.concat([writeHeader, out]));
          assert.deepEqual(wrote.written, Buffer.of(OK));
          const got = await disk.submitAt(around(data(true)), encodeBlkHeader(VIRTIO_BLK_T_IN, 64));
          assert.ok(got.written.equals(Buffer.concat([out, Buffer.of(OK)])), `at offset ${offset}`);
        }
      });

      test("keeps a mixed load in odd pieces right", async (t) => {
        await using frontEnd = await FrontEnd.connect(daemon.socketPath, { queueSize: 256 });
        await MixedLoad.run(frontEnd.disk(), {
          random: tellSeed(t),
          count: 600,
          depth: 16,
          firstSector: 0,
          sectors: 8192,
          indirect: false,
        });
      });
    });
  }
}

/** The status and, for what has an answer, all of it: a GET_ID has 20 bytes at the most. */
function lengthOnSuccess({ type, inLength = 0 }: BlkRequest): number {
  return 1 + (type === VIRTIO_BLK_T_GET_ID ? Math.min(inLength, 20) : inLength);
}

async function isAlive(frontEnd: FrontEnd): Promise<void> {
  await frontEnd.disk().read(0, 8);
  assert.equal(frontEnd.queues[0]!.ring.inFlight(), 0);
  assert.ok(!frontEnd.queues[0]!.takeError(), "the ring was reported as broken");
}
