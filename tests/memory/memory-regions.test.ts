// Guest memory in every shape that a front-end may give it: many regions, odd offsets, changes under load, huge guests.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import {
  BLK_HEADER_SIZE,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../assembly/spec/virtio-blk.ts";
import {
  DESC_ADDR,
  DESC_FLAGS,
  DESC_LEN,
  DESC_NEXT,
  DESC_SIZE,
  PACKED_DESC_FLAGS,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../../assembly/spec/virtqueue.ts";
import type { Segment } from "../../host/driver/ring.ts";
import { type BlkDriver, encodeBlkHeader, encodeRanges } from "../../host/front-end/blk-driver.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { describeRegion, Region, type RegionLayout } from "../../host/front-end/memory.ts";
import { close, fcntl, ftruncate } from "../../host/linux/libc.ts";
import { createMemfd } from "../../host/linux/memfd.ts";
import { hugePageSize, whyNoHugePages } from "../support/machine.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { randomReads } from "../support/random-reads.ts";
import { skipWithout } from "../support/skip.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const F_ADD_SEALS = 1033;
const F_SEAL_WRITE = 8;
const F_SEAL_FUTURE_WRITE = 16;

const MIB = 1 << 20;
const GIB = 2 ** 30;
const CAPACITY = (64 * MIB) / 512;
/** VHOST_USER_GET_MAX_MEM_SLOTS. */
const SLOTS = 509;

/** Rings and small things in the first region; the others are for a test to use. */
const MAIN: RegionLayout = { gpa: 0x1_0000_0000, byteLength: 64 * MIB, userAddress: 0x7f5a_c000_0000 };

/** A region of its own at `gpa`, with a user address that nothing else has. */
const layoutAt = (gpa: number, byteLength: number, mmapOffset = 0): RegionLayout => ({
  gpa,
  byteLength,
  userAddress: 0x5500_0000_0000 + gpa,
  mmapOffset,
});

for (const engine of ["io_uring", "threads"]) {
  describe(`guest memory with ${engine}`, { timeout: 120_000 }, () => {
    let daemon: Vringd;

    before(async () => {
      daemon = await Vringd.start({
        args: [`--engine=${engine}`, "--packed", "--threads=2", "--range-segments=64", "--serial=scattered"],
      });
    });
    after(() => daemon[Symbol.asyncDispose]());

    const connect = (memory: readonly RegionLayout[], options = {}) =>
      FrontEnd.connect(daemon.socketPath, { ...options, memory });

    test("may be several regions with holes between them", async (t) => {
      const layouts = [
        layoutAt(0, MIB),
        layoutAt(3 * MIB, MIB),
        layoutAt(5 * GIB, MIB),
        layoutAt(2 ** 44, MIB),
      ];
      await using frontEnd = await connect([MAIN, ...layouts]);
      const random = tellSeed(t);
      for (const from of layouts) {
        for (const to of layouts) {
          await copiesThroughDisk(frontEnd, random, {
            header: from.gpa + 64,
            out: from.gpa + 4096,
            back: to.gpa + 8192,
            status: to.gpa + 128,
            byteLength: 16 * 512,
          });
        }
      }
    });

    test("may begin anywhere in its file", async (t) => {
      const layouts = [
        layoutAt(6 * GIB, MIB, 0x1230),
        layoutAt(7 * GIB, 3 * 4096, 512),
        layoutAt(8 * GIB, MIB, 5),
      ];
      await using frontEnd = await connect([{ ...MAIN, mmapOffset: 0x2_0040 }, ...layouts]);
      for (const { gpa, byteLength } of layouts) {
        await copiesThroughDisk(frontEnd, tellSeed(t), {
          header: gpa,
          out: gpa + 64,
          back: gpa + byteLength - 4096,
          status: gpa + byteLength - 4097,
          byteLength: 4096,
        });
      }
    });

    test("may have a length that no page size divides", async (t) => {
      const layout = layoutAt(6 * GIB, 10_000);
      await using frontEnd = await connect([MAIN, layout]);
      const end = layout.gpa + layout.byteLength;
      await copiesThroughDisk(frontEnd, tellSeed(t), {
        header: layout.gpa,
        out: end - 512,
        back: end - 1536,
        status: end - 513,
        byteLength: 512,
      });
    });

    describe("of two regions that touch", () => {
      const border = 10 * GIB;
      const layouts = [MAIN, layoutAt(border - MIB, MIB, 4096), layoutAt(border, MIB)];

      test("may hold data across their border", async (t) => {
        await using frontEnd = await connect(layouts);
        for (const before of [1, 512, 700, 4096]) {
          await copiesThroughDisk(frontEnd, tellSeed(t), {
            header: border - 16_384,
            out: border - before,
            back: border + 16_384,
            status: border + 8192,
            byteLength: 4608,
          });
          await copiesThroughDisk(frontEnd, tellSeed(t), {
            header: border - 16_384,
            out: border + 16_384,
            back: border - before,
            status: border + 8192,
            byteLength: 4608,
          });
        }
      });

      for (let before = 1; before < BLK_HEADER_SIZE; before += 7) {
        test(`may hold a header ${before} bytes before their border`, async (t) => {
          await using frontEnd = await connect(layouts);
          await copiesThroughDisk(frontEnd, tellSeed(t), {
            header: border - before,
            out: border + 4096,
            back: border + 8192,
            status: border - 64,
            byteLength: 512,
          });
        });
      }

      test("may hold data and status in one buffer across their border", async (t) => {
        await using frontEnd = await connect(layouts);
        const out = tellSeed(t).bytes(512);
        const disk = frontEnd.disk();
        await disk.write(8, out);
        for (const before of [512, 1, 513 - 64]) {
          const segments = [readable(border + 65_536, BLK_HEADER_SIZE), writable(border - before, 513)];
          const { written } = await disk.submitAt(segments, encodeBlkHeader(VIRTIO_BLK_T_IN, 8));
          assert.deepEqual(written, Buffer.concat([out, Buffer.of(VIRTIO_BLK_S_OK)]));
        }
      });

      for (const packed of [false, true]) {
        test(`may hold a ${packed ? "packed" : "split"} ring's indirect table across their border`, async (t) => {
          await using frontEnd = await connect(layouts, { packed });
          const disk = frontEnd.disk();
          const out = tellSeed(t).bytes(512);
          await disk.write(8, out);
          // The second of three descriptors is cut by the border.
          const tableAt = border - 24;
          const segments = [
            readable(border + 4096, BLK_HEADER_SIZE),
            writable(border + 8192, 512),
            writable(border - 512, 1),
          ];
          frontEnd.memory.write(tableAt, encodeTable(segments, packed));
          const header = encodeBlkHeader(VIRTIO_BLK_T_IN, 8);
          const { written } = await disk.submitAt(segments, header, {
            indirect: true,
            table: { gpa: tableAt, isWritten: true },
          });
          assert.deepEqual(written, Buffer.concat([out, Buffer.of(VIRTIO_BLK_S_OK)]));
        });
      }
    });

    test("may be changed by ADD_MEM_REG and REM_MEM_REG while queues are under load", async (t) => {
      await using frontEnd = await connect([MAIN], { queues: 2, queueSize: 256 });
      const load = randomReads(frontEnd.disk(1), 30_000, 32, 4096);
      const random = tellSeed(t);
      let rounds = 0;
      for (let isOver = false; !isOver; rounds++) {
        const region = frontEnd.memory.add(layoutAt(20 * GIB + rounds * MIB, MIB));
        assert.equal(await frontEnd.addMemReg(region.description, region.fd), 0n);
        await copiesThroughDisk(frontEnd, random, {
          header: region.gpa,
          out: region.gpa + 4096,
          back: region.gpa + 65_536,
          status: region.gpa + 100,
          byteLength: 8192,
        });
        assert.equal(await frontEnd.remMemReg(region.description), 0n);
        frontEnd.memory.remove(region);
        isOver = await isSettled(load);
      }
      assert.equal((await load).failures, 0);
      t.diagnostic(`${rounds} regions came and went`);
      assert.ok(rounds >= 3);
    });

    test("may be replaced by SET_MEM_TABLE while queues are under load", async (t) => {
      await using frontEnd = await connect([MAIN], { queues: 2, queueSize: 256 });
      const load = randomReads(frontEnd.disk(1), 30_000, 32, 4096);
      const random = tellSeed(t);
      const extra = frontEnd.memory.add(layoutAt(20 * GIB, MIB));
      const [main] = frontEnd.memory.regions;
      let rounds = 0;
      for (let isOver = false; !isOver; rounds++) {
        const both = [extra, main!];
        const table = (regions: Region[]) =>
          frontEnd.setMemTable(
            regions.map(({ description }) => description),
            regions.map(({ fd }) => fd),
          );
        assert.equal(await table(both), 0n);
        await copiesThroughDisk(frontEnd, random, {
          header: extra.gpa,
          out: extra.gpa + 4096,
          back: extra.gpa + 65_536,
          status: extra.gpa + 100,
          byteLength: 8192,
        });
        assert.equal(await table([main!]), 0n);
        isOver = await isSettled(load);
      }
      assert.equal((await load).failures, 0);
      t.diagnostic(`${rounds} times to and fro`);
      assert.ok(rounds >= 3);
    });

    test(`has ${SLOTS} slots and no more, and data in all of them at once`, async (t) => {
      const size = 64 << 10;
      const base = 32 * GIB;
      const layouts = Array.from({ length: SLOTS - 1 }, (_, i) => layoutAt(base + i * size, size));
      await using frontEnd = await connect([MAIN, ...layouts]);
      assert.equal(await frontEnd.getMaxMemSlots(), BigInt(SLOTS));
      const surplus = new Region(layoutAt(base + SLOTS * size, size));
      assert.notEqual(await frontEnd.addMemReg(surplus.description, surplus.fd), 0n);
      surplus.close();
      await copiesThroughDisk(frontEnd, tellSeed(t), {
        header: base + 3,
        out: base + 512,
        back: base + 1024,
        status: base + (SLOTS - 1) * size - 1,
        byteLength: (SLOTS - 1) * size - 65_536,
      });
    });

    test("may not have a file that is smaller than its region", async () => {
      await using frontEnd = await connect([MAIN]);
      const fd = createMemfd("short", MIB - 1);
      const description = describeRegion(layoutAt(20 * GIB, MIB));
      assert.notEqual(await frontEnd.addMemReg(description, fd), 0n);
      assert.notEqual(
        await frontEnd.addMemReg({ ...description, byteLength: 8192n, mmapOffset: BigInt(MIB) }, fd),
        0n,
      );
      close(fd);
      await frontEnd.disk().read(0, 8);
    });

    test("stays as it was when the kernel refuses a region more", async () => {
      await using frontEnd = await connect([MAIN]);
      await frontEnd.disk().read(0, 8);
      const description = describeRegion(layoutAt(20 * GIB, MIB));
      const fd = createMemfd("unwritable", MIB);
      assert.equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
      assert.notEqual(await frontEnd.addMemReg(description, fd), 0n);
      close(fd);
      await frontEnd.disk().read(0, 8);
    });

    test("stays as it was when the kernel refuses another table", async () => {
      await using frontEnd = await connect([MAIN]);
      const fd = createMemfd("unwritable", MIB);
      assert.equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
      const [region] = frontEnd.memory.regions;
      const table = [region!.description, describeRegion(layoutAt(20 * GIB, MIB))];
      assert.notEqual(await frontEnd.setMemTable(table, [region!.fd, fd]), 0n);
      close(fd);
      await frontEnd.disk().read(0, 8);
    });

    test("may touch, but not overlap by a byte", async () => {
      await using frontEnd = await connect([MAIN]);
      const fd = createMemfd("neighbour", MIB);
      const end = MAIN.gpa + MAIN.byteLength;
      const above = describeRegion(layoutAt(end, MIB));
      const below = describeRegion(layoutAt(MAIN.gpa - MIB, MIB));
      for (const neighbour of [
        { ...above, gpa: BigInt(end - 1) },
        { ...below, gpa: BigInt(MAIN.gpa - MIB + 1) },
        // Within the main region, but for its last byte.
        { ...above, gpa: BigInt(end - 1), byteLength: 1n },
      ]) {
        assert.notEqual(await frontEnd.addMemReg(neighbour, fd), 0n, `at 0x${neighbour.gpa.toString(16)}`);
      }
      for (const neighbour of [above, below]) {
        assert.equal(await frontEnd.addMemReg(neighbour, fd), 0n, `at 0x${neighbour.gpa.toString(16)}`);
      }
      close(fd);
      await frontEnd.disk().read(0, 8);
    });

    test("is refused to a ring that starts when its file has become smaller", async () => {
      const layout = layoutAt(20 * GIB, MIB);
      await using frontEnd = await connect([MAIN, layout]);
      await frontEnd.disk().read(0, 8);
      await frontEnd.stopQueue(0);
      const [main] = frontEnd.memory.regions;
      assert.equal(ftruncate(main!.fd, MAIN.byteLength - MIB), 0);
      await assert.rejects(frontEnd.startQueue(0), /SET_VRING/);
      assert.equal(ftruncate(main!.fd, MAIN.byteLength), 0);
      await daemon.waitForLog(/smaller than its region/);
    });

    test("may not overlap", async () => {
      await using frontEnd = await connect([MAIN]);
      const fd = createMemfd("overlapping", MIB);
      for (const gpa of [MAIN.gpa, MAIN.gpa + MAIN.byteLength - 4096, MAIN.gpa - MIB + 4096]) {
        const description = describeRegion(layoutAt(gpa, MIB));
        assert.notEqual(await frontEnd.addMemReg(description, fd), 0n, `at 0x${gpa.toString(16)}`);
      }
      const description = describeRegion(layoutAt(20 * GIB, MIB));
      for (const wrong of [
        { byteLength: 0n },
        { gpa: 2n ** 64n - 4096n },
        { userAddress: 2n ** 64n - 4096n },
        { mmapOffset: 2n ** 64n - 4096n },
      ]) {
        assert.notEqual(await frontEnd.addMemReg({ ...description, ...wrong }, fd), 0n);
      }
      close(fd);
      await frontEnd.disk().read(0, 8);
    });

    test("that was never there can't be removed", async () => {
      await using frontEnd = await connect([MAIN]);
      const description = describeRegion(layoutAt(20 * GIB, MIB));
      assert.notEqual(await frontEnd.remMemReg(description), 0n);
      await frontEnd.disk().read(0, 8);
    });

    test("may be of huge pages", { skip: skipWithout(whyNoHugePages(2)) }, async (t) => {
      const pageSize = hugePageSize();
      const layout = { ...layoutAt(20 * GIB, 2 * pageSize), hugePages: true };
      await using frontEnd = await connect([MAIN, layout]);
      await copiesThroughDisk(frontEnd, tellSeed(t), {
        header: layout.gpa,
        out: layout.gpa + pageSize - 2048,
        back: layout.gpa + pageSize + 8192,
        status: layout.gpa + 2 * pageSize - 1,
        byteLength: 4096,
      });
    });

    for (const gib of [16, 64]) {
      describe(`of ${gib} GiB, more than the core can see at a time`, () => {
        /** As QEMU lays it out: a hole for devices below 4 GiB. */
        const low = layoutAt(0, 3 * GIB);
        const high = layoutAt(4 * GIB, (gib - 3) * GIB, 3 * GIB);
        const end = high.gpa + high.byteLength;

        for (const packed of [false, true]) {
          test(`serves requests from all over it (${packed ? "packed" : "split"})`, async (t) => {
            await using frontEnd = await connect([low, high], { packed });
            const random = tellSeed(t);
            const anywhere = (byteLength: number, lane: number) =>
              randomGpa(random, [low, high], byteLength, lane);
            for (let round = 0; round < 300; round++) {
              const byteLength = random.between(1, 16) * 512;
              await copiesThroughDisk(frontEnd, random, {
                header: anywhere(BLK_HEADER_SIZE, 1),
                out: anywhere(byteLength, 0),
                back: anywhere(byteLength, 2),
                status: anywhere(1, 3),
                byteLength,
              });
            }
          });
        }

        test("keeps many requests in flight whose headers and statuses are thousands of windows apart", async (t) => {
          await using frontEnd = await connect([low, high], { queues: 2, queueSize: 256 });
          const random = tellSeed(t);
          await Promise.all([0, 1].map((index) => scatteredReads(frontEnd, index, random, [low, high])));
        });

        test("reads an indirect table whose descriptors cross from window to window", async (t) => {
          await using frontEnd = await connect([low, high]);
          const disk = frontEnd.disk();
          const random = tellSeed(t);
          const out = random.bytes(512);
          await disk.write(8, out);
          for (let window = 32 * MIB; window < 6 * GIB; window += 480 * MIB) {
            // The second of three descriptors is cut by the border.
            const tableAt = 4 * GIB + window - 24;
            const segments = [
              readable(4 * GIB + 2 * window, BLK_HEADER_SIZE),
              writable(randomGpa(random, [low, high], 512), 512),
              writable(end - window, 1),
            ];
            frontEnd.memory.write(tableAt, encodeTable(segments, false));
            const header = encodeBlkHeader(VIRTIO_BLK_T_IN, 8);
            const { written } = await disk.submitAt(segments, header, {
              indirect: true,
              table: { gpa: tableAt, isWritten: true },
            });
            assert.deepEqual(written, Buffer.concat([out, Buffer.of(VIRTIO_BLK_S_OK)]));
          }
        });

        test("takes a header byte by byte from 16 windows, and gives an ID to 20 others", async (t) => {
          await using frontEnd = await connect([low, high]);
          const random = tellSeed(t);
          const segments = Array.from({ length: BLK_HEADER_SIZE + 21 }, (_, lane) => {
            const make = lane < BLK_HEADER_SIZE ? readable : writable;
            return make(randomGpa(random, [low, high], 1, lane), 1);
          });
          const header = encodeBlkHeader(VIRTIO_BLK_T_GET_ID, 0);
          const { written } = await frontEnd.disk().submitAt(segments, header);
          assert.equal(written.toString("latin1"), "scattered".padEnd(21, "\0"));
        });

        test("takes ranges to zero from many windows", async (t) => {
          await using frontEnd = await connect([low, high]);
          const disk = frontEnd.disk();
          const random = tellSeed(t);
          await disk.write(0, Buffer.alloc(1024 * 512, 3));
          const ranges = Array.from({ length: 40 }, (_, i) => ({ sector: i * 16, sectors: 8 }));
          const places = ranges.map((_, i) => readable(randomGpa(random, [low, high], 16, i + 2), 16));
          const segments = [
            readable(randomGpa(random, [low, high], 16, 0), 16),
            ...places,
            writable(randomGpa(random, [low, high], 1, 1), 1),
          ];
          const header = encodeBlkHeader(VIRTIO_BLK_T_WRITE_ZEROES, 0);
          const { written } = await disk.submitAt(segments, Buffer.concat([header, encodeRanges(ranges)]));
          assert.deepEqual(written, Buffer.of(VIRTIO_BLK_S_OK));
          const expected = Buffer.alloc(1024 * 512, 3);
          for (const { sector } of ranges) expected.fill(0, sector * 512, (sector + 8) * 512);
          assert.ok((await disk.read(0, 1024)).equals(expected));
        });

        test("breaks a ring whose chain is scattered over more than can be mapped at a time", async () => {
          await using frontEnd = await connect([low, high], { queues: 2 });
          const [queue] = frontEnd.queues;
          const ranges = Array.from({ length: 64 }, (_, i) => ({ sector: i * 16, sectors: 8 }));
          const segments = [
            readable(high.gpa + 64 * MIB, BLK_HEADER_SIZE),
            ...ranges.map((_, i) => readable(high.gpa + (i + 3) * WINDOW_SIZE, 16)),
            writable(low.gpa + 64 * MIB, 1),
          ];
          const header = encodeBlkHeader(VIRTIO_BLK_T_WRITE_ZEROES, 0);
          frontEnd
            .disk()
            .submitAt(segments, Buffer.concat([header, encodeRanges(ranges)]))
            .catch(() => {});
          await until(() => queue!.takeError(), "the err eventfd is signalled");
          await daemon.waitForLog(/ring broken.*scattered/);
          await frontEnd.disk(1).read(0, 8);
          await frontEnd.renewQueue(0);
          await frontEnd.disk(0).read(0, 8);
        });

        test("shows a place by a window once it is used again and again", async () => {
          await using frontEnd = await connect([low, high]);
          const before = windowsOf(daemon);
          await readsAt(frontEnd, high.gpa + 100 * MIB, 40);
          assert.equal(windowsOf(daemon), before + 1);
        });

        test("goes on where it is sealed while its rings run, and no window can be mapped any more", async () => {
          await using frontEnd = await connect([low, high]);
          for (const { fd } of frontEnd.memory.regions) {
            assert.equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
          }
          const before = windowsOf(daemon);
          await readsAt(frontEnd, high.gpa + 100 * MIB, 40);
          assert.equal(windowsOf(daemon), before);
          await frontEnd.disk().read(0, 8);
        });

        test("is given back as a whole when its front-end leaves", async () => {
          const frontEnd = await connect([low, high]);
          await frontEnd.disk().read(0, 8);
          frontEnd.close();
          await using successor = await connect([MAIN]);
          await successor.disk().read(0, 8);
          assert.ok(daemon.memoryKiB("RssShmem") < 64 << 10);
        });
      });
    }
  });
}

describe("guest memory of 64 GiB and many queues on one thread", { timeout: 120_000 }, () => {
  test("breaks no ring of those that are served in turn", async (t) => {
    await using daemon = await Vringd.start({ args: ["--num-queues=64", "--threads=1"] });
    const layouts = [layoutAt(0, 3 * GIB), layoutAt(4 * GIB, 61 * GIB, 3 * GIB)];
    await using frontEnd = await FrontEnd.connect(daemon.socketPath, {
      memory: layouts,
      queues: 64,
      queueSize: 64,
    });
    const random = tellSeed(t);
    await frontEnd.disk(0).write(0, Buffer.alloc(4096, 7));
    const load = async (index: number) => {
      const disk = frontEnd.disk(index);
      disk.requestTimeoutMs = 60_000;
      for (let round = 0; round < 12; round++) {
        // Three pieces of header, each somewhere else: the windows of one thread don't hold those of all queues.
        const place = (length: number, piece: number) =>
          randomGpa(random, layouts, length, index * 8 + piece);
        const segments = [
          readable(place(4, 0), 4),
          readable(place(4, 1), 4),
          readable(place(8, 2), 8),
          writable(place(512, 3), 512),
          writable(place(1, 4), 1),
        ];
        const { written } = await disk.submitAt(segments, encodeBlkHeader(VIRTIO_BLK_T_IN, round % 8));
        assert.ok(written.equals(Buffer.concat([Buffer.alloc(512, 7), Buffer.of(VIRTIO_BLK_S_OK)])));
      }
    };
    await Promise.all(Array.from({ length: 64 }, (_, index) => load(index)));
    assert.deepEqual(daemon.linesLike(/ring broken/), []);
  });
});

/** How many windows of the guest the daemon has mapped. */
function windowsOf(daemon: Vringd): number {
  const sizes = daemon
    .proc("maps")
    .split("\n")
    .filter((line) => line.includes("memfd:guest"))
    .map((line) => /^(\w+)-(\w+)/.exec(line)!)
    .map(([, start, end]) => Number.parseInt(end!, 16) - Number.parseInt(start!, 16));
  return sizes.filter((size) => size === WINDOW_SIZE).length;
}

/** Reads whose headers are all at one place. */
async function readsAt(frontEnd: FrontEnd, gpa: number, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const segments = [
      readable(gpa, BLK_HEADER_SIZE),
      writable(gpa + 4096, 512),
      writable(gpa + BLK_HEADER_SIZE, 1),
    ];
    const { written } = await frontEnd.disk().submitAt(segments, encodeBlkHeader(VIRTIO_BLK_T_IN, 8));
    assert.equal(written.at(-1), VIRTIO_BLK_S_OK);
  }
}

