// Rings that no honest driver would write: each breaks itself and nothing else, and is sound again after a reset.
import assert from "node:assert/strict";
import { closeSync, openSync } from "node:fs";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { VIRTIO_BLK_T_IN } from "../../assembly/spec/virtio-blk.ts";
import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../../assembly/spec/virtqueue.ts";
import type { SplitRing } from "../../host/driver/split.ts";
import { encodeBlkHeader } from "../../host/front-end/blk-driver.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { DEFAULT_LAYOUT } from "../../host/front-end/memory.ts";
import type { Virtqueue } from "../../host/front-end/virtqueue.ts";
import { allHaveLeft } from "../support/footprint.ts";
import {
  allocatePlaces,
  type Bare,
  BREAKING_CHAINS,
  ISLAND,
  ISLAND_END,
  type Places,
  REGION_START,
  readable,
  writeChain,
  writeTable,
} from "../support/hostile-chains.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { tellSeed } from "../support/random.ts";
import {
  type RawDescriptor,
  type RawPackedRing,
  type RawSplitRing,
  rawPackedRing,
  rawSplitRing,
} from "../support/raw-ring.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const NEXT = VIRTQ_DESC_F_NEXT;
const WRITE = VIRTQ_DESC_F_WRITE;
const INDIRECT = VIRTQ_DESC_F_INDIRECT;

