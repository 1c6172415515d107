// What a socket device does with many packets of a turn, and with many buffers: few calls of the system, and the same bytes.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { BOTH, RST, RW, SHUTDOWN } from "../support/vsock-packet.ts";
import { vsockRig } from "../support/vsock-rig.ts";

const PACKETS = 24;

test("packets of a turn reach the host in their order, whichever connection they are of", async (t) => {
  const rig = await vsockRig(t);
  const one = await rig.connected(52, 4000);
  const other = await rig.connected(53, 4001);
  one.program.read();
  other.program.read();
  const parts = Array.from({ length: PACKETS }, (_, i) => randomBytes(1 + i * 37));
  for (const [i, data] of parts.entries()) {
    const { port, guestPort } = (i % 2 === 0 ? one : other).stream;
    rig.guest.sayLater({ op: RW, port, guestPort, data });
  }
  for (const [i, { program }] of [one, other].entries()) {
    const wanted = Buffer.concat(parts.filter((_, j) => j % 2 === i));
    assert.deepEqual(await program.hears(wanted.length), wanted);
  }
});

test("data reach the host before an end that comes in the same turn", async (t) => {
  const rig = await vsockRig(t);
  const { stream, program } = await rig.connected(52, 4000);
  program.read();
  const { port, guestPort } = stream;
  const parts = Array.from({ length: PACKETS }, () => randomBytes(1000));
  for (const data of parts) rig.guest.sayLater({ op: RW, port, guestPort, data });
  rig.guest.sayLater({ op: SHUTDOWN, port, guestPort, flags: BOTH });
  await stream.next(RST);
  await program.ends();
  assert.deepEqual(program.heard, Buffer.concat(parts));
});

test("what a program does not read waits in its order, and within the guest's credit", async (t) => {
  const rig = await vsockRig(t);
  const { stream, program } = await rig.connected(52, 4000);
  const { port, guestPort } = stream;
  const parts: Buffer[] = [];
  // More than the host's socket has room for, and all that the connection keeps.
  for (let i = 0; stream.free > 0 && i < 4 * PACKETS; i++) {
    const data = randomBytes(Math.min(20_000, stream.free));
    stream.countSent(data.length);
    parts.push(data);
    await rig.guest.say({ op: RW, port, guestPort, data });
    stream.look();
  }
  const wanted = Buffer.concat(parts);
  program.read();
  assert.deepEqual(await program.hears(wanted.length), wanted);
});

test("much that the host sends fills many buffers, each as a packet of its own", async (t) => {
  const rig = await vsockRig(t);
  const { stream, program } = await rig.connected(52, 4000);
  const data = randomBytes(300_000);
  program.socket.write(data);
  assert.deepEqual(await stream.receives(data.length), data);
});
