// Guests on pages of 1 GiB, of which linear memory has room for two or three: rings are mapped, all else is copied.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  BLK_HEADER_SIZE,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../assembly/spec/virtio-blk.ts";
import type { Segment } from "../../host/driver/ring.ts";
import { encodeBlkHeader, encodeRanges } from "../../host/front-end/blk-driver.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import type { RegionLayout } from "../../host/front-end/memory.ts";
import { buildWithHugePages, type HugePagesBuild } from "../support/huge-pages-build.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { Vringd } from "../support/vringd.ts";

const GIB = 2 ** 30;

const layoutAt = (gpa: number, gib: number, mmapOffset = 0): RegionLayout => ({
  gpa,
  byteLength: gib * GIB,
  userAddress: 0x5500_0000_0000 + gpa,
  mmapOffset,
});

/** As QEMU lays it out: a hole for devices below 4 GiB. */
const layoutsOf = (gib: number): RegionLayout[] =>
  gib <= 3 ? [layoutAt(0, gib)] : [layoutAt(0, 3), layoutAt(4 * GIB, gib - 3, 3 * GIB)];

const readable = (gpa: number, length: number): Segment => ({ gpa, length, writable: false });
const writable = (gpa: number, length: number): Segment => ({ gpa, length, writable: true });

for (const threads of [1, 4]) {
  for (const packed of [false, true]) {
    describe(`pages of 1 GiB, ${threads} threads, ${packed ? "packed" : "split"}`, {
      timeout: 120_000,
    }, () => {
      let build: HugePagesBuild;
      let daemon: Vringd;

      before(async () => {
        build = buildWithHugePages(GIB);
        daemon = await Vringd.start({
          program: build.program,
          args: ["--num-queues=4", `--threads=${threads}`, "--packed", "--serial=huge"],
        });
      });
      after(async () => {
        await daemon[Symbol.asyncDispose]();
        build.remove();
      });

      for (const gib of [2, 3, 4, 8, 64]) {
        test(`serve a guest of ${gib} GiB, wherever its requests are`, async (t) => {
          const memory = layoutsOf(gib);
          await using frontEnd = await FrontEnd.connect(daemon.socketPath, { memory, packed, queues: 4 });
          const random = tellSeed(t);
          await Promise.all([0, 1, 2, 3].map((index) => copies(frontEnd, index, random, memory)));
        });
      }

      test("give out the ID and take ranges, in pieces all over a guest", async (t) => {
        const memory = layoutsOf(8);
        await using frontEnd = await FrontEnd.connect(daemon.socketPath, { memory, packed });
        const random = tellSeed(t);
        const disk = frontEnd.disk();
        const anywhere = (length: number, lane: number) => placeIn(random, memory, length, lane);
        const pieces = [
          ...Array.from({ length: BLK_HEADER_SIZE }, (_, i) => readable(anywhere(1, i), 1)),
          ...Array.from({ length: 21 }, (_, i) => writable(anywhere(1, 16 + i), 1)),
        ];
        const id = await disk.submitAt(pieces, encodeBlkHeader(VIRTIO_BLK_T_GET_ID, 0));
        assert.equal(id.written.toString("latin1"), "huge".padEnd(21, "\0"));

        await disk.write(0, Buffer.alloc(4096, 3));
        const zero = await disk.submitAt(
          [readable(anywhere(16, 0), 16), readable(anywhere(16, 1), 16), writable(anywhere(1, 2), 1)],
          Buffer.concat([
            encodeBlkHeader(VIRTIO_BLK_T_WRITE_ZEROES, 0),
            encodeRanges([{ sector: 1, sectors: 6 }]),
          ]),
        );
        assert.deepEqual(zero.written, Buffer.of(VIRTIO_BLK_S_OK));
        const expected = Buffer.alloc(4096, 3).fill(0, 512, 7 * 512);
        assert.ok((await disk.read(0, 8)).equals(expected));
      });

      test("serve a guest whose rings begin in another page each time", async () => {
        const memory = layoutsOf(16);
        await using frontEnd = await FrontEnd.connect(daemon.socketPath, { memory, packed });
        for (let round = 0; round < 6; round++) {
          await frontEnd.disk().write(round, Buffer.alloc(512, round + 1));
          // In the large region: the ring's memory is taken from there on.
          frontEnd.memory.regions[0]!.allocate(round < 2 ? GIB / 2 : 4096);
          await frontEnd.renewQueue(0);
          assert.ok((await frontEnd.disk().read(round, 1)).equals(Buffer.alloc(512, round + 1)));
        }
      });
    });
  }
}

/** A place of `lane`'s own, in any page but those with the rings. */
function placeIn(random: Random, layouts: readonly RegionLayout[], byteLength: number, lane: number): number {
  const { gpa, byteLength: size } = random.pick(layouts);
  const start = 64 * 2 ** 20 + lane * 2 ** 20;
  const page = random.below(Math.floor((size - start) / GIB) + 1) * GIB;
  return gpa + page + start + random.below(2 ** 20 - byteLength);
}

async function copies(
  frontEnd: FrontEnd,
  index: number,
  random: Random,
  layouts: readonly RegionLayout[],
): Promise<void> {
  const disk = frontEnd.disk(index);
  for (let round = 0; round < 60; round++) {
    const byteLength = random.between(1, 16) * 512;
    const anywhere = (length: number, lane: number) => placeIn(random, layouts, length, index * 8 + lane);
    const sector = index * 1024 + random.below(1000);
    const data = random.bytes(byteLength);
    const header = anywhere(BLK_HEADER_SIZE, 0);
    const status = anywhere(1, 1);
    const wrote = await disk.submitAt(
      [readable(header, BLK_HEADER_SIZE), readable(anywhere(byteLength, 2), byteLength), writable(status, 1)],
      Buffer.concat([encodeBlkHeader(VIRTIO_BLK_T_OUT, sector), data]),
    );
    assert.deepEqual(wrote.written, Buffer.of(VIRTIO_BLK_S_OK));
    const got = await disk.submitAt(
      [readable(header, BLK_HEADER_SIZE), writable(anywhere(byteLength, 3), byteLength), writable(status, 1)],
      encodeBlkHeader(VIRTIO_BLK_T_IN, sector),
    );
    assert.ok(got.written.equals(Buffer.concat([data, Buffer.of(VIRTIO_BLK_S_OK)])), "read something else");
  }
}
