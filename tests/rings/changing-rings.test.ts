// A driver that changes its ring, its tables and its headers while they are read: it harms its own ring at most.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import {
  BLK_HEADER_SIZE,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
} from "../../assembly/spec/virtio-blk.ts";
import {
  DESC_SIZE,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../../assembly/spec/virtqueue.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { DEFAULT_LAYOUT, type Memory } from "../../host/front-end/memory.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { RawPackedRing, RawSplitRing, rawRing } from "../support/raw-ring.ts";
import { Vringd } from "../support/vringd.ts";

const SIZE = 16;
const ROUNDS = 150;
/** Stores of one round: about as long as the daemon takes for what was published. */
const STORES = 1500;

const [REGION] = DEFAULT_LAYOUT;
const MEMORY_END = BigInt(REGION!.gpa + REGION!.byteLength);

const NEXT = VIRTQ_DESC_F_NEXT;
const WRITE = VIRTQ_DESC_F_WRITE;
const INDIRECT = VIRTQ_DESC_F_INDIRECT;

/** Filled with this, and never named in a descriptor. */
const GUARD = 0xaa;
const GUARD_SIZE = 65536;

/** A word of 64 bits, and what it is changed to. The first value is the honest one. */
interface Place {
  words: BigUint64Array;
  at: number;
  values: bigint[];
}

/** Guest memory of a request: guest addresses. */
interface Request {
  header: number;
  data: number;
  table: number;
}

for (const engine of ["io_uring", "threads"]) {
  describe(`a driver that changes its mind, with ${engine},`, { timeout: 60_000 }, () => {
    let daemon: Vringd;
    before(async () => {
      daemon = await Vringd.start({
        // All lines of a kind: at info most are left out.
        args: [`--engine=${engine}`, "--packed", "--num-queues=2", "--threads=2", "--log-level=debug"],
      });
    });
    after(() => daemon[Symbol.asyncDispose]());
    const brokenLines = () => daemon.linesLike(/ring broken/);

    for (const packed of [false, true]) {
      test(`harms its own ${packed ? "packed" : "split"} ring at most`, async (t) => {
        const random = tellSeed(t);
        const { pid } = daemon;
        const options = { packed, queues: 2, queueSize: SIZE };
        await using frontEnd = await FrontEnd.connect(daemon.socketPath, options);
        const guard = frontEnd.memory.bytes(frontEnd.memory.allocate(GUARD_SIZE), GUARD_SIZE).fill(GUARD);
        let isOver = false;
        const loaded = loadOther(frontEnd, random, () => isOver);
        const linesBefore = brokenLines().length;
        await torment(frontEnd, random);
        isOver = true;
        await loaded;
        const broken = brokenLines().slice(linesBefore);
        t.diagnostic(`the ring broke ${broken.length} times in ${ROUNDS} rounds`);
        assert.ok(broken.length > 0 && broken.length <= ROUNDS);
        assert.ok(
          broken.every((line) => line.includes("ring=0")),
          "the other ring broke",
        );
        assert.ok(guard.every((byte) => byte === GUARD));
        assert.ok(!frontEnd.queues[1]!.takeError(), "the other ring was reported");
        await frontEnd.renewQueue(0);
        await frontEnd.disk(0).read(0, 8);
        assert.equal(daemon.pid, pid);
      });
    }
  });
}

/** Rounds of a load on the other ring, each against its model of the disk. */
async function loadOther(frontEnd: FrontEnd, random: Random, isOver: () => boolean): Promise<void> {
  const load = { random, count: 100, depth: 4, firstSector: 4096, sectors: 1024, indirect: true };
  do await MixedLoad.run(frontEnd.disk(1), load);
  while (!isOver());
}

async function torment(frontEnd: FrontEnd, random: Random): Promise<void> {
  const { memory } = frontEnd;
  const request = {
    header: memory.allocate(BLK_HEADER_SIZE),
    data: memory.allocate(4096),
    table: memory.allocate(4096),
  };
  for (let round = 0; round < ROUNDS; round++) {
    const queue = frontEnd.queues[0]!;
    const ring = rawRing(queue);
    const places = [
      ...headerPlaces(memory, request),
      ...descriptorPlaces(ring.descriptors.buffer as ArrayBuffer, request, ring),
      ...descriptorPlaces(memory.view(request.table, SIZE * DESC_SIZE), request, ring),
    ];
    for (const { words, at, values } of places) Atomics.store(words, at, values[0]!);
    if (ring instanceof RawSplitRing) for (let head = 0; head < SIZE; head += 2) ring.publishRaw(head);
    queue.kick(true);
    for (let i = 0; i < STORES; i++) {
      const { words, at, values } = random.pick(places);
      Atomics.store(words, at, random.pick(values));
    }
    await nextTurn();
    await frontEnd.renewQueue(0);
  }
}

/** Types that write nothing to the disk. */
function headerPlaces(memory: Memory, { header }: Request): Place[] {
  const words = new BigUint64Array(memory.view(header, BLK_HEADER_SIZE));
  const types = [VIRTIO_BLK_T_IN, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, 0xffff_ffff];
  return [
    { words, at: 0, values: types.map(BigInt) },
    { words, at: 1, values: [0n, 2n ** 55n, 2n ** 64n - 1n] },
  ];
}

/** Two descriptors each make an honest read. */
function descriptorPlaces(bytes: ArrayBuffer, request: Request, ring: RawSplitRing | RawPackedRing): Place[] {
  const words = new BigUint64Array(bytes, 0, SIZE * 2);
  const encode = ring instanceof RawPackedRing ? encodePacked(ring) : encodeSplit;
  return Array.from({ length: SIZE }, (_, i) => i).flatMap((i) => {
    const isHeader = i % 2 === 0;
    const honest = isHeader ? request.header : request.data;
    const addresses = [BigInt(honest), BigInt(request.table), MEMORY_END - 256n, 2n ** 64n - 256n, 0n];
    const rests = [
      isHeader ? encode(BLK_HEADER_SIZE, NEXT, i + 1) : encode(513, WRITE, 0),
      encode(2 * DESC_SIZE, INDIRECT, 0),
      encode(17, INDIRECT, i),
      encode(4096, WRITE | NEXT, i),
      encode(0xffff_ffff, NEXT, 0xffff),
      encode(0, NEXT, SIZE),
    ];
    return [
      { words, at: i * 2, values: addresses },
      { words, at: i * 2 + 1, values: rests },
    ];
  });
}

type Encode = (length: number, flags: number, next: number) => bigint;

const encodeSplit: Encode = (length, flags, next) =>
  BigInt(length) | (BigInt(flags) << 32n) | (BigInt(next) << 48n);

function encodePacked({ availFlags }: RawPackedRing): Encode {
  return (length, flags, id) => BigInt(length) | (BigInt(id) << 32n) | (BigInt(flags | availFlags) << 48n);
}
