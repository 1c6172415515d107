// vringd-vsock's sockets of messages (SEQPACKET): boundaries are kept both ways, whatever packets and buffers they go by.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import * as spec from "../../assembly/spec/virtio-vsock.ts";
import { MESSAGE_BUFFER_BYTES } from "../../host/devices/vsock/connection.ts";
import { SocketSet } from "../../host/linux/socket-set.ts";
import { MessageProgram } from "../support/message-program.ts";
import { CREDIT_UPDATE, REQUEST, RESPONSE, RST, RW, SHUTDOWN } from "../support/vsock-packet.ts";
import { GuestStream, vsockRig } from "../support/vsock-rig.ts";

const EOM = spec.VIRTIO_VSOCK_SEQ_EOM;
const EOR = spec.VIRTIO_VSOCK_SEQ_EOR;
const BITS = [spec.VIRTIO_VSOCK_F_STREAM, spec.VIRTIO_VSOCK_F_SEQPACKET];
const type = spec.VIRTIO_VSOCK_TYPE_SEQPACKET;

async function connected(t: TestContext, alloc?: number) {
  const rig = await vsockRig(t, { bits: BITS });
  const set = new SocketSet();
  const listener = MessageProgram.listen(`${rig.uds}_60`);
  t.after(() => {
    set.close();
    listener.close();
  });
  const stream = new GuestStream(rig.guest, 60, 4000, alloc);
  await stream.say(REQUEST, { type });
  assert.equal((await stream.next(RESPONSE)).type, type);
  const program = await listener.next(set);
  return { rig, stream, program, set };
}

/** A message that the guest hears, of as many packets as it takes. */
async function heard(stream: GuestStream): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (;;) {
    const { data, flags } = await stream.next(RW);
    parts.push(data);
    stream.received = Buffer.concat([stream.received, data]);
    if (flags & EOM) return Buffer.concat(parts);
    await stream.say(CREDIT_UPDATE, { type });
  }
}

test("messages of the guest keep their ends, whatever packets they come in", async (t) => {
  const { stream, program } = await connected(t);
  for (const [packets, flags] of [
    [["one"], EOM],
    [["tw", "", "o"], EOM | EOR],
    [["t", "h", "r", "ee"], EOM],
  ] as const) {
    for (const [i, text] of packets.entries())
      await stream.say(RW, { type, data: Buffer.from(text), flags: i === packets.length - 1 ? flags : 0 });
    assert.equal(String(await program.hear()), packets.join(""));
  }
  const large = randomBytes(MESSAGE_BUFFER_BYTES);
  await stream.say(RW, { type, data: large.subarray(0, 65536) });
  await stream.say(RW, { type, data: large.subarray(65536), flags: EOM });
  assert.ok((await program.hear())?.equals(large));
});

test("messages of the host keep their ends, in buffers and credit that are smaller", async (t) => {
  const { stream, program } = await connected(t, 50_000);
  const messages = [5, 1, 4000, 4052, 4053, 49_999, 50_000].map((byteLength) => randomBytes(byteLength));
  for (const message of messages) {
    await program.said(message);
    assert.ok((await heard(stream)).equals(message), `${message.length} bytes`);
    await stream.say(CREDIT_UPDATE, { type });
  }
});

test("messages of a program that has gone reach the guest, and then its end", async (t) => {
  const { stream, program } = await connected(t);
  const messages = [5, 4096, 1, 60_000, 3000].map((byteLength) => randomBytes(byteLength));
  for (const message of messages) await program.said(message);
  program.close();
  for (const message of messages) assert.ok((await heard(stream)).equals(message), `${message.length} bytes`);
  await stream.next(SHUTDOWN);
});

test("messages wait for a program that does not read, whole and in order", async (t) => {
  const { rig, stream, program } = await connected(t);
  const messages = Array.from({ length: 60 }, (_, i) => Buffer.alloc(10_000 - i, i));
  let sent = 0;
  for (; sent < messages.length; sent++) {
    stream.look();
    if (sent > 20 && stream.free < 20_000) break;
    await stream.say(RW, { type, data: messages[sent]!, flags: EOM });
    stream.countSent(messages[sent]!.length);
    // Its credit comes with any packet of the device's.
    await stream.say(spec.VIRTIO_VSOCK_OP_CREDIT_REQUEST, { type });
    await stream.next(CREDIT_UPDATE);
  }
  assert.ok(sent < messages.length, "some had to wait");
  for (const message of messages.slice(0, sent)) assert.ok((await program.hear())?.equals(message));
  await stream.say(SHUTDOWN, { type, flags: 3 });
  await stream.next(RST);
  assert.equal(await program.hear(), undefined);
  assert.ok(rig.device !== undefined);
});

describe("a call", () => {
  test("of the host comes by a socket of messages", async (t) => {
    const rig = await vsockRig(t, { bits: BITS });
    const set = new SocketSet();
    t.after(() => set.close());
    const program = MessageProgram.connect(set, `${rig.uds}_seqpacket`);
    await program.said(Buffer.from("CONNECT 9\n"));
    const request = await rig.guest.next(REQUEST);
    assert.equal(request.type, type);
    const stream = new GuestStream(rig.guest, request.port, 9);
    await stream.say(RESPONSE, { type });
    assert.equal(String(await program.hear()), `OK ${request.port}\n`);
    await program.said(Buffer.from("a message"));
    assert.equal(String(await heard(stream)), "a message");
  });

  test("of the guest is reset where the host's program has a socket of bytes", async (t) => {
    const rig = await vsockRig(t, { bits: BITS });
    await rig.listen(52);
    await rig.guest.say({ op: REQUEST, port: 52, guestPort: 1, type });
    await rig.guest.next(RST);
  });

  test("of the guest is reset unless it was agreed on", async (t) => {
    const rig = await vsockRig(t);
    const listener = MessageProgram.listen(`${rig.uds}_60`);
    t.after(() => listener.close());
    await rig.guest.say({ op: REQUEST, port: 60, guestPort: 1, type });
    await rig.guest.next(RST);
  });
});

test("a message that is longer than the guest has room for at all ends the connection", async (t) => {
  const { stream, program } = await connected(t, 1000);
  await program.said(Buffer.alloc(1001));
  await stream.next(RST);
  assert.equal(await program.hear(), undefined);
});

test("messages without bytes wait by their number, not by their bytes", async (t) => {
  const { rig, stream } = await connected(t);
  for (let i = 0; i < 5000; i++) {
    await stream.say(RW, { type, flags: EOM });
    if (rig.guest.listen().some(({ op }) => op === RST)) return;
  }
  assert.fail("they wait without end");
});
