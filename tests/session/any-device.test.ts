// What the session makes of a device that is no disk: features, messages of its own, hooks, and the channel back to the front-end.
import assert from "node:assert/strict";
import { closeSync, readdirSync, readSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1 } from "../../assembly/spec/virtqueue.ts";
import type { ConfigSpace, Device } from "../../host/devices/device.ts";
import { Requests } from "../../host/front-end/requests.ts";
import { createEventfd } from "../../host/linux/eventfd.ts";
import { close } from "../../host/linux/libc.ts";
import { createMemfd } from "../../host/linux/memfd.ts";
import { receive, unixPair } from "../../host/linux/unix-socket.ts";
import { SILENT } from "../../host/process/log.ts";
import { decodeHeader } from "../../host/protocol/codec.ts";
import { Connection } from "../../host/protocol/connection.ts";
import { featureMask, hasFeature } from "../../host/protocol/feature-bits.ts";
import * as m from "../../host/protocol/messages.ts";
import { BackendChannel } from "../../host/session/backend-channel.ts";
import { Session } from "../../host/session/session.ts";
import { limitTests } from "../support/bounded-test.ts";
import { FakeDataPlane, FakeInflight, FakeLog, FakeMemory, LoneSeat } from "../support/fakes.ts";
import { pipe } from "../support/strange-files.ts";
import { until } from "../support/until.ts";

limitTests(30_000);

const OWN_FEATURE = 3;
const OWN_MESSAGE = m.VHOST_USER_GPU_SET_SOCKET;
const PROTOCOL = featureMask([m.VHOST_USER_F_PROTOCOL_FEATURES]);
const HEADER_BYTES = 12;

class Thermometer implements Device {
  readonly type = "thermometer";
  readonly virtioId = 99;
  readonly queues = [{ name: "eventq", credit: "asked", recover: "forget" } as const];
  readonly features = featureMask([OWN_FEATURE]);
  readonly calls: string[] = [];
  readonly config: ConfigSpace = { byteLength: 1, read: () => Uint8Array.of(21) };
  readonly messages = new Map([
    [OWN_MESSAGE, { fds: 1, handle: (payload: Buffer, fds: readonly number[]) => this.own(payload, fds) }],
    [m.VHOST_USER_GET_FEATURES, { fds: 0, handle: () => Buffer.alloc(8, 0xff) }],
  ]);

  connected(): void {
    this.calls.push("connected");
  }

  negotiated(features: bigint): void {
    this.calls.push(`negotiated ${features}`);
  }

  inherited(): void {
    this.calls.push("inherited");
  }

  reset(): void {
    this.calls.push("reset");
  }

  private own(payload: Buffer, fds: readonly number[]): Buffer {
    for (const fd of fds) close(fd);
    if (payload.length === 0) throw new RangeError("it says nothing");
    return Buffer.from(payload).reverse();
  }
}

class Bench<D extends Device> extends Requests {
  readonly dataPlane = new FakeDataPlane();
  readonly memory = new FakeMemory();
  readonly session: Session;
  private readonly ended: Promise<unknown>;

  constructor(
    readonly device: D,
    packed = false,
  ) {
    const [near, far] = unixPair();
    super(new Connection(far));
    const own = { seat: new LoneSeat(), inflight: new FakeInflight(), memory: this.memory };
    this.session = new Session(
      new Connection(near),
      { device, packed, rings: this.dataPlane, dirtyLog: new FakeLog(), isAlone: () => true },
      own,
      SILENT,
    );
    this.ended = this.session.run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.connection.close();
    await this.ended;
  }
}

