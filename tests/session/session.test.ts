// The session, request by request, over a real socket; memory and data plane behind it are fakes.
import assert from "node:assert/strict";
import { readdirSync, readSync, writeSync } from "node:fs";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { WRITE_THROUGH_OFF, WRITE_THROUGH_UNTIL_FLUSH } from "../../assembly/abi/device-block.ts";
import {
  BLK_CONFIG_SIZE,
  BLK_CONFIG_WRITEBACK,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_FLUSH,
} from "../../assembly/spec/virtio-blk.ts";
import {
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "../../assembly/spec/virtqueue.ts";
import { Disconnected, Requests } from "../../host/front-end/requests.ts";
import { createEventfd, drainEventfd } from "../../host/linux/eventfd.ts";
import { close } from "../../host/linux/libc.ts";
import { createMemfd } from "../../host/linux/memfd.ts";
import { unixPair } from "../../host/linux/unix-socket.ts";
import { createLog } from "../../host/process/log.ts";
import {
  encodeConfig,
  encodeLog,
  encodeU64,
  encodeVringState,
  type MemoryRegion,
  type VringAddress,
} from "../../host/protocol/codec.ts";
import { Connection } from "../../host/protocol/connection.ts";
import { featureMask, hasFeature } from "../../host/protocol/feature-bits.ts";
import * as m from "../../host/protocol/messages.ts";
import { Session } from "../../host/session/session.ts";
import { limitTests } from "../support/bounded-test.ts";
import {
  BLK_OPTIONS,
  FakeDataPlane,
  FakeInflight,
  FakeLinearMemory,
  FakeLog,
  FakeMemory,
  fakeBlockDevice,
  LoneSeat,
} from "../support/fakes.ts";
import { pipe } from "../support/strange-files.ts";

/** Far more than the slowest takes: what waits longer waits for ever. */
limitTests(30_000);

const log = await createLog("silent" as never, "json");

const PROTOCOL_FEATURES = [0, 1, 3, 5, 9, 12, 13, 15, 16, 19, 20];
const RING_FEATURES = featureMask([VIRTIO_F_VERSION_1, m.VHOST_USER_F_PROTOCOL_FEATURES]);
/** Which nothing here offers. */
const VIRTIO_F_IN_ORDER = 35;
const LOG_FEATURES = RING_FEATURES | featureMask([m.VHOST_F_LOG_ALL]);
const LOG = { mmapSize: 4096n, mmapOffset: 0n };
const USER_ADDRESS = 0x7f0000000000n;
const REGION: MemoryRegion = {
  gpa: 0n,
  byteLength: 0x100000n,
  userAddress: USER_ADDRESS,
  mmapOffset: 0n,
};
const OTHER_REGION = { ...REGION, gpa: 0x40000000n, userAddress: 0x7f4000000000n };

/** One session, and the front-end's end of it. */
class Bench extends Requests {
  readonly inflight = new FakeInflight();
  readonly memory = new FakeMemory();
  readonly dataPlane = new FakeDataPlane();
  readonly dirtyLog = new FakeLog();
  readonly session: Session;
  readonly ended: Promise<unknown>;
  private readonly fds: number[] = [];

  private readonly linear = new FakeLinearMemory();

  constructor() {
    const [near, far] = unixPair();
    super(new Connection(far));
    const device = fakeBlockDevice();
    const nothing = () => {};
    device.openEngines({
      memory: this.linear.linear,
      log,
      configChanged: nothing,
      whileStopped: (change) => change(),
      requestFailed: nothing,
    });
    const { inflight, memory, dataPlane: rings } = this;
    const served = { device, packed: true, rings, dirtyLog: this.dirtyLog, isAlone: () => true };
    this.session = new Session(new Connection(near), served, { seat: new LoneSeat(), inflight, memory }, log);
    this.ended = this.session.run();
  }

  get writeThrough(): number {
    return this.linear.writeThrough;
  }

  /** Everything negotiated, memory shared, nothing known of any ring. */
  static async negotiated(features = RING_FEATURES): Promise<Bench> {
    const bench = new Bench();
    await bench.setProtocolFeatures(featureMask(PROTOCOL_FEATURES));
    assert.equal(await bench.setFeatures(features), 0n);
    assert.equal(await bench.setMemTable([REGION], [bench.memfd()]), 0n);
    return bench;
  }

  static async running(features = RING_FEATURES): Promise<Bench> {
    const bench = await Bench.negotiated(features);
    await bench.describeRing(0);
    await bench.setVringKick(0, bench.eventfd());
    await bench.setVringEnable(0, true);
    assert.deepEqual(bench.dataPlane.events, ["start 0"]);
    return bench;
  }

  async describeRing(index: number, size = 128): Promise<void> {
    assert.equal(await this.setVringNum(index, size), 0n);
    assert.equal(await this.setVringBase(index, 0), 0n);
    assert.equal(await this.setVringAddr(addresses(index)), 0n);
  }

  eventfd(): number {
    return this.keep(createEventfd());
  }

  memfd(): number {
    return this.keep(createMemfd("guest", 0x100000));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.connection.close();
    await this.ended;
    for (const fd of this.fds) close(fd);
  }

  private keep(fd: number): number {
    this.fds.push(fd);
    return fd;
  }
}

function addresses(index: number, changes: Partial<VringAddress> = {}): VringAddress {
  return {
    index,
    flags: 0,
    descriptor: USER_ADDRESS,
    available: USER_ADDRESS + 0x10000n,
    used: USER_ADDRESS + 0x20000n,
    log: 0n,
    ...changes,
  };
}

function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

test("a reply has flags of exactly 5", async () => {
  await using bench = new Bench();
  assert.equal((await bench.query(m.VHOST_USER_GET_FEATURES)).flags, 5);
});

test("an acknowledgement has flags of exactly 5", async () => {
  await using bench = await Bench.negotiated();
  const reply = await bench.query(m.VHOST_USER_SET_OWNER, undefined, [], m.VHOST_USER_NEED_REPLY_MASK);
  assert.equal(reply.flags, 5);
});

test("nothing is acknowledged before REPLY_ACK is negotiated", async () => {
  await using bench = new Bench();
  await bench.raw(m.VHOST_USER_SET_OWNER, undefined, [], m.VHOST_USER_NEED_REPLY_MASK);
  await bench.getFeatures();
});

test("GET_FEATURES offers protocol features beside the device's", async () => {
  await using bench = new Bench();
  const features = await bench.getFeatures();
  for (const bit of [VIRTIO_F_VERSION_1, VIRTIO_BLK_F_FLUSH, m.VHOST_USER_F_PROTOCOL_FEATURES]) {
    assert.ok(hasFeature(features, bit), `bit ${bit}`);
  }
  assert.ok(hasFeature(features, m.VHOST_F_LOG_ALL));
});

test("the protocol features are the ones that are kept", async () => {
  await using bench = new Bench();
  assert.equal(await bench.getProtocolFeatures(), featureMask(PROTOCOL_FEATURES));
});

test("features that were not offered are refused, and the session goes on", async () => {
  await using bench = await Bench.negotiated();
  assert.notEqual(await bench.setFeatures(RING_FEATURES | featureMask([VIRTIO_F_IN_ORDER])), 0n);
  assert.equal(await bench.setFeatures(RING_FEATURES), 0n);
});

test("ANY_LAYOUT, which QEMU negotiates by itself, is taken", async () => {
  await using bench = await Bench.negotiated();
  assert.equal(await bench.setFeatures(RING_FEATURES | featureMask([27])), 0n);
});

test("a second SET_FEATURES leaves running rings alone", async () => {
  await using bench = await Bench.running();
  assert.equal(await bench.setFeatures(RING_FEATURES), 0n);
  assert.deepEqual(bench.dataPlane.events, ["start 0"]);
});

test("SET_FEATURES can't change the format of a running ring", async () => {
  await using bench = await Bench.running();
  assert.notEqual(await bench.setFeatures(RING_FEATURES | featureMask([VIRTIO_F_RING_PACKED])), 0n);
});

test("a ring waits to be enabled if protocol features were negotiated", async () => {
  await using bench = await Bench.negotiated();
  await bench.describeRing(0);
  await bench.setVringKick(0, bench.eventfd());
  assert.deepEqual(bench.dataPlane.events, []);
  await bench.setVringEnable(0, true);
  assert.deepEqual(bench.dataPlane.events, ["start 0"]);
});

test("a ring needs no enabling if protocol features were not negotiated", async () => {
  await using bench = await Bench.negotiated(featureMask([VIRTIO_F_VERSION_1]));
  await bench.describeRing(0);
  await bench.setVringKick(0, bench.eventfd());
  assert.deepEqual(bench.dataPlane.events, ["start 0"]);
});

test("a ring starts without a kick, since that may have come before", async () => {
  await using bench = await Bench.running();
  assert.equal(bench.dataPlane.running.get(0)?.index, 0);
});

test("a ring that is described after its kick descriptor came starts then", async () => {
  await using bench = await Bench.negotiated();
  await bench.setVringKick(0, bench.eventfd());
  await bench.setVringEnable(0, true);
  await bench.describeRing(0);
  assert.deepEqual(bench.dataPlane.events, ["start 0"]);
});

test("a ring is started with what the front-end said of it", async () => {
  await using bench = await Bench.negotiated(RING_FEATURES | featureMask([VIRTIO_F_RING_EVENT_IDX]));
  await bench.describeRing(2, 64);
  await bench.setVringBase(2, 7);
  await bench.setVringKick(2);
  await bench.setVringEnable(2, true);
  assert.deepEqual(bench.dataPlane.running.get(2), {
    index: 2,
    size: 64,
    packed: false,
    eventIdx: true,
    descPtr: 0,
    driverPtr: 0x10000,
    devicePtr: 0x20000,
    descGpa: 0n,
    deviceGpa: 0x20000n,
    base: 7,
    kickFd: -1,
    callFd: -1,
    inflight: undefined,
  });
});

test("the size of a split ring is a power of two, and a refusal comes at once", async () => {
  await using bench = await Bench.negotiated();
  for (const size of [3, 127, 1023, 32767]) {
    assert.notEqual(await bench.setVringNum(0, size), 0n, `size ${size}`);
  }
  for (const size of [2, 32768]) assert.equal(await bench.setVringNum(0, size), 0n, `size ${size}`);
  for (const size of [0, 1, 32769, 65536])
    assert.notEqual(await bench.setVringNum(0, size), 0n, `size ${size}`);
});

test("the size of a packed ring is any", async () => {
  await using bench = await Bench.negotiated(RING_FEATURES | featureMask([VIRTIO_F_RING_PACKED]));
  for (const size of [2, 3, 127, 32767]) assert.equal(await bench.setVringNum(0, size), 0n, `size ${size}`);
});

test("a size that only a packed ring can have doesn't outlive PACKED", async () => {
  await using bench = await Bench.negotiated(RING_FEATURES | featureMask([VIRTIO_F_RING_PACKED]));
  assert.equal(await bench.setVringNum(0, 3), 0n);
  await bench.setVringBase(0, 0x80008000);
  await bench.setVringAddr(addresses(0));
  assert.equal(await bench.setFeatures(RING_FEATURES), 0n);
  await bench.setVringBase(0, 0);
  await bench.setVringKick(0, bench.eventfd());
  assert.notEqual(await bench.setVringEnable(0, true), 0n);
  assert.deepEqual(bench.dataPlane.events, []);
});

test("a base that its ring can't have is refused at once", async () => {
  await using split = await Bench.negotiated();
  await split.setVringNum(0, 128);
  for (const base of [0x10000, 0x80008000, 0xffffffff]) {
    assert.notEqual(await split.setVringBase(0, base), 0n, `base 0x${base.toString(16)}`);
  }
  assert.equal(await split.setVringBase(0, 0xffff), 0n);

  await using packed = await Bench.negotiated(RING_FEATURES | featureMask([VIRTIO_F_RING_PACKED]));
  await packed.setVringNum(0, 100);
  for (const base of [100, 0x80000000 + 100, 100 * 0x10000, 0x7fff, 0x7fff0000, 0xffffffff]) {
    assert.notEqual(await packed.setVringBase(0, base), 0n, `base 0x${base.toString(16)}`);
  }
  for (const base of [0, 99, 99 * 0x10000, 0x80638063]) {
    assert.equal(await packed.setVringBase(0, base), 0n, `base 0x${base.toString(16)}`);
  }
});

test("a base that came before the size is checked when the ring starts", async () => {
  await using bench = await Bench.negotiated(RING_FEATURES | featureMask([VIRTIO_F_RING_PACKED]));
  assert.equal(await bench.setVringBase(0, 200), 0n);
  await bench.setVringNum(0, 128);
  await bench.setVringAddr(addresses(0));
  await bench.setVringKick(0, bench.eventfd());
  assert.notEqual(await bench.setVringEnable(0, true), 0n);
});

test("a packed ring that never ran is where it would begin", async () => {
  await using bench = await Bench.negotiated(RING_FEATURES | featureMask([VIRTIO_F_RING_PACKED]));
  assert.equal(await bench.getVringBase(0), 0x80008000);
  await using split = await Bench.negotiated();
  assert.equal(await split.getVringBase(0), 0);
});

for (const [what, part, features, byteLength] of [
  ["avail ring with avail_event's counterpart", "available", [VIRTIO_F_RING_EVENT_IDX], 4 + 2 * 128 + 2],
  ["avail ring", "available", [], 4 + 2 * 128],
  ["used ring with its event index", "used", [VIRTIO_F_RING_EVENT_IDX], 4 + 8 * 128 + 2],
  ["used ring", "used", [], 4 + 8 * 128],
  ["descriptor table", "descriptor", [], 16 * 128],
  ["packed descriptor ring", "descriptor", [VIRTIO_F_RING_PACKED], 16 * 128],
  ["packed driver event suppression", "available", [VIRTIO_F_RING_PACKED], 4],
  ["packed device event suppression", "used", [VIRTIO_F_RING_PACKED], 4],
] as const) {
  test(`the whole ${what} must lie in guest memory`, async () => {
    await using bench = await Bench.negotiated(RING_FEATURES | featureMask([...features]));
    await bench.setVringNum(0, 128);
    const align = part === "available" ? 2 : part === "used" ? 4 : 16;
    const end = USER_ADDRESS + REGION.byteLength;
    // What is shorter than its alignment divides can't end with the region: then there is as little behind it as may be.
    const last = end - BigInt(Math.ceil(byteLength / align) * align);
    assert.equal(
      await bench.setVringAddr(addresses(0, { [part]: last })),
      0n,
      "its last byte is the region's",
    );
    assert.notEqual(await bench.setVringAddr(addresses(0, { [part]: last + BigInt(align) })), 0n);
  });
}

test("a packed ring without a base begins with both wrap counters at 1", async () => {
  await using bench = await Bench.negotiated(RING_FEATURES | featureMask([VIRTIO_F_RING_PACKED]));
  await bench.setVringNum(0, 100);
  await bench.setVringAddr(addresses(0));
  await bench.setVringKick(0, bench.eventfd());
  await bench.setVringEnable(0, true);
  assert.equal(bench.dataPlane.running.get(0)?.base, 0x80008000);
});

test("disabling a ring stops it, enabling it goes on from there", async () => {
  await using bench = await Bench.running();
  bench.dataPlane.bases.set(0, 9);
  await bench.setVringEnable(0, false);
  await bench.setVringEnable(0, true);
  assert.deepEqual(bench.dataPlane.events, ["start 0", "stop 0", "start 0"]);
  assert.equal(bench.dataPlane.running.get(0)?.base, 9);
});

test("a new call descriptor is signalled once", async () => {
  await using bench = await Bench.running();
  const call = bench.eventfd();
  await bench.setVringCall(0, call);
  assert.ok(drainEventfd(call));
  assert.ok(!drainEventfd(call));
  assert.deepEqual(bench.dataPlane.events, ["start 0", "call 0"]);
});

test("NOFD takes the call descriptor away", async () => {
  await using bench = await Bench.running();
  await bench.setVringCall(0, bench.eventfd());
  await bench.setVringCall(0);
  assert.equal(bench.dataPlane.running.get(0)?.callFd, -1);
});

test("a kick descriptor that never waits is refused", async () => {
  await using bench = await Bench.negotiated();
  assert.notEqual(await bench.setVringKick(0, bench.memfd()), 0n);
});

test("NOFD with a descriptor, and no descriptor without NOFD, are refused", async () => {
  await using bench = await Bench.negotiated();
  const nofd = encodeU64(BigInt(m.VHOST_USER_VRING_NOFD_MASK));
  assert.notEqual(await bench.command(m.VHOST_USER_SET_VRING_KICK, nofd, [bench.eventfd()]), 0n);
  assert.notEqual(await bench.command(m.VHOST_USER_SET_VRING_KICK, encodeU64(0n)), 0n);
});

test("misaligned ring addresses are refused when they come", async () => {
  await using bench = await Bench.negotiated();
  await bench.setVringNum(0, 128);
  assert.notEqual(await bench.setVringAddr(addresses(0, { descriptor: USER_ADDRESS + 8n })), 0n);
  assert.notEqual(await bench.setVringAddr(addresses(0, { available: USER_ADDRESS + 0x10001n })), 0n);
  assert.notEqual(await bench.setVringAddr(addresses(0, { used: USER_ADDRESS + 0x20002n })), 0n);
});

test("a ring that reaches past guest memory is refused", async () => {
  await using bench = await Bench.negotiated();
  await bench.setVringNum(0, 128);
  const last = USER_ADDRESS + REGION.byteLength - 16n;
  assert.notEqual(await bench.setVringAddr(addresses(0, { descriptor: last })), 0n);
});

test("sizes that no ring can have are refused", async () => {
  await using bench = await Bench.negotiated();
  for (const size of [0, 1, 32769]) assert.notEqual(await bench.setVringNum(0, size), 0n, `size ${size}`);
});

test("a ring that doesn't exist is refused", async () => {
  await using bench = await Bench.negotiated();
  assert.notEqual(await bench.setVringNum(BLK_OPTIONS.queueCount, 128), 0n);
  assert.notEqual(await bench.setVringEnable(0xffffffff, true), 0n);
});

test("the base of a running ring can't be set", async () => {
  await using bench = await Bench.running();
  assert.notEqual(await bench.setVringBase(0, 5), 0n);
});

test("the same addresses again leave a running ring alone, others restart it", async () => {
  await using bench = await Bench.running();
  await bench.setVringAddr(addresses(0));
  assert.deepEqual(bench.dataPlane.events, ["start 0"]);
  await bench.setVringAddr(addresses(0, { used: USER_ADDRESS + 0x30000n }));
  assert.deepEqual(bench.dataPlane.events, ["start 0", "stop 0", "start 0"]);
  assert.equal(bench.dataPlane.running.get(0)?.devicePtr, 0x30000);
});

test("GET_VRING_BASE drains the ring, says where it stopped, and closes its descriptors", async () => {
  await using bench = await Bench.running();
  const before = openDescriptors();
  await bench.setVringCall(0, bench.eventfd());
  bench.dataPlane.bases.set(0, 42);
  let drain = () => {};
  bench.dataPlane.drained = new Promise((resolve) => {
    drain = resolve;
  });
  const base = bench.getVringBase(0);
  setTimeout(drain, 20);
  assert.equal(await base, 42);
  assert.equal(bench.dataPlane.running.size, 0);
  // The kick and the call of the back-end's are gone; the test's own call descriptor is the one that came.
  assert.equal(openDescriptors(), before);
});

test("a ring that was stopped starts again with the next kick descriptor", async () => {
  await using bench = await Bench.running();
  await bench.getVringBase(0);
  await bench.setVringKick(0, bench.eventfd());
  assert.deepEqual(bench.dataPlane.events, ["start 0", "stop 0", "start 0"]);
});

test("memory slots come and go while rings run, which go on from where they were", async () => {
  await using bench = await Bench.running();
  bench.dataPlane.bases.set(0, 3);
  assert.equal(await bench.addMemReg(OTHER_REGION, bench.memfd()), 0n);
  assert.equal(await bench.remMemReg(OTHER_REGION), 0n);
  assert.equal(bench.dataPlane.running.get(0)?.base, 3);
  assert.equal(bench.memory.regionCount, 1);
});

test("a region that can't be removed is refused, and running rings go on", async () => {
  await using bench = await Bench.running();
  assert.notEqual(await bench.remMemReg(OTHER_REGION), 0n);
  assert.equal(bench.dataPlane.running.size, 1);
});

test("there are as many memory slots as with the kernel's vhost", async () => {
  await using bench = await Bench.negotiated();
  assert.equal(await bench.getMaxMemSlots(), 509n);
});

test("rings whose memory went away are reported broken", async () => {
  await using bench = await Bench.running();
  const err = bench.eventfd();
  await bench.setVringErr(0, err);
  assert.equal(await bench.remMemReg(REGION), 0n);
  assert.equal(bench.dataPlane.running.size, 0);
  await bench.addMemReg(OTHER_REGION, bench.memfd());
  assert.ok(drainEventfd(err));
});

test("REM_MEM_REG may bring a descriptor, which is closed", async () => {
  await using bench = await Bench.negotiated();
  const region = Buffer.alloc(40);
  region.writeBigUInt64LE(REGION.byteLength, 16);
  region.writeBigUInt64LE(REGION.userAddress, 24);
  const before = openDescriptors();
  const fd = bench.memfd();
  assert.equal(await bench.command(m.VHOST_USER_REM_MEM_REG, region, [fd]), 0n);
  assert.equal(openDescriptors(), before, "the region's descriptor is gone, the test's own is new");
});

test("SET_MEM_TABLE with another number of descriptors than regions is refused", async () => {
  await using bench = await Bench.negotiated();
  assert.notEqual(await bench.setMemTable([REGION, OTHER_REGION], [bench.memfd()]), 0n);
});

test("a memory table that can't be mapped is refused", async () => {
  await using bench = await Bench.negotiated();
  bench.memory.isBroken = true;
  assert.notEqual(await bench.setMemTable([REGION], [bench.memfd()]), 0n);
});

test("GET_CONFIG replies with 12 bytes and exactly as many as were asked for", async () => {
  await using bench = await Bench.negotiated();
  for (const size of [1, 60, BLK_CONFIG_SIZE, 256]) {
    const payload = encodeConfig({ offset: 0, flags: 0, bytes: Buffer.alloc(size) });
    const reply = await bench.query(m.VHOST_USER_GET_CONFIG, payload);
    assert.equal(reply.payload.length, 12 + size);
  }
});

test("GET_CONFIG at 0x100 is answered with the start of the space, as Cloud Hypervisor up to v50 asks", async () => {
  await using bench = await Bench.negotiated();
  for (const [offset, size] of [
    [0, 60],
    [0, 256],
    [20, 4],
    [200, 56],
  ] as const) {
    const bytes = await bench.getConfig(offset, size);
    assert.equal(bytes?.length, size);
    assert.deepEqual(await bench.getConfig(0x100 + offset, size), bytes);
  }
  const payload = encodeConfig({ offset: 0x100, flags: 0, bytes: Buffer.alloc(60) });
  const reply = await bench.query(m.VHOST_USER_GET_CONFIG, payload);
  assert.equal(reply.payload.readUInt32LE(0), 0x100, "the front-end's own offset");
  for (const [offset, size] of [
    [0x101, 256],
    [0x200, 1],
    [0xffff_ffff, 1],
  ] as const) {
    assert.equal(await bench.getConfig(offset, size), undefined);
  }
});

test("SET_CONFIG at 0x100 and more means the same as without", async () => {
  await using bench = await Bench.negotiated();
  const writeback = { offset: 0x100 + BLK_CONFIG_WRITEBACK, flags: 0, bytes: Buffer.from([0]) };
  assert.equal(await bench.setConfig(writeback), 0n);
  assert.equal((await bench.getConfig(BLK_CONFIG_WRITEBACK, 1))?.[0], 0);
});

test("GET_CONFIG that fails has an empty reply, and the session goes on", async () => {
  await using bench = await Bench.negotiated();
  assert.equal(await bench.getConfig(200, 100), undefined);
  assert.equal((await bench.getConfig(0, 8))?.readBigUInt64LE(0), 2097152n);
});

test("the cache mode follows the features and SET_CONFIG", async () => {
  await using bench = await Bench.negotiated();
  assert.ok(bench.writeThrough, "nobody would flush");
  await bench.setFeatures(RING_FEATURES | featureMask([VIRTIO_BLK_F_FLUSH]));
  assert.ok(!bench.writeThrough);
  await bench.setFeatures(RING_FEATURES | featureMask([VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_CONFIG_WCE]));
  assert.ok(!bench.writeThrough);
  const writeback = (value: number) => ({
    offset: BLK_CONFIG_WRITEBACK,
    flags: 0,
    bytes: Buffer.from([value]),
  });
  assert.equal(await bench.setConfig(writeback(0)), 0n);
  assert.ok(bench.writeThrough);
  assert.equal(await bench.setConfig(writeback(1)), 0n);
  assert.ok(!bench.writeThrough);
});

describe("a driver may have turned writeback off before this session", () => {
  const UNTIL_FLUSH = WRITE_THROUGH_UNTIL_FLUSH;
  const OFF = WRITE_THROUGH_OFF;
  const WCE_FEATURES = RING_FEATURES | featureMask([VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_CONFIG_WCE]);

  /** What writes are like once ring 0 has started. */
  async function modeAfterStart(
    prepare: (bench: Bench) => unknown,
    { features = WCE_FEATURES, base = 0, readsConfig = true } = {},
  ): Promise<number> {
    await using bench = await Bench.negotiated(features);
    if (readsConfig) await bench.getConfig(0, 60);
    await prepare(bench);
    await bench.describeRing(0);
    assert.equal(await bench.setVringBase(0, base), 0n);
    await bench.setVringKick(0, bench.eventfd());
    assert.equal(await bench.setVringEnable(0, true), 0n);
    assert.deepEqual(bench.dataPlane.events, ["start 0"]);
    return bench.writeThrough;
  }
  const nothing = () => {};

  test("not if it begins in it", async () => {
    assert.equal(await modeAfterStart(nothing), OFF);
    const packed = WCE_FEATURES | featureMask([VIRTIO_F_RING_PACKED]);
    assert.equal(await modeAfterStart(nothing, { features: packed, base: 0x80008000 }), OFF);
  });

  test("if its ring starts from a base", async () => {
    assert.equal(await modeAfterStart(nothing, { base: 1 }), UNTIL_FLUSH);
    const packed = WCE_FEATURES | featureMask([VIRTIO_F_RING_PACKED]);
    assert.equal(await modeAfterStart(nothing, { features: packed, base: 0x80018001 }), UNTIL_FLUSH);
    assert.equal(await modeAfterStart(nothing, { features: packed, base: 0 }), UNTIL_FLUSH);
  });

  test("if there is something in its ring", async () => {
    const run = (bench: Bench) => {
      bench.memory.ringWord = 1;
    };
    assert.equal(await modeAfterStart(run), UNTIL_FLUSH);
  });

  test("if its requests have been recorded", async () => {
    const record = (bench: Bench) => {
      bench.inflight.part = { ptr: 0, entries: 128, isUsed: true };
    };
    assert.equal(await modeAfterStart(record), UNTIL_FLUSH);
    const make = (bench: Bench) => {
      bench.inflight.part = { ptr: 0, entries: 128, isUsed: false };
    };
    assert.equal(await modeAfterStart(make), OFF);
  });

  test("if its front-end has a config from before", async () => {
    assert.equal(await modeAfterStart(nothing, { readsConfig: false }), UNTIL_FLUSH);
  });

  test("not if it has written it in this session", async () => {
    const choose = async (bench: Bench) => {
      await bench.setConfig({ offset: BLK_CONFIG_WRITEBACK, flags: 0, bytes: Buffer.from([1]) });
    };
    assert.equal(await modeAfterStart(choose, { base: 1 }), OFF);
  });

  test("not if it can't", async () => {
    const features = RING_FEATURES | featureMask([VIRTIO_BLK_F_FLUSH]);
    assert.equal(await modeAfterStart(nothing, { features, base: 1 }), OFF);
  });

  test("and goes on so after a reset", async () => {
    await using bench = await Bench.negotiated(WCE_FEATURES);
    await bench.describeRing(0);
    await bench.setVringBase(0, 1);
    await bench.setVringKick(0, bench.eventfd());
    await bench.setVringEnable(0, true);
    await bench.resetDevice();
    await bench.setFeatures(WCE_FEATURES);
    assert.equal(bench.writeThrough, UNTIL_FLUSH);
  });

  test("not if its ring began in this session, whatever happens to that", async () => {
    await using bench = await Bench.negotiated(WCE_FEATURES);
    await bench.getConfig(0, 60);
    await bench.describeRing(0);
    await bench.setVringKick(0, bench.eventfd());
    await bench.setVringEnable(0, true);
    bench.dataPlane.bases.set(0, 77);
    bench.memory.ringWord = 77;
    assert.equal(await bench.addMemReg(OTHER_REGION, bench.memfd()), 0n);
    assert.deepEqual(bench.dataPlane.events, ["start 0", "stop 0", "start 0"]);
    assert.equal(bench.writeThrough, OFF);
  });
});

test("the cache mode outlives a reset, because QEMU goes on showing it to its guest", async () => {
  await using bench = await Bench.negotiated();
  await bench.setConfig({ offset: BLK_CONFIG_WRITEBACK, flags: 0, bytes: Buffer.from([0]) });
  await bench.resetDevice();
  await bench.setFeatures(RING_FEATURES | featureMask([VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_CONFIG_WCE]));
  assert.ok(bench.writeThrough);
});

test("what a guest can make SET_CONFIG say doesn't end the session", async () => {
  await using bench = new Bench();
  await bench.setProtocolFeatures(featureMask([m.VHOST_USER_PROTOCOL_F_CONFIG]));
  await bench.raw(m.VHOST_USER_SET_CONFIG, encodeConfig({ offset: 0, flags: 0, bytes: Buffer.alloc(8) }));
  await bench.getFeatures();
});

test("the status is kept, and 0 stops the rings", async () => {
  await using bench = await Bench.running();
  await bench.setStatus(0xfn);
  assert.equal(await bench.getStatus(), 0xfn);
  await bench.setStatus(0n);
  assert.equal(await bench.getStatus(), 0n);
  assert.equal(bench.dataPlane.running.size, 0);
});

test("a ring that a status of 0 has stopped still says where, as QEMU asks to go on from there", async () => {
  await using bench = await Bench.running();
  bench.dataPlane.bases.set(0, 42);
  await bench.setStatus(0n);
  await bench.setVringEnable(0, false);
  assert.equal(await bench.getVringBase(0), 42);
});

test("RESET_DEVICE stops and disables all rings, which can be set up anew", async () => {
  await using bench = await Bench.running();
  assert.equal(await bench.resetDevice(), 0n);
  assert.equal(bench.dataPlane.running.size, 0);
  await bench.setFeatures(RING_FEATURES);
  await bench.describeRing(0);
  await bench.setVringKick(0, bench.eventfd());
  assert.equal(bench.dataPlane.running.size, 0, "not enabled yet");
  await bench.setVringEnable(0, true);
  assert.equal(bench.dataPlane.running.size, 1);
});

test("RESET_OWNER is ignored", async () => {
  await using bench = await Bench.running();
  assert.equal(await bench.resetOwner(), 0n);
  assert.deepEqual(bench.dataPlane.events, ["start 0"]);
});

test("GET_QUEUE_NUM tells the number of queues", async () => {
  await using bench = await Bench.negotiated();
  assert.equal(await bench.getQueueNum(), BigInt(BLK_OPTIONS.queueCount));
});

test("a request whose protocol feature was not negotiated is refused", async () => {
  await using bench = new Bench();
  await bench.setProtocolFeatures(featureMask([m.VHOST_USER_PROTOCOL_F_REPLY_ACK]));
  assert.notEqual(await bench.setStatus(1n), 0n);
  assert.notEqual(await bench.addMemReg(REGION, bench.memfd()), 0n);
  assert.notEqual(await bench.resetDevice(), 0n);
});

test("an unknown request is refused if it wants a reply, and ignored if it doesn't", async () => {
  await using bench = await Bench.negotiated();
  assert.notEqual(await bench.command(m.VHOST_USER_SEND_RARP, encodeU64(0n)), 0n);
  assert.notEqual(await bench.command(99), 0n);
  await bench.raw(99, Buffer.alloc(5), [bench.eventfd()]);
  await bench.getFeatures();
});

test("an unknown request that only its own reply could answer ends the connection", async () => {
  await using bench = await Bench.negotiated();
  await assert.rejects(bench.query(m.VHOST_USER_GET_SHARED_OBJECT, Buffer.alloc(16)), Disconnected);
});

test("a bad request that wants no reply ends the connection", async () => {
  await using bench = await Bench.running();
  await bench.raw(m.VHOST_USER_SET_VRING_NUM, encodeVringState({ index: 77, num: 128 }));
  assert.equal(await bench.receive(), undefined);
  await bench.ended;
  assert.equal(bench.dataPlane.running.size, 0);
});

test("descriptors that don't belong to a request are closed, and it is refused", async () => {
  await using bench = await Bench.negotiated();
  const fd = bench.eventfd();
  const before = openDescriptors();
  assert.notEqual(await bench.command(m.VHOST_USER_SET_OWNER, undefined, [fd]), 0n);
  assert.equal(openDescriptors(), before);
});

test("a broken ring is told by its error descriptor", async () => {
  await using bench = await Bench.running();
  const err = bench.eventfd();
  await bench.setVringErr(0, err);
  bench.session.ringBroken(0, "a test");
  assert.ok(drainEventfd(err));
});

test("the error descriptor outlives a reset, because QEMU sets it once a connection", async () => {
  await using bench = await Bench.running();
  const err = bench.eventfd();
  await bench.setVringErr(0, err);
  await bench.resetDevice();
  bench.session.ringBroken(0, "a test");
  assert.ok(drainEventfd(err));
});

test("a session that ends stops the rings, drops the memory and closes every descriptor", async () => {
  const before = openDescriptors();
  {
    await using bench = await Bench.running();
    await bench.setVringCall(0, bench.eventfd());
    await bench.setVringErr(0, bench.eventfd());
    const [channel, other] = unixPair();
    assert.equal(await bench.setBackendReqFd(channel), 0n);
    close(channel);
    close(other);
    bench.connection.close();
    await bench.ended;
    assert.equal(bench.dataPlane.running.size, 0);
    assert.equal(bench.memory.regionCount, 0);
  }
  assert.equal(openDescriptors(), before);
});

test("a session that is stopped drains the rings before it closes the connection", async () => {
  await using bench = await Bench.running();
  let drain = () => {};
  bench.dataPlane.drained = new Promise((resolve) => {
    drain = resolve;
  });
  let isClosed = false;
  const closed = bench.receive().then(() => {
    isClosed = true;
  });
  bench.session.stop();
  await sleep(20);
  assert.deepEqual(bench.dataPlane.events, ["start 0", "stop 0"]);
  assert.ok(!isClosed);
  drain();
  await closed;
});

test("a front-end that doesn't read its replies doesn't hold up a stop", async () => {
  await using bench = new Bench();
  for (let i = 0; i < 2000; i++) {
    const isSent = await Promise.race([bench.raw(m.VHOST_USER_GET_FEATURES).then(() => true), sleep(50)]);
    if (!isSent) break;
  }
  bench.session.stop();
  await bench.ended;
});

test("a flood of requests leaves the event loop its turns", async () => {
  await using bench = new Bench();
  const count = 100;
  for (let i = 0; i < count; i++) await bench.raw(m.VHOST_USER_GET_FEATURES);
  let turns = 0;
  const countTurns = () => {
    turns++;
    timer = setImmediate(countTurns);
  };
  let timer = setImmediate(countTurns);
  for (let i = 0; i < count; i++) await bench.receive();
  clearImmediate(timer);
  assert.ok(turns >= count / 2, `${turns} turns`);
});

test("a front-end that leaves within a message ends the session", async () => {
  await using bench = await Bench.running();
  const half = Buffer.alloc(6);
  half.writeUInt32LE(m.VHOST_USER_SET_FEATURES);
  await bench.connection.send(half, [bench.eventfd()]);
  bench.connection.close();
  await bench.ended;
});

test("a call descriptor that is full doesn't hold up the session", async () => {
  await using bench = await Bench.running();
  const call = bench.eventfd();
  writeSync(call, new BigUint64Array([0xfffffffffffffffen]));
  assert.equal(await bench.setVringCall(0, call), 0n);
});

test("workers log before VHOST_F_LOG_ALL is acknowledged, and let go of the log before its end is", async () => {
  await using bench = await Bench.running();
  assert.notEqual(await bench.setFeatures(LOG_FEATURES), 0n);
  assert.deepEqual(bench.dataPlane.events, ["start 0"]);
  assert.equal(await bench.setLogBase(LOG, bench.memfd()), 0n);
  assert.equal(await bench.setFeatures(LOG_FEATURES), 0n);
  assert.deepEqual(bench.dataPlane.events, ["start 0", "logging on"]);
  assert.equal(await bench.setVringAddr({ ...addresses(0), flags: 1, log: 0x1000n }), 0n);
  assert.equal(await bench.setLogBase({ ...LOG, mmapSize: 8192n }, bench.memfd()), 0n);
  assert.equal(await bench.setFeatures(RING_FEATURES), 0n);
  assert.equal(await bench.setVringAddr(addresses(0)), 0n);
  assert.deepEqual(bench.dataPlane.events, ["start 0", "logging on", "logging off"]);
  assert.deepEqual(bench.dirtyLog.events, ["set 4096", "set 8192", "clear"]);
});

test("a reset ends the log", async () => {
  await using bench = await Bench.running();
  assert.equal(await bench.setLogBase(LOG, bench.memfd()), 0n);
  assert.equal(await bench.setFeatures(LOG_FEATURES), 0n);
  assert.equal(await bench.resetDevice(), 0n);
  assert.deepEqual(bench.dataPlane.events.slice(1), ["logging on", "stop 0", "logging off"]);
  assert.notEqual(await bench.setFeatures(LOG_FEATURES), 0n);
});

test("SET_LOG_BASE is answered although it asks for no reply, and needs a descriptor", async () => {
  await using bench = await Bench.negotiated();
  await bench.raw(m.VHOST_USER_SET_LOG_BASE, encodeLog(LOG), [bench.memfd()]);
  assert.equal((await bench.receive())!.payload.readBigUInt64LE(0), 0n);
  await bench.raw(m.VHOST_USER_SET_LOG_BASE, encodeLog(LOG));
  assert.notEqual((await bench.receive())!.payload.readBigUInt64LE(0), 0n);
});

test("flags of ring addresses other than that of the log are refused", async () => {
  await using bench = await Bench.negotiated();
  assert.notEqual(await bench.setVringAddr({ ...addresses(0), flags: 2 }), 0n);
});

const WRITEBACK_FEATURES = RING_FEATURES | featureMask([VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_CONFIG_WCE]);
const SAVE = m.VHOST_TRANSFER_STATE_DIRECTION_SAVE;
const LOAD = m.VHOST_TRANSFER_STATE_DIRECTION_LOAD;
const NO_FD_RETURNED = 0x100n;

test("a disk's state has the cache mode that its driver has chosen, and brings it back", async () => {
  await using source = await Bench.negotiated(WRITEBACK_FEATURES);
  const [reading, writing] = pipe();
  const bytes = Buffer.of(0);
  assert.equal(await source.setConfig({ offset: BLK_CONFIG_WRITEBACK, flags: 0, bytes }), 0n);
  assert.equal(await source.setDeviceStateFd(SAVE, writing), NO_FD_RETURNED);
  close(writing);
  assert.equal(await source.checkDeviceState(), 0n);
  const state = Buffer.alloc(64);
  const byteLength = readSync(reading, state);
  assert.equal(byteLength, 16);
  assert.equal(readSync(reading, state, byteLength, 48, null), 0, "its end is not there");
  close(reading);

  await using destination = await Bench.negotiated(WRITEBACK_FEATURES);
  await load(destination, state.subarray(0, byteLength));
  assert.equal(await destination.checkDeviceState(), 0n);
  assert.equal((await destination.getConfig(BLK_CONFIG_WRITEBACK, 1))!.readUInt8(0), 0);
});

for (const [what, bytes, isGood] of [
  ["an empty state is loaded", Buffer.alloc(0), true],
  ["a state of another device is refused", Buffer.alloc(16, 1), false],
  ["a state that is too long is refused", Buffer.alloc(65536), false],
] as const) {
  test(what, async () => {
    await using bench = await Bench.negotiated();
    await load(bench, bytes);
    assert.equal((await bench.checkDeviceState()) === 0n, isGood);
    assert.equal(await bench.setOwner(), 0n);
  });
}

test("a state whose pipe nobody ends is given up, and so is one that nobody has sent", async () => {
  await using bench = await Bench.negotiated();
  assert.notEqual(await bench.checkDeviceState(), 0n);
  const [reading, writing] = pipe();
  assert.equal(await bench.setDeviceStateFd(LOAD, reading), NO_FD_RETURNED);
  assert.notEqual(await bench.checkDeviceState(), 0n);
  close(reading);
  close(writing);
  assert.notEqual(await bench.query(m.VHOST_USER_SET_DEVICE_STATE_FD, encodeU64(7n), [bench.memfd()]), 0n);
});

async function load(bench: Bench, bytes: Buffer): Promise<void> {
  const [reading, writing] = pipe();
  assert.equal(await bench.setDeviceStateFd(LOAD, reading), NO_FD_RETURNED);
  close(reading);
  if (bytes.length > 0) writeSync(writing, bytes);
  close(writing);
}
