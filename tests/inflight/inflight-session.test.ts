// The inflight region as front-end and back-end pass it to and fro: made, checked, let go, and left to a successor.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  INFLIGHT_DESC_NUM,
  INFLIGHT_REGION_VERSION,
  INFLIGHT_VERSION,
  PACKED_ENTRIES,
  PACKED_ENTRY_INFLIGHT,
  PACKED_ENTRY_LAST,
  PACKED_ENTRY_NEXT,
  PACKED_ENTRY_NUM,
  PACKED_ENTRY_SIZE,
  PACKED_FREE_HEAD,
  PACKED_OLD_FREE_HEAD,
  SPLIT_USED_IDX,
} from "../../assembly/spec/inflight.ts";
import { VIRTIO_F_RING_INDIRECT_DESC } from "../../assembly/spec/virtqueue.ts";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import { Memory } from "../../host/front-end/memory.ts";
import { createEventfd } from "../../host/linux/eventfd.ts";
import { close, fcntl, ftruncate } from "../../host/linux/libc.ts";
import { mapShared, unmap } from "../../host/linux/mapping.ts";
import { createMemfd } from "../../host/linux/memfd.ts";
import { decodeInflight, encodeInflight, type InflightDescription } from "../../host/protocol/codec.ts";
import * as m from "../../host/protocol/messages.ts";
import { CrashLoad } from "../support/crash-load.ts";
import { countInflight, inflightStride } from "../support/inflight-entries.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { SectorModel } from "../support/sector-model.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;
const F_SEAL_WRITE = 8;

const IMAGE_SIZE = 8 << 20;
const PROTOCOL_FEATURES = [
  m.VHOST_USER_PROTOCOL_F_MQ,
  m.VHOST_USER_PROTOCOL_F_REPLY_ACK,
  m.VHOST_USER_PROTOCOL_F_CONFIG,
  m.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  m.VHOST_USER_PROTOCOL_F_RESET_DEVICE,
  m.VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
];

const FORMATS = [
  { format: "split", packed: false },
  { format: "packed", packed: true },
];