const SIZE = 16;
for (const engine of ["io_uring", "threads"]) {
  describe(`a hostile driver of ${engine}`, { timeout: 60_000 }, () => {
    let daemon: Vringd;
    let frontEnd: FrontEnd;
    let brokenBefore: number;

    before(async () => {
      daemon = await Vringd.start({
        args: [`--engine=${engine}`, "--packed", "--num-queues=2", "--threads=1", "--log-level=debug"],
      });
    });
    after(() => daemon[Symbol.asyncDispose]());
    beforeEach(() => {
      brokenBefore = brokenLines().length;
    });
    afterEach(() => frontEnd?.close());

    const connect = async (packed: boolean) => {
      const memory = [...DEFAULT_LAYOUT, ISLAND];
      frontEnd = await FrontEnd.connect(daemon.socketPath, { packed, queues: 2, queueSize: SIZE, memory });
      return frontEnd;
    };
    const brokenLines = () => daemon.linesLike(/ring broken/);

    const allocate = () => allocatePlaces(frontEnd, 0, encodeBlkHeader(VIRTIO_BLK_T_IN, 0));

    /** All that must follow from a ring that is broken, and all that must not. */
    async function breaksAlone(reason: RegExp): Promise<void> {
      const [broken, other] = frontEnd.queues;
      await until(() => broken!.takeError(), "the err eventfd is signalled");
      await until(() => brokenLines().length > brokenBefore, "a log line");
      assert.match(brokenLines().at(-1)!, reason);
      assert.match(brokenLines().at(-1)!, /ring=0/);

      broken!.kick(true);
      await frontEnd.disk(1).read(8, 8);
      assert.ok(!broken!.hasUsed(), "the broken ring is served");
      assert.ok(!other!.takeError(), "the other ring is reported");
      assert.ok(!broken!.takeError(), "the broken ring is reported again");
      assert.equal(brokenLines().length, brokenBefore + 1);

      await frontEnd.renewQueue(0);
      await frontEnd.disk(0).read(0, 8);
      await frontEnd.disk(1).read(0, 8);
      frontEnd.close();
      await allHaveLeft(daemon);
      assert.match(daemon.linesLike(/front-end left/).at(-1)!, /brokenRings=1$/);

      await using successor = await FrontEnd.connect(daemon.socketPath, { queues: 2 });
      await successor.disk(0).read(0, 8);
      await successor.disk(1).read(0, 8);
      assert.equal(brokenLines().length, brokenBefore + 1);
    }

    describe("with a split ring", () => {
      let queue: Virtqueue;
      let ring: RawSplitRing;
      let places: Places;

      beforeEach(async () => {
        await connect(false);
        queue = frontEnd.queues[0]!;
        ring = rawSplitRing(queue);
        places = allocate();
      });

      function publish(...descriptors: Bare[]): void {
        writeChain(ring, descriptors);
        ring.publishRaw(0);
        queue.kick(true);
      }

      for (const [name, chain, reason] of BREAKING_CHAINS) {
        test(`breaks it with ${name}`, async () => {
          publish(...chain(places));
          await breaksAlone(reason);
        });
      }

      test("breaks it with a chain that runs in a circle", async () => {
        ring.writeDescriptor(0, { addr: places.header, len: 16, flags: NEXT, next: 1 });
        ring.writeDescriptor(1, { addr: places.header, len: 16, flags: NEXT, next: 0 });
        ring.publishRaw(0);
        queue.kick(true);
        await breaksAlone(/too long or runs in a circle/);
      });

      test("breaks it with a descriptor that follows itself", async () => {
        ring.writeDescriptor(3, { addr: places.header, len: 0, flags: NEXT, next: 3 });
        ring.publishRaw(3);
        queue.kick(true);
        await breaksAlone(/too long or runs in a circle/);
      });

      for (const next of [SIZE, 0xffff]) {
        test(`breaks it with a next of ${next}`, async () => {
          ring.writeDescriptor(0, { addr: places.header, len: 16, flags: NEXT, next });
          ring.publishRaw(0);
          queue.kick(true);
          await breaksAlone(/next lies past the end/);
        });
      }

      for (const head of [SIZE, 0xffff]) {
        test(`breaks it with a head of ${head}`, async () => {
          ring.publishRaw(head);
          queue.kick(true);
          await breaksAlone(/head lies past the end/);
        });
      }

      for (const idx of [SIZE + 1, 0x8000, 0xffff]) {
        test(`breaks it with an avail index of ${idx}`, async () => {
          ring.writeAvailIdx(idx);
          queue.kick(true);
          await breaksAlone(/avail index is more than the queue size ahead/);
        });
      }

      const tables: [name: string, table: RawDescriptor[], reason: RegExp][] = [
        ["a table within a table", [{ addr: 0n, len: 16, flags: INDIRECT }], /where none may be/],
        [
          "a table whose next lies past its end",
          [{ addr: 0n, len: 0, flags: NEXT, next: 2 }],
          /next lies past/,
        ],
        [
          "a table that runs in a circle",
          [
            { addr: 0n, len: 0, flags: NEXT, next: 1 },
            { addr: 0n, len: 0, flags: NEXT, next: 0 },
          ],
          /too long or runs in a circle/,
        ],
      ];
      for (const [name, descriptors, reason] of tables) {
        test(`breaks it with ${name}`, async () => {
          writeTable(frontEnd, places.table, descriptors);
          publish({ addr: places.table, len: 32, flags: INDIRECT });
          await breaksAlone(reason);
        });
      }

      test("breaks it with an avail index that goes back", async () => {
        const disk = frontEnd.disk(0);
        for (let i = 0; i < 3; i++) await disk.read(0, 8);
        ring.writeAvailIdx(2);
        queue.kick(true);
        await breaksAlone(/avail index is more than the queue size ahead/);
      });

      test("breaks it while the other ring is under load, which loses nothing", async (t) => {
        const load = { count: 500, depth: 4, firstSector: 4096, sectors: 4096, indirect: true };
        const running = MixedLoad.run(frontEnd.disk(1), { ...load, random: tellSeed(t) });
        for (let i = 0; i < 20; i++) {
          rawSplitRing(frontEnd.queues[0]!).publishRaw(SIZE);
          frontEnd.queues[0]!.kick(true);
          await until(() => brokenLines().length === brokenBefore + i + 1, "a log line");
          await frontEnd.renewQueue(0);
        }
        await running;
        await frontEnd.disk(0).read(0, 8);
      });

      const resets: [name: string, reset: () => Promise<void>][] = [
        ["SET_STATUS 0", async () => void assert.equal(await frontEnd.setStatus(0n), 0n)],
        [
          "RESET_DEVICE",
          async () => {
            assert.equal(await frontEnd.resetDevice(), 0n);
            assert.equal(await frontEnd.setFeatures(frontEnd.features), 0n);
          },
        ],
      ];
      for (const [name, reset] of resets) {
        test(`breaks it until a ${name}`, async () => {
          ring.publishRaw(SIZE);
          queue.kick(true);
          await isBroken();
          await reset();
          for (const index of [0, 1]) await frontEnd.renewQueue(index);
          for (const index of [0, 1]) await frontEnd.disk(index).read(0, 8);
        });
      }

      test("breaks it with a table that goes on beyond its region", async () => {
        writeTable(frontEnd, ISLAND_END - 16n, [{ addr: 0n, len: 0, flags: NEXT, next: 1 }]);
        publish({ addr: ISLAND_END - 16n, len: 32, flags: INDIRECT });
        await breaksAlone(/outside guest memory/);
      });

      test("is served a table at an odd address", async () => {
        const table = places.table + 3n;
        writeTable(frontEnd, table, [
          { ...readable(places.header), flags: NEXT, next: 1 },
          { addr: places.data, len: 513, flags: WRITE },
        ]);
        publish({ addr: table, len: 32, flags: INDIRECT });
        await until(() => usedIdxOf(queue) === 1, "the request is used");
        assert.deepEqual(frontEnd.memory.read(Number(places.data), 513), Buffer.alloc(513));
      });

      test("is served a table behind other descriptors, as only a split ring may have it", async () => {
        writeTable(frontEnd, places.table, [{ addr: places.data, len: 513, flags: WRITE }]);
        publish(readable(places.header), { addr: places.table, len: 16, flags: INDIRECT });
        await until(() => usedIdxOf(queue) === 1, "the request is used");
        assert.deepEqual(frontEnd.memory.read(Number(places.data), 513), Buffer.alloc(513));
        assert.ok(!queue.takeError());
      });

      test("breaks it with a table of 2^28 descriptors that runs through all of memory", async () => {
        publish({ addr: REGION_START, len: 0xffff_fff0, flags: INDIRECT });
        await until(() => queue.hasUsed() || brokenLines().length > brokenBefore, "an end of it");
        await frontEnd.disk(1).read(0, 8);
      });

      test("finishes what is in flight before and tells the base of what it took", async () => {
        const disk = frontEnd.disk(0);
        const reads = Promise.all([disk.read(0, 8), disk.read(8, 8), disk.read(16, 8)]);
        await reads;
        ring.publishRaw(SIZE);
        queue.kick(true);
        await isBroken();
        assert.equal(await frontEnd.getVringBase(0), 3);
        assert.equal(usedIdxOf(queue), 3);
      });

      test("changes nothing when a broken ring is broken once more", async () => {
        ring.publishRaw(SIZE);
        queue.kick(true);
        await isBroken();
        for (let i = 0; i < 20; i++) {
          ring.publishRaw(SIZE + i);
          queue.kick(true);
        }
        await frontEnd.disk(1).read(0, 8);
        assert.equal(brokenLines().length, brokenBefore + 1);
        assert.ok(!queue.takeError());
      });

      /** The log has its line too, which another test must not take for its own. */
      async function isBroken(): Promise<void> {
        await until(() => queue.takeError(), "the err eventfd is signalled");
        await until(() => brokenLines().length > brokenBefore, "a log line");
      }
    });

    describe("with a packed ring", () => {
      let queue: Virtqueue;
      let ring: RawPackedRing;
      let places: Places;

      beforeEach(async () => {
        await connect(true);
        queue = frontEnd.queues[0]!;
        ring = rawPackedRing(queue);
        places = allocate();
      });

      for (const [name, chain, reason] of BREAKING_CHAINS) {
        test(`breaks it with ${name}`, async () => {
          writeChain(ring, chain(places));
          queue.kick(true);
          await breaksAlone(reason);
        });
      }

      test("breaks it with a chain that is longer than the ring", async () => {
        const chain = Array.from({ length: SIZE }, () => ({ addr: places.header, len: 0, flags: NEXT }));
        writeChain(ring, chain, { isOpen: true });
        queue.kick(true);
        await breaksAlone(/too long or runs in a circle/);
      });

      test("breaks it with a table that goes on beyond its region", async () => {
        writeChain(ring, [{ addr: ISLAND_END - 16n, len: 32, flags: INDIRECT }]);
        queue.kick(true);
        await breaksAlone(/outside guest memory/);
      });

      test("breaks it with a table behind another descriptor", async () => {
        writeChain(ring, [readable(places.header), { addr: places.table, len: 32, flags: INDIRECT }]);
        queue.kick(true);
        await breaksAlone(/where none may be/);
      });

      test("is given back the identifier that it made up", async () => {
        const chain = [readable(places.header), { addr: places.data, len: 513, flags: WRITE }];
        writeChain(ring, chain, { id: 0xbeef });
        queue.kick(true);
        await until(() => queue.hasUsed(), "the request is used");
        assert.equal(ring.descriptors.getUint16(12, true), 0xbeef);
        assert.equal(ring.descriptors.getUint32(8, true), 513);
        assert.ok(!queue.takeError());
        await frontEnd.disk(1).read(0, 8);
      });
    });

    test("can't have a file for its kicks", async () => {
      await connect(false);
      const file = openSync(daemon.imagePath, "r");
      try {
        assert.notEqual(await frontEnd.setVringKick(0, file), 0n);
        assert.notEqual(await frontEnd.setVringCall(0, file), 0n);
        assert.notEqual(await frontEnd.setVringErr(0, file), 0n);
      } finally {
        closeSync(file);
      }
      await frontEnd.disk(0).read(0, 8);
      await frontEnd.disk(1).read(0, 8);
    });
  });
}

function usedIdxOf({ ring }: Virtqueue): number {
  return (ring as SplitRing).usedIdx;
}
