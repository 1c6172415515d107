// A guest of vringd-vsock that means harm to the others of its group: theirs go on, whatever it does.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { connect } from "node:net";
import { describe, test } from "node:test";
import * as spec from "../../assembly/spec/virtio-vsock.ts";
import { BUFFER_BYTES } from "../../host/devices/vsock/connection.ts";
import { limitTests } from "../support/bounded-test.ts";
import { tellSeed } from "../support/random.ts";
import { until } from "../support/until.ts";
import {
  BOTH,
  CREDIT_REQUEST,
  CREDIT_UPDATE,
  REQUEST,
  RESPONSE,
  RST,
  SHUTDOWN,
} from "../support/vsock-packet.ts";
import { anyVsockPacket } from "../support/vsock-peer.ts";
import { GuestStream } from "../support/vsock-rig.ts";
import { carry, connectSiblings, countOf, FIRST_CID, siblings } from "../support/vsock-siblings.ts";

limitTests(600_000);

const MUCH = 1 << 20;
const PART = 32 << 10;

describe("a sibling that means harm", () => {
  test("and does not read makes its own connection wait, and no other", async (t) => {
    const all = await siblings(t);
    const stuck = await connectSiblings(all, { guestPort: 4001, farAlloc: 0 });
    let sent = 0;
    // Until the device has no more room to tell of, by the credit that it was asked for.
    for (let isFull = false; !isFull; ) {
      await stuck.near.say(CREDIT_REQUEST);
      await stuck.near.next(CREDIT_UPDATE);
      stuck.near.look();
      isFull = stuck.near.free === 0;
      for (; stuck.near.free > 0; sent += PART) await stuck.near.send(Buffer.alloc(PART));
    }
    assert.ok(sent >= BUFFER_BYTES && sent <= 2 * BUFFER_BYTES, `${sent} bytes`);
    const other = await connectSiblings(all, { guestPort: 4002 });
    const data = randomBytes(MUCH);
    assert.ok((await carry(other.near, other.far, data)).equals(data));
    assert.equal(countOf(all[0]!.device), 2);
  });

  test("and offers no buffers keeps nobody from others", async (t) => {
    const all = await siblings(t, { groups: [["a"], ["a"], ["a"]] });
    all[1]!.guest.isGenerous = false;
    const stream = new GuestStream(all[0]!.guest, 52, 1, undefined, FIRST_CID + 1);
    for (let i = 0; i < 100; i++) {
      const call = new GuestStream(all[0]!.guest, 52, 5000 + i, undefined, FIRST_CID + 1);
      await call.say(REQUEST);
    }
    await stream.say(CREDIT_REQUEST);
    await stream.next(RST);
    const { near, far } = await connectSiblings([all[0]!, all[2]!]);
    const data = randomBytes(MUCH);
    assert.ok((await carry(near, far, data)).equals(data));
  });

  test("and calls without end leaves room for the host's callers", async (t) => {
    const all = await siblings(t, { maxConnections: 8 });
    for (let i = 0; i < 8; i++) {
      const call = new GuestStream(all[0]!.guest, 52, 5000 + i, undefined, FIRST_CID + 1);
      await call.say(REQUEST);
      if (i < 4) await all[1]!.guest.next(REQUEST, ({ port }) => port === 5000 + i);
      else await call.next(RST);
    }
    const program = connect({ path: all[1]!.uds });
    program.on("error", () => {}).write("CONNECT 7\n");
    const { cid, port } = await all[1]!.guest.next(REQUEST, ({ guestPort }) => guestPort === 7);
    assert.equal(cid, spec.VSOCK_CID_HOST);
    await all[1]!.guest.say({ op: RESPONSE, port, guestPort: 7 });
    await until(() => program.readableLength > 0, "the host's caller is connected");
    program.destroy();
  });

  test("and calls from the ports of a connection that is not over is refused", async (t) => {
    const all = await siblings(t);
    const { near, far } = await connectSiblings(all, { farAlloc: 0 });
    await near.send(Buffer.alloc(100));
    await near.say(SHUTDOWN, { flags: BOTH });
    await near.next(RST);
    await near.say(REQUEST);
    await near.next(RST);
    far.alloc = 1000;
    await far.say(CREDIT_UPDATE);
    await far.receives(100);
  });

  test("and sends more than it may is reset, as is the other side", async (t) => {
    const { near, far } = await connectSiblings(await siblings(t), { farAlloc: 0 });
    for (let i = 0; i < 12; i++) await near.send(Buffer.alloc(PART));
    await near.next(RST);
    await far.next(RST);
  });

  test("and lies about its CID is not heard", async (t) => {
    const all = await siblings(t, { groups: [["a"], ["a"], ["a"]] });
    const { near, far } = await connectSiblings(all);
    // The third one as the first one.
    const lie = { sourceCid: FIRST_CID, cid: FIRST_CID + 1, port: 52, guestPort: 4000 };
    await all[2]!.guest.say({ op: RST, ...lie });
    await all[2]!.guest.say({ op: REQUEST, ...lie, guestPort: 4001 });
    await near.send(Buffer.from("still here"));
    assert.equal(String(await far.receives(10)), "still here");
    assert.deepEqual(
      all[1]!.guest.listen().filter(({ op }) => op === REQUEST || op === RST),
      [],
    );
  });

  test("and says anything ends no other connection", async (t) => {
    const random = tellSeed(t);
    const all = await siblings(t, { groups: [["a"], ["a"], ["a"], ["a"]] });
    const { near, far } = await connectSiblings([all[0]!, all[1]!], { port: 9999 });
    const wild = [all[2]!, all[3]!];
    for (let i = 0; i < 2000; i++) {
      const { guest, cid } = random.pick(wild);
      const to = random.pick([FIRST_CID, FIRST_CID + 1, ...wild.map((each) => each.cid)]);
      const packet = anyVsockPacket(random);
      packet.writeBigUInt64LE(BigInt(cid), spec.VSOCK_HDR_SRC_CID);
      packet.writeBigUInt64LE(BigInt(to), spec.VSOCK_HDR_DST_CID);
      await guest.sayRaw(Buffer.concat([packet, Buffer.alloc(random.below(3) * 500)]));
      if (i % 100 > 0) continue;
      for (const each of all) if (each !== all[0] && each !== all[1]) each.guest.listen().length = 0;
      await near.send(Buffer.from("still here"));
      await far.receives(10 * (i / 100 + 1));
    }
    assert.equal(near.received.length, 0);
  });
});