describe("an inflight region", () => {
  let daemon: Vringd;
  before(async () => {
    daemon = await Vringd.start({ byteLength: IMAGE_SIZE, args: ["--packed"] });
  });
  after(() => daemon[Symbol.asyncDispose]());
  // A front-end that has gone is served to its end beside the next one.
  beforeEach(() => until(() => !daemon.isMapped(), "nothing is left of the test before"));

  const connect = (options: FrontEndOptions = {}) => FrontEnd.connect(daemon.socketPath, options);
  const isMapped = () => daemon.isMapped("vringd-inflight");

  for (const { format, packed } of FORMATS) {
    for (const [numQueues, queueSize] of [
      [1, 128],
      [4, 128],
      [3, 2],
      [16, 1024],
    ] as const) {
      test(`for ${numQueues} ${format} ring(s) of ${queueSize} has room for 1024 entries each`, async () => {
        await using frontEnd = await connect({ packed });
        const { description, fd } = await frontEnd.getInflightFd(numQueues, queueSize);
        const byteLength = numQueues * inflightStride(1024, true);
        assert.deepEqual(description, { mmapSize: BigInt(byteLength), mmapOffset: 0n, numQueues, queueSize });
        const address = mapShared(fd!, 0n, byteLength);
        unmap(address, byteLength);
        close(fd!);
      });
    }
  }

  test("can be written but neither grow nor shrink", async () => {
    await using frontEnd = await connect();
    const { description, fd } = await frontEnd.getInflightFd(1, 128);
    const size = Number(description.mmapSize);
    assert.equal(fcntl(fd!, F_GET_SEALS, 0) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 6);
    assert.equal(ftruncate(fd!, size - 1), -1);
    assert.equal(ftruncate(fd!, size + 1), -1);
    assert.equal(ftruncate(fd!, size), 0);
    close(fd!);
  });

  for (const byteLength of [20, 24]) {
    test(`is described in ${byteLength} bytes to who asks in as many`, async () => {
      await using frontEnd = await connect();
      const wish = { mmapSize: 0n, mmapOffset: 0n, numQueues: 1, queueSize: 128 };
      const reply = await frontEnd.query(m.VHOST_USER_GET_INFLIGHT_FD, encodeInflight(wish, byteLength));
      assert.equal(reply.payload.length, byteLength);
      const payload = encodeInflight(decodeInflight(reply), byteLength);
      assert.equal(await frontEnd.command(m.VHOST_USER_SET_INFLIGHT_FD, payload, reply.fds), 0n);
      reply.fds.forEach(close);
    });
  }

  for (const [what, numQueues, queueSize] of [
    ["no queues", 0, 128],
    ["more queues than there are", 257, 128],
    ["rings of size 0", 1, 0],
    ["rings larger than any can be", 1, 40000],
  ] as const) {
    test(`isn't made for ${what}`, async () => {
      await using frontEnd = await connect();
      const { description, fd } = await frontEnd.getInflightFd(numQueues, queueSize);
      assert.equal(fd, undefined);
      assert.equal(description.mmapSize, 0n);
      await frontEnd.disk().read(0, 1);
    });
  }

  const MAX = 64 << 20;
  const regionSize = inflightStride(128, false);
  const good = { mmapSize: BigInt(regionSize), mmapOffset: 0n, numQueues: 1, queueSize: 128 };
  const memfd = (byteLength = regionSize) => createMemfd("region", byteLength);
  const sealed = () => {
    const fd = memfd();
    assert.equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    return fd;
  };
  const refused: [what: string, changes: Partial<InflightDescription>, fd: () => number][] = [
    ["of another size than its queues", { mmapSize: good.mmapSize - 64n }, memfd],
    ["of no size", { mmapSize: 0n }, memfd],
    ["larger than any can be", { mmapSize: 1n << 32n }, memfd],
    ["as large as a number can say", { mmapSize: 0xffff_ffff_ffff_ffffn, mmapOffset: 8n }, memfd],
    ["in a file too small for it", {}, () => memfd(regionSize - 1)],
    ["of 8 bytes more than 64 MiB", { mmapSize: BigInt(MAX + 8) }, () => memfd(2 * MAX)],
    [
      "that ends 8 bytes past 64 MiB of pages",
      { mmapSize: BigInt(MAX), mmapOffset: 8n },
      () => memfd(2 * MAX),
    ],
    ["that begins 7 bytes past a good offset", { mmapOffset: 7n }, () => memfd(regionSize * 2)],
    ["too small for packed rings as for split ones", { numQueues: 2 }, memfd],
    ["that begins near the end of its file", { mmapOffset: 64n }, memfd],
    ["that begins at an odd offset", { mmapOffset: 4n }, () => memfd(regionSize * 2)],
    ["that begins past the end of everything", { mmapOffset: 0xffff_ffff_ffff_f000n }, memfd],
    ["for no queues", { numQueues: 0 }, memfd],
    ["for more queues than fit", { numQueues: 65535 }, memfd],
    ["for rings of size 0", { queueSize: 0 }, memfd],
    ["for larger rings than fit", { queueSize: 256 }, memfd],
    ["in a file that can't be written", {}, sealed],
    ["in what is no file", {}, createEventfd],
  ];
  for (const [what, changes, open] of refused) {
    test(`${what} is refused`, async () => {
      await using frontEnd = await connect();
      const fd = open();
      assert.notEqual(await frontEnd.setInflightFd({ ...good, ...changes }, fd), 0n);
      close(fd);
      await daemon.waitForLog(/request refused.*(SET_INFLIGHT_FD|mmap)/);
      await frontEnd.disk().read(0, 1);
      assert.ok(!isMapped());
    });
  }

  test("stays when its replacement is refused", async () => {
    await using frontEnd = await FrontEnd.open(daemon.socketPath);
    await frontEnd.negotiate();
    await frontEnd.shareMemory(new Memory());
    const { bytes } = await frontEnd.trackInflight(1, 128);
    const fd = memfd();
    assert.notEqual(await frontEnd.setInflightFd({ ...good, mmapOffset: 64n }, fd), 0n);
    close(fd);
    await frontEnd.addQueue(128);
    await frontEnd.disk().read(0, 1);
    assert.equal(bytes.readUInt16LE(INFLIGHT_REGION_VERSION), INFLIGHT_VERSION);
  });

  test("stays when its replacement can't be mapped, whatever the size of that", async () => {
    for (const byteLength of [regionSize, 1 << 20]) {
      await using frontEnd = await FrontEnd.open(daemon.socketPath);
      await frontEnd.negotiate();
      await frontEnd.shareMemory(new Memory());
      const { bytes } = await frontEnd.trackInflight(1, 128);
      await frontEnd.addQueue(128);
      await frontEnd.disk().write(0, Buffer.alloc(512, 1));
      const usedIdx = bytes.readUInt16LE(SPLIT_USED_IDX);
      const fd = memfd(byteLength);
      assert.equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
      assert.notEqual(await frontEnd.setInflightFd({ ...good, mmapSize: BigInt(byteLength) }, fd), 0n);
      close(fd);
      await frontEnd.disk().write(0, Buffer.alloc(512, 1));
      assert.equal(bytes.readUInt16LE(SPLIT_USED_IDX), usedIdx + 1, "the region before goes on");
    }
  });

  test("is replaced as a whole by a smaller one", async () => {
    await using frontEnd = await connect({ queues: 0 });
    await frontEnd.trackInflight(4, 1024);
    const fd = memfd();
    assert.equal(await frontEnd.setInflightFd(good, fd), 0n);
    close(fd);
    assert.ok(!isMapped());
    await frontEnd.addQueue(128);
    await frontEnd.disk().read(0, 1);
  });

  test("is refused without a descriptor", async () => {
    await using frontEnd = await connect();
    assert.notEqual(await frontEnd.command(m.VHOST_USER_SET_INFLIGHT_FD, encodeInflight(good)), 0n);
    await frontEnd.disk().read(0, 1);
  });

  test("may be as large as 64 MiB, and begin at any multiple of 8", async () => {
    for (const changes of [{ mmapSize: BigInt(MAX) }, { mmapOffset: 8n }, { mmapOffset: 4096n - 8n }]) {
      await using frontEnd = await connect({ queues: 0 });
      const fd = memfd(2 * MAX);
      assert.equal(await frontEnd.setInflightFd({ ...good, ...changes }, fd), 0n);
      close(fd);
      await frontEnd.addQueue(128);
      await frontEnd.disk().read(0, 1);
    }
  });

  test("with a packed record of no descriptors breaks its ring", async () => {
    await using frontEnd = await connect({ packed: true, queues: 0 });
    const { bytes, description, fd } = await frontEnd.trackInflight(1);
    await frontEnd.addQueue(128);
    await frontEnd.disk().read(0, 1);
    const base = await frontEnd.stopQueue(0);
    const head = bytes.readUInt16LE(PACKED_FREE_HEAD);
    const entry = PACKED_ENTRIES + head * PACKED_ENTRY_SIZE;
    const next = bytes.readUInt16LE(entry + PACKED_ENTRY_NEXT);
    bytes.writeUInt16LE(next, PACKED_FREE_HEAD);
    bytes.writeUInt16LE(next, PACKED_OLD_FREE_HEAD);
    bytes[entry + PACKED_ENTRY_INFLIGHT] = 1;
    bytes.writeUInt16LE(head, entry + PACKED_ENTRY_LAST);
    bytes.writeUInt16LE(0, entry + PACKED_ENTRY_NUM);
    assert.equal(await frontEnd.setInflightFd(description, fd), 0n);
    await frontEnd.startQueue(0, base);
    await until(() => frontEnd.queues[0]!.takeError(), "the ring is reported broken");
    await daemon.waitForLog(/ring broken.*the inflight region does not fit the ring/);
  });

  test("may lie anywhere in its file", async () => {
    await using frontEnd = await FrontEnd.open(daemon.socketPath);
    await frontEnd.negotiate();
    const fd = memfd(3 * 4096);
    assert.equal(await frontEnd.setInflightFd({ ...good, mmapOffset: 4096n + 64n }, fd), 0n);
    close(fd);
    await frontEnd.shareMemory(new Memory());
    await frontEnd.addQueue();
    await frontEnd.disk().write(0, Buffer.alloc(512, 1));
  });

  for (const { format, packed } of FORMATS) {
    test(`for larger ${format} rings serves smaller ones, again and again`, async () => {
      await using frontEnd = await connect({ packed, queues: 0 });
      await frontEnd.trackInflight(1, 256);
      await frontEnd.addQueue(128);
      for (let i = 0; i < 300; i++) {
        if (i % 100 === 99) await frontEnd.reconnect(daemon.socketPath);
        await frontEnd.disk().write(i, Buffer.alloc(512, i));
      }
    });
  }

  test("that was only asked for changes nothing", async () => {
    await using frontEnd = await connect();
    const { fd } = await frontEnd.getInflightFd(1, 128);
    await frontEnd.disk().write(0, Buffer.alloc(512, 1));
    assert.ok(!isMapped());
    close(fd!);
  });

  test("goes with a reset, and the next one counts", async () => {
    await using frontEnd = await connect({ inflight: true });
    await frontEnd.disk().write(0, Buffer.alloc(512, 1));
    assert.ok(isMapped());
    assert.equal(await frontEnd.resetDevice(), 0n);
    assert.ok(!isMapped());
    await frontEnd.negotiate();
    await frontEnd.trackInflight(1);
    await frontEnd.renewQueue(0);
    await frontEnd.disk().write(0, Buffer.alloc(512, 2));
    assert.ok(isMapped());
  });

  test("goes with its front-end", async () => {
    const frontEnd = await connect({ inflight: true });
    assert.ok(isMapped());
    frontEnd.close();
    await until(() => !isMapped(), "it is unmapped");
  });

  for (const { format, packed } of FORMATS) {
    test(`full of garbage breaks a ${format} ring at most, until there is a sound one`, async (t) => {
      const random = tellSeed(t);
      const { pid } = daemon;
      await using frontEnd = await connect({ packed, queues: 0 });
      await frontEnd.trackInflight(1);
      await frontEnd.addQueue();
      for (let i = 0; i < 60; i++) {
        await frontEnd.stopQueue(0);
        const { bytes, description, fd } = frontEnd.inflight!;
        garble(bytes, random);
        assert.equal(await frontEnd.setInflightFd(description, fd), 0n);
        // A ring as a driver leaves it that was resetting; now and then the one that is there already.
        if (random.below(3) > 0) await frontEnd.renewQueue(0);
        else await frontEnd.startQueue(0, random.pick(frontEnd.basesAfterCrash()));
        await sleep(random.below(3));
      }
      await frontEnd.trackInflight(1);
      await frontEnd.renewQueue(0);
      await frontEnd.disk().write(0, Buffer.alloc(512, 3));
      assert.deepEqual(await frontEnd.disk().read(0, 1), Buffer.alloc(512, 3));
      assert.equal(daemon.pid, pid);
      assert.ok(!daemon.hasEnded);
    });
  }
});

