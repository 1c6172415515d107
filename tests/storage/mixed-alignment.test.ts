// Past the page cache, from buffers of any address: what was written beside each other at the same time is all there.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { VIRTIO_BLK_S_OK, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from "../../assembly/spec/virtio-blk.ts";
import { encodeBlkHeader } from "../../host/front-end/blk-driver.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const ROUNDS = Number(process.env.VRINGD_TEST_RUNS ?? 1500);
/** Four pages. */
const SECTORS = 32;
/** Where a buffer begins behind a page's start: all that O_DIRECT takes, and what it refuses. */
const SHIFTS = [0, 0, 4, 8, 1, 510, 512];

interface Placed {
  sector: number;
  gpa: number;
  bytes: Buffer;
}

/** One request a sector, all published at once. Places of status bytes follow each page of data. */
class Batches {
  private readonly base: number;

  constructor(private readonly frontEnd: FrontEnd) {
    this.base = frontEnd.memory.allocate(SECTORS * 16384 + 8192);
  }

  place(index: number, shift: number): number {
    return Math.ceil(this.base / 4096) * 4096 + index * 16384 + shift;
  }

  async run(type: number, placed: readonly Placed[], cuts: readonly number[]): Promise<void> {
    const { memory } = this.frontEnd;
    const queue = this.frontEnd.queues[0]!;
    const isWrite = type === VIRTIO_BLK_T_OUT;
    const statuses = placed.map(({ sector, gpa, bytes }, i) => {
      const header = this.place(i, 8192);
      const status = header + 16;
      memory.write(header, encodeBlkHeader(type, sector));
      memory.write(status, Buffer.of(0xff));
      if (isWrite) memory.write(gpa, bytes);
      const cut = cuts[i]!;
      const data = [
        { gpa, length: cut, writable: !isWrite },
        { gpa: gpa + cut, length: bytes.length - cut, writable: !isWrite },
      ].filter(({ length }) => length > 0);
      queue.add([
        { gpa: header, length: 16, writable: false },
        ...data,
        { gpa: status, length: 1, writable: true },
      ]);
      return status;
    });
    queue.publish();
    queue.kick(true);
    let used = 0;
    await until(() => {
      while (queue.popUsed() >= 0) used++;
      return used === placed.length;
    }, "all requests are used");
    for (const status of statuses) assert.deepEqual(memory.read(status, 1), Buffer.of(VIRTIO_BLK_S_OK));
  }
}

for (const engine of ["io_uring", "threads"]) {
  describe(`writes past the page cache by ${engine}`, { timeout: 180_000 }, () => {
    test("of neighbouring sectors, from aligned buffers and others, all stay", async (t) => {
      const random = tellSeed(t);
      await using daemon = await Vringd.start({ args: [`--engine=${engine}`, "--direct"], onDisk: true });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      const batches = new Batches(frontEnd);
      for (let round = 0; round < ROUNDS; round++) {
        const first = random.below(64) * SECTORS;
        const written = Array.from({ length: SECTORS }, (_, i) => ({
          sector: first + i,
          gpa: batches.place(i, random.pick(SHIFTS)),
          bytes: Buffer.alloc(512, `round ${round} sector ${i} `),
        }));
        await batches.run(VIRTIO_BLK_T_OUT, written, cutsOf(random));
        await check(frontEnd, batches, written, random, round);
      }
      const inFile = daemon.imageBytes(0, SECTORS);
      assert.deepEqual(inFile, await frontEnd.disk().read(0, SECTORS));
    });

    test("longer than a bounce buffer arrive whole, and are read so", async (t) => {
      const random = tellSeed(t);
      await using daemon = await Vringd.start({ args: [`--engine=${engine}`, "--direct"], onDisk: true });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      const { memory } = frontEnd;
      const batches = new Batches(frontEnd);
      const byteLength = 200 * 512;
      const gpa = memory.allocate(byteLength + 4096) + 4;
      const bytes = random.bytes(byteLength);
      await batches.run(VIRTIO_BLK_T_OUT, [{ sector: 8, gpa, bytes }], [9000 + random.below(8192)]);
      assert.deepEqual(daemon.imageBytes(8, 200), bytes);
      memory.write(gpa, Buffer.alloc(byteLength));
      await batches.run(VIRTIO_BLK_T_IN, [{ sector: 8, gpa, bytes }], [random.below(byteLength)]);
      assert.deepEqual(memory.read(gpa, byteLength), bytes);
    });
  });
}

/** Two segments where the cut is not 0, of which one or both are misaligned. */
function cutsOf(random: Random): number[] {
  return Array.from({ length: SECTORS }, () => random.pick([0, 0, 0, 8, 300]));
}

async function check(
  frontEnd: FrontEnd,
  batches: Batches,
  written: readonly Placed[],
  random: Random,
  round: number,
): Promise<void> {
  const read = written.map(({ sector, bytes }, i) => ({
    sector,
    gpa: batches.place(i, random.pick(SHIFTS)),
    bytes,
  }));
  await batches.run(VIRTIO_BLK_T_IN, read, cutsOf(random));
  for (const { sector, gpa, bytes } of read) {
    assert.deepEqual(frontEnd.memory.read(gpa, 512), bytes, `sector ${sector} in round ${round}`);
  }
}