const readable = (gpa: number, length: number): Segment => ({ gpa, length, writable: false });
const writable = (gpa: number, length: number): Segment => ({ gpa, length, writable: true });

interface Places {
  header: number;
  out: number;
  back: number;
  status: number;
  byteLength: number;
}

/** Writes random data from one place and reads it to another. */
async function copiesThroughDisk(frontEnd: FrontEnd, random: Random, places: Places): Promise<void> {
  const { header, out, back, status, byteLength } = places;
  const sector = random.below(CAPACITY - byteLength / 512);
  const data = random.bytes(byteLength);
  const disk = frontEnd.disk();
  const wrote = await disk.submitAt(
    [readable(header, BLK_HEADER_SIZE), readable(out, byteLength), writable(status, 1)],
    Buffer.concat([encodeBlkHeader(VIRTIO_BLK_T_OUT, sector), data]),
  );
  assert.deepEqual(wrote.written, Buffer.of(VIRTIO_BLK_S_OK));
  const got = await disk.submitAt(
    [readable(header, BLK_HEADER_SIZE), writable(back, byteLength), writable(status, 1)],
    encodeBlkHeader(VIRTIO_BLK_T_IN, sector),
  );
  assert.equal(got.usedLength, byteLength + 1);
  assert.ok(got.written.equals(Buffer.concat([data, Buffer.of(VIRTIO_BLK_S_OK)])), "read something else");
}