/** All of it, or what is left between a few fields that look sound. */
function garble(bytes: Buffer, random: Random): void {
  const kind = random.below(4);
  random.bytes(bytes.length).copy(bytes);
  if (kind === 0) return;
  bytes.writeUInt16LE(INFLIGHT_VERSION, INFLIGHT_REGION_VERSION);
  bytes.writeUInt16LE(128, INFLIGHT_DESC_NUM);
  if (kind === 1) return;
  // Indices that may be within bounds: used_idx, or free heads and used positions.
  for (let at = SPLIT_USED_IDX - 2; at < bytes.length; at += 2) {
    if (random.below(kind === 2 ? 2 : 8) > 0) bytes.writeUInt16LE(random.below(129), at);
  }
}

/** Requests of a file in memory end within the turn that takes them; those of a disk stay in flight for a while. */
async function startOnSlowStorage(args: readonly string[]): Promise<Vringd> {
  try {
    return await Vringd.start({ byteLength: IMAGE_SIZE, onDisk: true, args: [...args, "--direct"] });
  } catch (error) {
    if (!/no O_DIRECT/.test((error as Error).message)) throw error;
    return Vringd.start({ byteLength: IMAGE_SIZE, onDisk: true, args });
  }
}

/** A front-end with a load on one queue, which it can stop. */
class Bench {
  readonly model = new SectorModel(IMAGE_SIZE / 512);
  readonly load: CrashLoad;