test("ring bits and the protocol's are added to the device's own", async () => {
  await using bench = new Bench(new Thermometer());
  const features = await bench.getFeatures();
  for (const bit of [OWN_FEATURE, VIRTIO_F_VERSION_1, 28, 29, m.VHOST_USER_F_PROTOCOL_FEATURES])
    assert.ok(hasFeature(features, bit), `bit ${bit}`);
  assert.ok(!hasFeature(features, VIRTIO_F_RING_PACKED));
  await using packed = new Bench(new Thermometer(), true);
  assert.ok(hasFeature(await packed.getFeatures(), VIRTIO_F_RING_PACKED));
});

test("CONFIG is offered with a config space only, inflight tracking where the device says so", async () => {
  const ofAll = [0, 3, 5, 13, 15, 16];
  const { type, virtioId, queues, features } = new Thermometer();
  const plain: Device = { type, virtioId, queues, features };
  await using without = new Bench(plain);
  assert.equal(await without.getProtocolFeatures(), featureMask(ofAll));
  await using tracked = new Bench({ ...plain, inflight: true });
  assert.equal(await tracked.getProtocolFeatures(), featureMask([...ofAll, 12, 20]));
  await using config = new Bench(new Thermometer());
  assert.equal(await config.getProtocolFeatures(), featureMask([...ofAll, 9]));
});

test("the number of queues is the device's", async () => {
  await using bench = new Bench(new Thermometer());
  assert.equal(await bench.getQueueNum(), 1n);
});

test("a device without bits to ignore refuses ANY_LAYOUT", async () => {
  await using bench = new Bench(new Thermometer());
  await bench.setProtocolFeatures(featureMask([m.VHOST_USER_PROTOCOL_F_REPLY_ACK]));
  assert.notEqual(await bench.setFeatures(PROTOCOL | featureMask([27])), 0n);
});

test("the device hears of a front-end, of features when they change, and of a reset", async () => {
  await using bench = new Bench(new Thermometer());
  await bench.setProtocolFeatures(featureMask([3, 13]));
  const own = featureMask([OWN_FEATURE, VIRTIO_F_VERSION_1]);
  await bench.setFeatures(PROTOCOL);
  await bench.setFeatures(PROTOCOL | own);
  await bench.setFeatures(PROTOCOL | own);
  await bench.resetDevice();
  await bench.setFeatures(PROTOCOL | own);
  assert.deepEqual(bench.device.calls, [
    "connected",
    "negotiated 0",
    `negotiated ${own}`,
    "reset",
    "negotiated 0",
    `negotiated ${own}`,
  ]);
});

test("a request of the device's own gets its payload and its descriptors, and what the device answers", async () => {
  await using bench = new Bench(new Thermometer());
  const fd = createEventfd();
  const before = readdirSync("/proc/self/fd").length;
  const reply = await bench.query(OWN_MESSAGE, Buffer.from([1, 2, 3]), [fd]);
  assert.deepEqual([...reply.payload], [3, 2, 1]);
  assert.equal(readdirSync("/proc/self/fd").length, before);
  close(fd);
});

test("a request of the device's own that makes no sense is refused, and so is one with other descriptors", async () => {
  await using bench = new Bench(new Thermometer());
  await bench.setProtocolFeatures(featureMask([m.VHOST_USER_PROTOCOL_F_REPLY_ACK]));
  const fd = createEventfd();
  assert.notEqual(await bench.command(OWN_MESSAGE, Buffer.alloc(0), [fd]), 0n);
  assert.notEqual(await bench.command(OWN_MESSAGE, Buffer.from([1])), 0n);
  close(fd);
});

test("a request of the device's own that it never finishes is refused, and the next is served", async () => {
  await using bench = new Bench(new Thermometer());
  await bench.setProtocolFeatures(featureMask([m.VHOST_USER_PROTOCOL_F_REPLY_ACK]));
  bench.device.messages.set(OWN_MESSAGE, { fds: 0, handle: () => new Promise<never>(() => {}) } as never);
  // The session has its table of them from its beginning.
  await using slow = new Bench(bench.device);
  await slow.setProtocolFeatures(featureMask([m.VHOST_USER_PROTOCOL_F_REPLY_ACK]));
  assert.notEqual(await slow.command(OWN_MESSAGE, Buffer.from([1])), 0n);
  assert.ok((await slow.getFeatures()) > 0n);
});

