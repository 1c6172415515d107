// vringd-vsock at a driver of ours: calls both ways, ends of either side, credit, and what no honest guest does.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import { describe, test } from "node:test";
import * as spec from "../../assembly/spec/virtio-vsock.ts";
import { BUFFER_BYTES } from "../../host/devices/vsock/connection.ts";
import { Credit } from "../../host/devices/vsock/credit.ts";
import { wordOf } from "../../host/devices/vsock/packet.ts";
import { ChainDriver } from "../support/chain-driver.ts";
import { until } from "../support/until.ts";
import {
  BOTH,
  CREDIT_REQUEST,
  CREDIT_UPDATE,
  encode,
  GUEST_CID,
  NO_RECEIVE,
  NO_SEND,
  REQUEST,
  RESPONSE,
  RST,
  RW,
  SHUTDOWN,
} from "../support/vsock-packet.ts";
import { EVENT, GuestStream, RX, TX, vsockRig } from "../support/vsock-rig.ts";

const HOST_PORT_MIN = 0x40000000;
/** More than sockets of a host and of ours have room for. */
const MUCH = 4 << 20;
const PART = 32 << 10;

/** A connection that the host has made. */
async function called(rig: Awaited<ReturnType<typeof vsockRig>>, guestPort: number) {
  const program = rig.call(`CONNECT ${guestPort}\n`).read();
  const request = await rig.guest.next(REQUEST, (each) => each.guestPort === guestPort);
  const stream = new GuestStream(rig.guest, request.port, guestPort);
  await stream.say(RESPONSE);
  const greeting = `OK ${request.port}\n`;
  assert.equal(String(await program.hears(greeting.length)), greeting);
  return { program, stream, request, greeting };
}

/** A turn of the device has passed: it has answered something that was asked later. */
async function settled(rig: Awaited<ReturnType<typeof vsockRig>>): Promise<void> {
  await rig.guest.say({ op: CREDIT_REQUEST, port: 1, guestPort: 999_999 });
  await rig.guest.next(RST, ({ guestPort }) => guestPort === 999_999);
}

/** Sends as much as there is credit for, and waits for more, until all is sent. */
async function sendAll(stream: GuestStream, data: Buffer): Promise<void> {
  for (let at = 0; at < data.length; ) {
    await until(() => {
      stream.look();
      return stream.free > 0;
    }, "there is credit");
    const part = data.subarray(at, at + Math.min(PART, stream.free));
    await stream.send(part);
    at += part.length;
  }
}

describe("a call of the host", () => {
  test("finds a port of the guest, and bytes go both ways", async (t) => {
    const rig = await vsockRig(t);
    assert.equal(rig.frontEnd.config.readBigUInt64LE(), BigInt(GUEST_CID));
    const { program, stream, request, greeting } = await called(rig, 1234);
    assert.equal(request.cid, spec.VSOCK_CID_HOST);
    assert.ok(request.port >= HOST_PORT_MIN && request.bufAlloc === BUFFER_BYTES);
    const [up, down] = [randomBytes(MUCH), randomBytes(1 << 19)];
    program.socket.write(down);
    await sendAll(stream, up);
    assert.ok((await program.hears(greeting.length + up.length)).subarray(greeting.length).equals(up));
    assert.ok((await stream.receives(down.length)).equals(down));
  });

  test("may say what is for the guest at once, in pieces or with its line", async (t) => {
    const rig = await vsockRig(t);
    const program = rig.call("CONN");
    program.read().socket.write("ECT 7\r\nhello");
    program.socket.end();
    const { port } = await rig.guest.next(REQUEST);
    const stream = new GuestStream(rig.guest, port, 7);
    await stream.say(RESPONSE);
    assert.equal(String(await stream.receives(5)), "hello");
    assert.equal((await stream.next(SHUTDOWN)).flags, NO_SEND);
    await stream.send(Buffer.from("world"));
    assert.match(String(await program.hears(19)), /^OK \d+\nworld$/);
  });

  test("is sent away where nobody listens in the guest", async (t) => {
    const rig = await vsockRig(t);
    const program = rig.call("CONNECT 7\n").read();
    const { port } = await rig.guest.next(REQUEST);
    await rig.guest.say({ op: RST, port, guestPort: 7 });
    await program.ends();
    assert.equal(program.heard.length, 0);
    await settled(rig);
    assert.deepEqual(rig.guest.listen(), [], "RST is not answered");
  });

  test("is sent away if it makes no sense, or says nothing", async (t) => {
    const rig = await vsockRig(t, { patience: { helloMs: 200 } });
    const lines = ["HELLO\n", "CONNECT\n", "CONNECT -1\n", "CONNECT 4294967295\n", "CONNECT 99999999999\n"];
    for (const line of [...lines, "x".repeat(100), "CONNECT 1"]) await rig.call(line).read().ends();
    await settled(rig);
    assert.deepEqual(rig.guest.listen(), []);
  });

  test("ends when nobody answers in time", async (t) => {
    const rig = await vsockRig(t, { patience: { connectMs: 200 } });
    const program = rig.call("CONNECT 7\n").read();
    const { port } = await rig.guest.next(REQUEST);
    await program.ends();
    await rig.guest.next(RST, (each) => each.port === port);
    // The answer comes too late.
    await rig.guest.say({ op: RESPONSE, port, guestPort: 7 });
    await rig.guest.next(RST, (each) => each.port === port);
  });

  test("is forgotten when its caller goes before it is answered", async (t) => {
    const rig = await vsockRig(t);
    const program = rig.call("CONNECT 7\n").read();
    const { port } = await rig.guest.next(REQUEST);
    program.socket.destroy();
    await rig.guest.next(RST, (each) => each.port === port);
  });

  test("has a port of its own that does not come again soon", async (t) => {
    const rig = await vsockRig(t);
    const ports = new Set<number>();
    for (let i = 0; i < 50; i++) {
      const { program, stream } = await called(rig, 7);
      ports.add(stream.port);
      program.socket.destroy();
      await stream.next(SHUTDOWN);
      await stream.say(RST);
    }
    assert.equal(ports.size, 50);
  });
});