  private constructor(
    readonly daemon: Vringd,
    readonly frontEnd: FrontEnd,
    readonly packed: boolean,
    random: Random,
  ) {
    const indirect = frontEnd.hasFeature(VIRTIO_F_RING_INDIRECT_DESC);
    const setup = { random, depth: 128, indirect, sectorsMax: 128 };
    this.load = new CrashLoad(frontEnd.memory, frontEnd.queues[0]!, this.model, setup);
  }

  static async start(engine: string, packed: boolean, suspends: boolean, random: Random): Promise<Bench> {
    const daemon = await startOnSlowStorage(["--packed", `--engine=${engine}`]);
    const protocolFeatures = [...PROTOCOL_FEATURES];
    if (suspends) protocolFeatures.push(m.VHOST_USER_PROTOCOL_F_GET_VRING_BASE_INFLIGHT);
    const setup = { packed, inflight: true, protocolFeatures, queueSize: 256 };
    const frontEnd = await FrontEnd.connect(daemon.socketPath, setup);
    return new Bench(daemon, frontEnd, packed, random);
  }

  /** Stops the ring soon after its load has begun. */
  async stopUnderLoad(random: Random): Promise<number> {
    this.load.resume();
    await sleep(random.below(20));
    const base = await this.frontEnd.stopQueue(0);
    this.load.pause();
    return base;
  }

