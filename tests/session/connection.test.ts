// Whole messages out of whatever arrives, and no descriptor lost.
import assert from "node:assert/strict";
import { fstatSync, readdirSync } from "node:fs";
import { afterEach, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ProtocolError } from "../../host/errors.ts";
import { createEventfd } from "../../host/linux/eventfd.ts";
import { checked, close, ioctl } from "../../host/linux/libc.ts";
import { send, unixPair } from "../../host/linux/unix-socket.ts";
import { encodeHeader, encodeMessage, encodeU64, encodeVringState } from "../../host/protocol/codec.ts";
import { Connection, PAYLOAD_MAX } from "../../host/protocol/connection.ts";
import {
  VHOST_USER_GET_FEATURES,
  VHOST_USER_SET_FEATURES,
  VHOST_USER_SET_OWNER,
  VHOST_USER_SET_VRING_KICK,
  VHOST_USER_SET_VRING_NUM,
} from "../../host/protocol/messages.ts";
import { limitTests } from "../support/bounded-test.ts";
import { limitWithRoomFor, withDescriptorLimit } from "../support/descriptor-limit.ts";
import { until } from "../support/until.ts";

/** Far more than the slowest takes: what waits longer waits for ever. */
limitTests(30_000);

const SIOCINQ = 0x541b;

const NUM = encodeMessage(VHOST_USER_SET_VRING_NUM, 8, encodeVringState({ index: 1, num: 256 }));
const KICK = encodeMessage(VHOST_USER_SET_VRING_KICK, 0, encodeU64(1n));
const OWNER = encodeMessage(VHOST_USER_SET_OWNER, 0);

let openBefore: number;
let connection: Connection;
let peer: number | undefined;

/** Bytes that wait in a socket (unix(7), SIOCINQ). */
function unread(fd: number): number {
  const count = Buffer.alloc(4);
  checked("ioctl", ioctl(fd, SIOCINQ, count));
  return count.readInt32LE(0);
}

const openDescriptors = () => readdirSync("/proc/self/fd").length;

function closePeer(): void {
  if (peer !== undefined) close(peer);
  peer = undefined;
}

/** Sends in one piece, which a socket's buffer has room for. */
function write(bytes: Buffer, fds: number[] = []): void {
  assert.equal(send(peer!, bytes, fds), bytes.length);
}

/** An eventfd that is closed here as soon as it was sent. */
function writeWithEventfds(bytes: Buffer, count: number): void {
  const fds = Array.from({ length: count }, createEventfd);
  write(bytes, fds);
  for (const fd of fds) close(fd);
}

beforeEach(() => {
  openBefore = openDescriptors();
  const [ours, theirs] = unixPair();
  connection = new Connection(ours);
  peer = theirs;
});

afterEach(() => {
  connection.close();
  closePeer();
  assert.equal(openDescriptors(), openBefore, "descriptors are left open");
});

describe("receive", () => {
  test("returns a message with flags and payload", async () => {
    write(NUM);
    const message = await connection.receive();
    assert.deepEqual(message, { request: 8, flags: 9, payload: NUM.subarray(12), fds: [] });
  });

  test("waits for a message that isn't there yet", async () => {
    const pending = connection.receive();
    await sleep(5);
    write(OWNER);
    assert.equal((await pending)?.request, VHOST_USER_SET_OWNER);
  });

  test("puts a message together that was cut at any byte", async () => {
    for (let cut = 1; cut < NUM.length; cut++) {
      const pending = connection.receive();
      write(NUM.subarray(0, cut));
      await sleep(1);
      write(NUM.subarray(cut));
      assert.deepEqual((await pending)?.payload, NUM.subarray(12), `cut at ${cut}`);
    }
  });

  test("puts a message together that comes byte by byte", async () => {
    const pending = connection.receive();
    for (const byte of NUM) {
      write(Buffer.from([byte]));
      await sleep(0);
    }
    assert.deepEqual((await pending)?.payload, NUM.subarray(12));
  });

  test("takes two messages of one write apart", async () => {
    write(Buffer.concat([NUM, OWNER]));
    assert.equal((await connection.receive())?.request, VHOST_USER_SET_VRING_NUM);
    assert.equal((await connection.receive())?.request, VHOST_USER_SET_OWNER);
  });

  test("gives the descriptors to the message whose first byte they came with", async () => {
    write(NUM);
    writeWithEventfds(KICK, 3);
    write(OWNER);
    assert.deepEqual((await connection.receive())?.fds, []);
    const { fds } = (await connection.receive())!;
    assert.equal(fds.length, 3);
    for (const fd of fds) {
      fstatSync(fd);
      close(fd);
    }
    assert.deepEqual((await connection.receive())?.fds, []);
  });

  test("keeps the descriptors of a header that was cut after its first byte", async () => {
    const pending = connection.receive();
    writeWithEventfds(KICK.subarray(0, 1), 1);
    await sleep(5);
    write(KICK.subarray(1));
    const { fds } = (await pending)!;
    assert.equal(fds.length, 1);
    close(fds[0]!);
  });

  test("closes descriptors that come with a later byte", async () => {
    for (const cut of [1, 11, 12, 13]) {
      const pending = connection.receive();
      write(NUM.subarray(0, cut));
      // Else both parts may come at once, with the descriptors.
      await until(() => unread(connection.fd) === 0, "the first part is read");
      writeWithEventfds(NUM.subarray(cut), 2);
      assert.deepEqual((await pending)?.fds, [], `cut at ${cut}`);
    }
  });

  test("reports a peer that leaves at any byte, and keeps none of its descriptors", async () => {
    for (let cut = 0; cut < KICK.length; cut++) {
      const [ours, theirs] = unixPair();
      const brief = new Connection(ours);
      const eventfd = createEventfd();
      if (cut > 0) send(theirs, KICK.subarray(0, cut), [eventfd]);
      close(eventfd);
      const pending = brief.receive();
      await sleep(1);
      close(theirs);
      assert.equal(await pending, undefined, `cut at ${cut}`);
      brief.close();
    }
  });

  test("takes a reset for a peer that left", async () => {
    await connection.send(OWNER);
    closePeer();
    assert.equal(await connection.receive(), undefined);
  });

  test("returns what came before the peer left", async () => {
    write(NUM);
    closePeer();
    assert.equal((await connection.receive())?.request, VHOST_USER_SET_VRING_NUM);
    assert.equal(await connection.receive(), undefined);
  });

  test("ends when the connection is closed here", async () => {
    const pending = connection.receive();
    await sleep(5);
    connection.close();
    assert.equal(await pending, undefined);
    assert.equal(await connection.receive(), undefined);
  });

  test("accepts the largest payload", async () => {
    write(encodeMessage(VHOST_USER_SET_FEATURES, 0, Buffer.alloc(PAYLOAD_MAX)));
    assert.equal((await connection.receive())?.payload.length, PAYLOAD_MAX);
  });

  test("refuses a larger one without reading it", async () => {
    for (const size of [PAYLOAD_MAX + 1, 0xffff_ffff]) {
      writeWithEventfds(encodeHeader({ request: VHOST_USER_SET_FEATURES, flags: 1, size }), 2);
      await assert.rejects(connection.receive(), ProtocolError);
    }
  });

  test("refuses every version but 1", async () => {
    for (const version of [0, 2, 3]) {
      writeWithEventfds(encodeHeader({ request: VHOST_USER_GET_FEATURES, flags: version, size: 0 }), 1);
      await assert.rejects(connection.receive(), { message: `GET_FEATURES: version ${version}` });
    }
  });

  test("refuses a message whose descriptors this process has no room for", async () => {
    writeWithEventfds(KICK, 8);
    // The kernel installs as many as fit below the limit and reports the rest as truncated.
    await withDescriptorLimit(limitWithRoomFor(4), () =>
      assert.rejects(connection.receive(), { message: "header: its descriptors did not all arrive" }),
    );
  });
});