describe("a call of the guest", () => {
  test("finds a program of the host, and bytes go both ways", async (t) => {
    const rig = await vsockRig(t);
    const { stream, program } = await rig.connected(52, 4000);
    program.read();
    const [up, down] = [randomBytes(MUCH), randomBytes(1 << 19)];
    program.socket.write(down);
    await sendAll(stream, up);
    assert.ok((await program.hears(up.length)).equals(up));
    assert.ok((await stream.receives(down.length)).equals(down));
  });

  test("is reset where nobody listens", async (t) => {
    const rig = await vsockRig(t);
    await rig.guest.say({ op: REQUEST, port: 53, guestPort: 4000 });
    const answer = await rig.guest.next(RST);
    assert.deepEqual([answer.cid, answer.port, answer.guestPort], [spec.VSOCK_CID_HOST, 53, 4000]);
  });

  test("is reset where nobody is: another CID, another kind of socket", async (t) => {
    const rig = await vsockRig(t);
    await rig.listen(52);
    await rig.guest.say({ op: REQUEST, port: 52, guestPort: 1, cid: 77 });
    assert.equal((await rig.guest.next(RST)).cid, 77);
    for (const op of [REQUEST, RW, 0, 99]) {
      await rig.guest.say({ op, port: 52, guestPort: 1, type: 3 });
      assert.equal((await rig.guest.next(RST)).type, 3);
    }
    await rig.guest.say({ op: RST, port: 52, guestPort: 1, type: 3 });
    // What another guest claims to be is nobody's.
    await rig.guest.say({ op: REQUEST, port: 52, guestPort: 1, sourceCid: 77 });
    await settled(rig);
    assert.deepEqual(rig.guest.listen(), []);
  });

  test("may come again between the same ports at once, and hears nothing of the one before", async (t) => {
    const rig = await vsockRig(t);
    const { stream, program, listener } = await rig.connected(52, 4000);
    program.read();
    await stream.send(Buffer.from("old"));
    // Nothing that is due to the old one can be said before the new one is there.
    await rig.frontEnd.stopQueue(RX);
    program.socket.end("late words");
    await stream.say(SHUTDOWN, { flags: BOTH });
    await program.ends();
    const next = new GuestStream(rig.guest, 52, 4000);
    await next.say(REQUEST);
    const second = (await listener.next()).read();
    second.socket.write("new");
    await rig.frontEnd.renewQueue(RX);
    const guest = rig.anotherDriver();
    const heard = await until(() => {
      const all = guest.listen();
      return all.some(({ op }) => op === RW) && all;
    }, "the guest hears something new");
    const mine = heard.filter(({ guestPort }) => guestPort === 4000).map(({ op }) => op);
    assert.equal(mine[0], RESPONSE);
    assert.ok(!mine.includes(RST) && !mine.includes(SHUTDOWN));
    assert.equal(String(heard.find(({ op }) => op === RW)!.data), "new");
    assert.equal(String(program.heard), "old");
  });

  test("waits for a program whose backlog is full", async (t) => {
    const rig = await vsockRig(t);
    const listener = await rig.listen(52);
    const streams = Array.from({ length: 200 }, (_, i) => new GuestStream(rig.guest, 52, 5000 + i));
    for (const stream of streams) await stream.say(REQUEST);
    for (const stream of streams) await stream.next(RESPONSE);
    await until(() => listener.count() === 200, "all come");
  });
});