  get recorded(): number {
    const { bytes, description } = this.frontEnd.inflight!;
    return countInflight(bytes, description, this.packed);
  }

  /** What only the daemon writes: the inflight region and the image. */
  hashOfDaemons(): string {
    const hash = createHash("sha256").update(this.frontEnd.inflight!.bytes);
    return hash.update(this.daemon.imageBytes(0, IMAGE_SIZE / 512)).digest("hex");
  }

  /** Guest memory, which the driver writes too. */
  hashOfGuests(): string {
    const hash = createHash("sha256");
    for (const { gpa, byteLength } of this.frontEnd.memory.regions) {
      hash.update(this.frontEnd.memory.bytes(gpa, byteLength));
    }
    return hash.digest("hex");
  }

  /** Resolves when the driver has taken what was completed. */
  async driverIsDone(): Promise<void> {
    let last = "";
    for (let now = this.hashOfGuests(); now !== last; now = this.hashOfGuests()) {
      last = now;
      await sleep(DRIVER_MS);
    }
  }

  async goOnWithSuccessor(base: number): Promise<void> {
    this.frontEnd.disconnect();
    assert.equal(await this.daemon.stop(), 0);
    await this.daemon.restart();
    await this.frontEnd.reconnect(this.daemon.socketPath, [base]);
    await this.load.completedUpTo(this.load.submitted, 10_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.load.end();
    this.frontEnd.close();
    await this.daemon[Symbol.asyncDispose]();
  }
}

const SETTLE_MS = 200;
/** A driver that has something to take does it within this time, even on a busy machine. */
const DRIVER_MS = 300;
const ROUNDS = 2;
const ROUNDS_MAX = 20;

describe("GET_VRING_BASE under load", () => {
  for (const engine of ["io_uring", "threads"]) {
    for (const { format, packed } of FORMATS) {
      test(`leaves requests to a successor if that was agreed on, on a ${format} ring, with ${engine}`, async (t) => {
        const random = tellSeed(t);
        await using bench = await Bench.start(engine, packed, true, random);
        let left = 0;
        // The fallback engine can't cancel: it completes them.
        const canLeave = engine === "io_uring";
        for (let round = 0; round < (canLeave && left === 0 ? ROUNDS_MAX : ROUNDS); round++) {
          const base = await bench.stopUnderLoad(random);
          left += bench.recorded;
          const atReply = bench.hashOfDaemons();
          await bench.driverIsDone();
          const guests = bench.hashOfGuests();
          await sleep(SETTLE_MS);
          assert.equal(bench.hashOfDaemons(), atReply, "region or image were touched after the reply");
          assert.equal(bench.hashOfGuests(), guests, "guest memory was touched after the reply");
          assert.ok(bench.recorded <= bench.load.inFlight);
          bench.model.checkImage(bench.daemon.imagePath);
          await bench.goOnWithSuccessor(base);
          assert.equal(bench.recorded, 0);
          bench.model.checkImage(bench.daemon.imagePath);
        }
        t.diagnostic(`${left} requests were left`);
        assert.equal(left > 0, canLeave);
      });

      test(`completes requests otherwise, on a ${format} ring, with ${engine}`, async (t) => {
        const random = tellSeed(t);
        await using bench = await Bench.start(engine, packed, false, random);
        for (let round = 0; round < ROUNDS; round++) {
          const base = await bench.stopUnderLoad(random);
          assert.equal(bench.recorded, 0);
          if (packed) assert.equal(base & 0xffff, base >>> 16, "available and used differ");
          await bench.goOnWithSuccessor(base);
        }
      });
    }
  }
});