describe("send", () => {
  test("sends a message with descriptors, and leaves them open", async () => {
    const [ours, theirs] = unixPair();
    await using receiver = disposable(new Connection(ours));
    const sender = new Connection(theirs);
    const eventfd = createEventfd();
    await sender.send(KICK, [eventfd]);
    fstatSync(eventfd);
    close(eventfd);
    const message = (await receiver.connection.receive())!;
    assert.equal(message.fds.length, 1);
    close(message.fds[0]!);
    sender.close();
  });

  test("waits for room, and sends messages whole and in order", async () => {
    const receiver = new Connection(peer!);
    const count = 400;
    const payload = (i: number) => Buffer.alloc(PAYLOAD_MAX, i);
    const sent = Array.from({ length: count }, (_, i) => connection.send(encodeMessage(i, 0, payload(i))));
    for (let i = 0; i < count; i++) {
      const message = (await receiver.receive())!;
      assert.equal(message.request, i);
      assert.deepEqual(message.payload, payload(i));
    }
    await Promise.all(sent);
  });

  test("can wait for room and for a message at once", async () => {
    const receiving = connection.receive();
    const sending = Array.from({ length: 400 }, () =>
      connection.send(encodeMessage(VHOST_USER_SET_FEATURES, 0, Buffer.alloc(PAYLOAD_MAX))),
    );
    await sleep(5);
    write(OWNER);
    assert.equal((await receiving)?.request, VHOST_USER_SET_OWNER);
    closePeer();
    const results = await Promise.allSettled(sending);
    assert.equal(results.at(-1)!.status, "rejected");
  });

  test("fails with EPIPE when the peer has gone", async () => {
    closePeer();
    await assert.rejects(connection.send(OWNER), { code: "EPIPE" });
  });

  test("fails with EPIPE when the connection is closed while it waits for room", async () => {
    const sending = Array.from({ length: 400 }, () =>
      connection.send(encodeMessage(VHOST_USER_SET_FEATURES, 0, Buffer.alloc(PAYLOAD_MAX))),
    );
    const settled = Promise.allSettled(sending);
    await sleep(5);
    connection.close();
    assert.equal((await settled).at(-1)!.status, "rejected");
    await assert.rejects(connection.send(OWNER), { code: "EPIPE" });
  });
});

describe("interrupt", () => {
  test("ends a wait for a message, and leaves the socket open", async () => {
    const pending = connection.receive();
    await sleep(5);
    connection.interrupt();
    assert.equal(await pending, undefined);
    await connection.send(OWNER);
    assert.equal(unread(peer!), OWNER.length);
  });

  test("ends a wait for room", async () => {
    const sending = Array.from({ length: 400 }, () =>
      connection.send(encodeMessage(VHOST_USER_SET_FEATURES, 0, Buffer.alloc(PAYLOAD_MAX))),
    );
    const settled = Promise.allSettled(sending);
    await sleep(5);
    connection.interrupt();
    assert.equal((await settled).at(-1)!.status, "rejected");
  });
});

describe("close", () => {
  test("may come twice", () => {
    connection.close();
    connection.close();
  });

  test("closes the descriptors of a message that is still arriving", async () => {
    const pending = connection.receive();
    writeWithEventfds(KICK.subarray(0, 14), 2);
    await sleep(5);
    connection.close();
    assert.equal(await pending, undefined);
  });
});

function disposable(connection: Connection) {
  return { connection, [Symbol.asyncDispose]: async () => connection.close() };
}