describe("an end", () => {
  test("of what the guest sends leaves it what the host sends", async (t) => {
    const rig = await vsockRig(t);
    const { stream, program } = await rig.connected(52, 4000);
    program.read();
    await stream.send(Buffer.from("question"));
    await stream.say(SHUTDOWN, { flags: NO_SEND });
    await program.ends();
    assert.equal(String(program.heard), "question");
    program.socket.write("answer");
    assert.equal(String(await stream.receives(6)), "answer");
    program.socket.end();
    assert.equal((await stream.next(SHUTDOWN)).flags & NO_SEND, NO_SEND);
    await stream.say(RST);
    await program.ends();
  });

  test("of what the host sends leaves it what the guest sends", async (t) => {
    const rig = await vsockRig(t);
    const { stream, program } = await rig.connected(52, 4000);
    program.read().socket.end("question");
    assert.equal(String(await stream.receives(8)), "question");
    assert.equal((await stream.next(SHUTDOWN)).flags, NO_SEND);
    await stream.send(Buffer.from("answer"));
    assert.equal(String(await program.hears(6)), "answer");
    await stream.say(SHUTDOWN, { flags: BOTH });
    await stream.next(RST);
    await program.ends();
  });

  test("of both sides by the guest is answered with RST at once, and the host gets what was sent before", async (t) => {
    const rig = await vsockRig(t);
    const { stream, program } = await rig.connected(52, 4000);
    const data = randomBytes(BUFFER_BYTES);
    await sendAll(stream, data);
    await stream.say(SHUTDOWN, { flags: BOTH });
    await stream.next(RST);
    program.read();
    await program.ends();
    assert.ok(program.heard.equals(data));
  });

  test("of the host's program is told behind what it has sent", async (t) => {
    const rig = await vsockRig(t);
    const { stream, program } = await rig.connected(52, 4000, 4);
    program.socket.end("12345678");
    program.socket.destroySoon();
    assert.equal(String(await stream.receives(4)), "1234");
    await settled(rig);
    assert.ok(!rig.guest.listen().some(({ op }) => op === SHUTDOWN));
    await stream.say(CREDIT_UPDATE);
    assert.equal(String(await stream.receives(8)), "12345678");
    await stream.say(CREDIT_UPDATE);
    assert.equal((await stream.next(SHUTDOWN)).flags & NO_SEND, NO_SEND);
  });

  test("of the host's program, killed, ends the guest's side too", async (t) => {
    const rig = await vsockRig(t, { patience: { closeMs: 200 } });
    const { stream, program } = await rig.connected(52, 4000);
    program.socket.destroy();
    // It may look like the end of one direction first.
    while ((await stream.next(SHUTDOWN)).flags !== BOTH);
    // A guest that does not answer is reset.
    await stream.next(RST);
  });

  test("of reading by the guest ends the host's writing", async (t) => {
    const rig = await vsockRig(t);
    const { stream, program } = await rig.connected(52, 4000);
    await stream.say(SHUTDOWN, { flags: NO_RECEIVE });
    const failed = new Promise((resolve) => program.socket.once("error", resolve));
    const timer = setInterval(() => program.socket.write("x"), 5);
    t.after(() => clearInterval(timer));
    assert.equal(((await failed) as NodeJS.ErrnoException).code, "EPIPE");
  });

  test("of the front-end is the end of all connections, and the host gets what was sent", async (t) => {
    const rig = await vsockRig(t);
    const { stream, program } = await rig.connected(52, 4000);
    const { program: other } = await called(rig, 9);
    const data = randomBytes(BUFFER_BYTES / 2);
    await sendAll(stream, data);
    rig.frontEnd.close();
    await other.ends();
    await program.read().ends();
    assert.ok(program.heard.equals(data));
  });
});