test("a device can't take the protocol's own requests", async () => {
  await using bench = new Bench(new Thermometer());
  assert.notEqual(await bench.getFeatures(), 0xffffffffffffffffn);
});

/** Whole messages that are there, by their request; each must be a header alone. */
function messagesAt(fd: number): number[] {
  const bytes = Buffer.alloc(1 << 16);
  const { byteLength = 0 } = receive(fd, bytes) ?? {};
  assert.equal(byteLength % HEADER_BYTES, 0);
  return Array.from({ length: byteLength / HEADER_BYTES }, (_, i) => {
    const { request, flags, size } = decodeHeader(bytes.subarray(i * HEADER_BYTES, (i + 1) * HEADER_BYTES));
    assert.deepEqual({ flags, size }, { flags: 1, size: 0 }, "no reply is asked for");
    return request;
  });
}

test("a change of the config space is told on the channel, without asking for a reply", async () => {
  await using bench = new Bench(new Thermometer());
  await bench.setProtocolFeatures(featureMask([3, 5, 9]));
  await bench.getFeatures();
  const [theirs, ours] = unixPair();
  bench.session.configChanged();
  assert.equal(await bench.setBackendReqFd(theirs), 0n);
  const isTold = () => messagesAt(ours).includes(m.VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
  await until(isTold, "it is told of a change before the channel was there");
  bench.session.configChanged();
  await until(isTold, "it is told of a change");
  close(theirs);
  close(ours);
});

test("a front-end that has not negotiated CONFIG is told nothing", async () => {
  await using bench = new Bench(new Thermometer());
  await bench.setProtocolFeatures(featureMask([3, 5]));
  const [theirs, ours] = unixPair();
  assert.equal(await bench.setBackendReqFd(theirs), 0n);
  bench.session.configChanged();
  await sleep(100);
  assert.equal(receive(ours, Buffer.alloc(64)), undefined);
  close(theirs);
  close(ours);
});

test("a channel that is neither a socket nor a pipe is refused", async () => {
  await using bench = new Bench(new Thermometer());
  await bench.setProtocolFeatures(featureMask([3, 5, 9]));
  const memfd = createMemfd("channel", 4096);
  assert.notEqual(await bench.setBackendReqFd(memfd), 0n);
  close(memfd);
});

test("a full channel holds nobody up, and hears of the last change once there is room", async () => {
  const channel = new BackendChannel();
  const [theirs, ours] = unixPair();
  channel.open(theirs);
  for (let i = 0; i < 100_000; i++) channel.configChanged();
  let count = 0;
  for (let read = messagesAt(ours); read.length > 0; read = messagesAt(ours)) count += read.length;
  assert.ok(count < 100_000, `${count} messages fit a full channel`);
  let late = 0;
  await until(() => {
    late += messagesAt(ours).length;
    return late > 0;
  }, "the last change is told");
  await sleep(20);
  assert.equal(late + messagesAt(ours).length, 1);
  channel.close();
  close(ours);
});

test("a channel whose reader has gone is given up", () => {
  const channel = new BackendChannel();
  const [theirs, ours] = unixPair();
  channel.open(theirs);
  close(ours);
  channel.configChanged();
  channel.configChanged();
  channel.close();
});

test("a pipe that only we can write to is a channel, as user-mode-linux has it", async () => {
  const channel = new BackendChannel();
  const [readFd, writeFd] = pipe();
  channel.open(writeFd);
  channel.configChanged();
  const bytes = Buffer.alloc(64);
  assert.equal(readSync(readFd, bytes), HEADER_BYTES);
  assert.equal(decodeHeader(bytes).request, m.VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
  channel.close();
  closeSync(readFd);
});