const DEPTH = 32;

/** A load with every piece somewhere else. */
async function scatteredReads(
  frontEnd: FrontEnd,
  index: number,
  random: Random,
  layouts: readonly RegionLayout[],
): Promise<void> {
  const disk: BlkDriver = frontEnd.disk(index);
  const first = index * 1024;
  const contents = random.bytes(1024 * 512);
  await disk.write(first, contents);
  let left = 1500;
  const loop = async (slot: number) => {
    const lane = 3 * (index * DEPTH + slot);
    while (left-- > 0) {
      const sector = random.below(1024 - 8);
      const segments = [
        readable(randomGpa(random, layouts, BLK_HEADER_SIZE, lane), BLK_HEADER_SIZE),
        writable(randomGpa(random, layouts, 4096, lane + 1), 4096),
        writable(randomGpa(random, layouts, 1, lane + 2), 1),
      ];
      const { written } = await disk.submitAt(segments, encodeBlkHeader(VIRTIO_BLK_T_IN, first + sector));
      const expected = contents.subarray(sector * 512, sector * 512 + 4096);
      assert.ok(written.subarray(0, -1).equals(expected), "read something else");
      assert.equal(written.at(-1), VIRTIO_BLK_S_OK);
    }
  };
  await Promise.all(Array.from({ length: DEPTH }, (_, slot) => loop(slot)));
}