describe("credit", () => {
  test("of the guest is never overdrawn, and is asked for once", async (t) => {
    const rig = await vsockRig(t);
    const { stream, program } = await rig.connected(52, 4000, 1000);
    program.socket.write(randomBytes(5000));
    await stream.receives(1000);
    await stream.next(CREDIT_REQUEST);
    await settled(rig);
    stream.look();
    assert.equal(stream.received.length, 1000);
    assert.ok(!rig.guest.listen().some(({ op }) => op === CREDIT_REQUEST));
    for (let had = 1000; had < 5000; had = stream.received.length) {
      await stream.say(CREDIT_UPDATE);
      await stream.receives(had + 1);
      assert.ok(stream.received.length <= had + 1000);
    }
  });

  test("is told when it is asked for", async (t) => {
    const rig = await vsockRig(t);
    const { stream } = await rig.connected(52, 4000);
    await stream.say(CREDIT_REQUEST);
    assert.equal((await stream.next(CREDIT_UPDATE)).bufAlloc, BUFFER_BYTES);
  });

  test("that the guest overdraws is the end of the connection", async (t) => {
    const rig = await vsockRig(t);
    const { stream, program } = await rig.connected(52, 4000);
    while (!rig.guest.listen().some(({ op }) => op === RST))
      await stream.say(RW, { data: Buffer.alloc(PART) });
    await program.read().ends();
  });

  test("lets other connections go on where one host side never reads", async (t) => {
    const rig = await vsockRig(t);
    const { stream: stuck } = await rig.connected(52, 4000);
    while (stuck.free > 0 || stuck.deviceAlloc === 0) {
      await stuck.send(Buffer.alloc(Math.min(PART, stuck.free || PART)));
      await settled(rig);
      stuck.look();
    }
    const { stream, program } = await rig.connected(53, 4001);
    const data = randomBytes(MUCH);
    program.read();
    await sendAll(stream, data);
    assert.ok((await program.hears(data.length)).equals(data));
  });

  test("wraps around at 32 bits", () => {
    const credit = new Credit(BUFFER_BYTES);
    const step = 0x40000000;
    for (let sent = 0; sent < 8 * step; sent += step) {
      credit.hear({ bufAlloc: step, fwdCnt: sent >>> 0 });
      assert.equal(credit.free, step);
      credit.send(step);
      assert.equal(credit.free, 0);
    }
    // A guest that has taken more than it was sent, or takes its room away.
    credit.hear({ bufAlloc: 100, fwdCnt: 1 });
    assert.equal(credit.free, 0);
    for (let i = 0; i < 40_000; i++) {
      assert.equal(credit.room, BUFFER_BYTES);
      credit.receive(BUFFER_BYTES);
      assert.equal(credit.room, 0);
      credit.forward(BUFFER_BYTES);
      assert.ok(credit.isWorthTelling);
      const word = wordOf(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
      credit.tell(word);
      assert.equal(word.fwdCnt, ((i + 1) * BUFFER_BYTES) % 2 ** 32);
      assert.ok(!credit.isWorthTelling);
    }
  });
});

describe("a guest without buffers to receive", () => {
  test("is served in what it sends, as much as it sends", async (t) => {
    const rig = await vsockRig(t);
    const { stream, program } = await rig.connected(52, 4000);
    program.read();
    rig.guest.isGenerous = false;
    rig.guest.offer(0);
    // Takes all buffers that are there.
    program.socket.write(randomBytes(1 << 20));
    await until(() => rig.guest.listen().length >= 15, "the buffers are used up");
    for (let i = 0; i < 3000; i++) await rig.guest.say({ op: RW, port: 1, guestPort: i });
    const data = randomBytes(100_000);
    for (let at = 0; at < data.length; at += 10_000) await stream.send(data.subarray(at, at + 10_000));
    assert.ok((await program.hears(data.length)).equals(data));
    rig.guest.isGenerous = true;
    rig.guest.offer(16);
    await rig.guest.next(RST);
  });

  test("is told of as many refusals as it has asked for, within a bound", async (t) => {
    const rig = await vsockRig(t);
    await rig.frontEnd.stopQueue(RX);
    for (let i = 0; i < 1500; i++) await rig.guest.say({ op: RW, port: 1, guestPort: i });
    await rig.frontEnd.renewQueue(RX);
    const guest = rig.anotherDriver();
    await until(() => guest.listen().length >= 1024, "refusals come");
    await guest.say({ op: RW, port: 1, guestPort: 5000 });
    await guest.next(RST, ({ guestPort }) => guestPort === 5000);
    assert.equal(guest.listen().length, 1024);
  });
});

test("buffers that are too short for a packet are given back empty", async (t) => {
  const rig = await vsockRig(t);
  await rig.frontEnd.renewQueue(RX);
  const rx = new ChainDriver(rig.frontEnd, RX);
  await rig.guest.say({ op: RW, port: 1, guestPort: 1 });
  for (const room of [1, 43, 44]) assert.equal((await rx.used(rx.post([], [room]))).length, 0);
  assert.equal((await rx.used(rx.post([], [20, 24, 1]))).length, spec.VSOCK_HDR_SIZE);
});

describe("packets that no honest guest sends", () => {
  test("are answered, if at all, with RST, and harm nobody", async (t) => {
    const rig = await vsockRig(t);
    const { stream, program } = await rig.connected(52, 4000);
    program.read();
    for (let byteLength = 0; byteLength < spec.VSOCK_HDR_SIZE; byteLength++)
      await rig.guest.sayRaw(encode({ op: RW, port: 52, guestPort: 4000 }).subarray(0, byteLength));
    // More than there is.
    await stream.say(RW, { byteLength: 1000 });
    await settled(rig);
    stream.look();
    assert.deepEqual(rig.guest.listen(), []);
    await stream.send(Buffer.from("still here"));
    assert.equal(String(await program.hears(10)), "still here");
    await stream.say(RW, { byteLength: 0xffffffff });
    await stream.next(RST);
  });

  for (const [name, say] of [
    ["an answer without a question", RESPONSE],
    ["no operation", 0],
    ["an operation that there is not", 8],
  ] as const) {
    test(`end a connection: ${name}`, async (t) => {
      const rig = await vsockRig(t);
      const { stream, program } = await rig.connected(52, 4000);
      await stream.say(say);
      await stream.next(RST);
      await program.read().ends();
    });
  }

  test("end a connection: data after its end", async (t) => {
    const rig = await vsockRig(t);
    const { stream } = await rig.connected(52, 4000);
    await stream.say(SHUTDOWN, { flags: NO_SEND });
    await stream.send(Buffer.from("one more thing"));
    await stream.next(RST);
  });
});

test("there are as many connections as may be, and room again when one has gone", async (t) => {
  const rig = await vsockRig(t, { maxConnections: 3 });
  const listener = await rig.listen(52);
  const streams = [1, 2, 3].map((guestPort) => new GuestStream(rig.guest, 52, guestPort));
  for (const stream of streams) {
    await stream.say(REQUEST);
    await stream.next(RESPONSE);
  }
  const more = new GuestStream(rig.guest, 52, 4);
  await more.say(REQUEST);
  await more.next(RST);
  await rig.call("CONNECT 7\n").read().ends();
  await streams[0]!.say(RST);
  await more.say(REQUEST);
  await more.next(RESPONSE);
  await until(() => listener.count() === 4, "the fourth comes");
});

test("a pause ends nothing, and a guest that has forgotten a connection says so", async (t) => {
  const rig = await vsockRig(t);
  const { stream, program } = await rig.connected(52, 4000);
  program.read();
  const bases = [RX, TX].map((index) => rig.frontEnd.stopQueue(index));
  program.socket.write("meanwhile");
  for (const [index, base] of (await Promise.all(bases)).entries())
    await rig.frontEnd.startQueue(index, base);
  assert.equal(String(await stream.receives(9)), "meanwhile");
  await stream.next(CREDIT_REQUEST);
  await stream.say(RST);
  await program.ends();
});

test("a driver that another process has served is told that its connections are over", async (t) => {
  const rig = await vsockRig(t);
  const events = new ChainDriver(rig.frontEnd, EVENT);
  const posted = events.post([], [4]);
  rig.device.inherited();
  const { bytes } = await events.used(posted);
  assert.deepEqual(bytes, Buffer.alloc(4));
});

const CONNECTS = Number(process.env.VRINGD_TEST_CONNECTS ?? 2000);

test(`${CONNECTS} connections leave nothing behind`, async (t) => {
  const rig = await vsockRig(t);
  const listener = await rig.listen(52);
  const descriptors = () => readdirSync("/proc/self/fd").length;
  const connectOnce = async (i: number) => {
    const stream = new GuestStream(rig.guest, 52, i % 7);
    await stream.say(REQUEST);
    await stream.next(RESPONSE);
    const program = await listener.next();
    if (i % 2 === 0) {
      await stream.say(SHUTDOWN, { flags: BOTH });
      await stream.next(RST);
      await program.read().ends();
      program.socket.destroy();
    } else {
      program.socket.destroy();
      await stream.next(SHUTDOWN);
      await stream.say(RST);
    }
  };
  for (let i = 0; i < 50; i++) await connectOnce(i);
  const before = descriptors();
  const mebibytes = () => Math.round(process.memoryUsage.rss() / 2 ** 20);
  const beforeMiB = mebibytes();
  for (let i = 0; i < CONNECTS; i++) await connectOnce(i);
  await until(() => descriptors() <= before, `descriptors: ${before} before`);
  t.diagnostic(
    `${before} descriptors before, ${descriptors()} after; ${beforeMiB} and ${mebibytes()} MiB in memory`,
  );
  await settled(rig);
});