/** Windows of the daemon's are so large, and lanes within them large enough for what lies in one. */
const WINDOW_SIZE = 32 * MIB;
const LANE_SIZE = 16 << 10;

/**
 * In any window but the first two, where the rings and the driver's own buffers are. What may be in use at a time
 * lies in a lane of its own, so that nothing overlaps. The first lane lies across the border of two windows.
 */
function randomGpa(random: Random, layouts: readonly RegionLayout[], byteLength: number, lane = 0): number {
  const { gpa, byteLength: size } = random.pick(layouts);
  const window = random.between(2, size / WINDOW_SIZE - 2);
  const offset = lane * LANE_SIZE - LANE_SIZE / 2 + random.below(LANE_SIZE - byteLength);
  return gpa + window * WINDOW_SIZE + offset;
}

/** Whether a load is over by now. */
function isSettled(load: Promise<unknown>): Promise<boolean> {
  return Promise.race([load.then(() => true), setImmediate(false)]);
}

/** An indirect table. A packed ring's has no links. */
function encodeTable(segments: readonly Segment[], packed: boolean): Buffer {
  const table = Buffer.alloc(segments.length * DESC_SIZE);
  segments.forEach(({ gpa, length, writable }, i) => {
    const at = i * DESC_SIZE;
    const write = writable ? VIRTQ_DESC_F_WRITE : 0;
    table.writeBigUInt64LE(BigInt(gpa), at + DESC_ADDR);
    table.writeUInt32LE(length, at + DESC_LEN);
    if (packed) {
      table.writeUInt16LE(write, at + PACKED_DESC_FLAGS);
    } else {
      const hasNext = i + 1 < segments.length;
      table.writeUInt16LE(write | (hasNext ? VIRTQ_DESC_F_NEXT : 0), at + DESC_FLAGS);
      table.writeUInt16LE(hasNext ? i + 1 : 0, at + DESC_NEXT);
    }
  });
  return table;
}
