// Guests of one vringd-vsock that reach each other, each with a driver of ours: calls, credit of both sides, and ends.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import * as spec from "../../assembly/spec/virtio-vsock.ts";
import { BUFFER_BYTES } from "../../host/devices/vsock/connection.ts";
import { limitTests } from "../support/bounded-test.ts";
import { until } from "../support/until.ts";
import {
  BOTH,
  CREDIT_UPDATE,
  NO_RECEIVE,
  NO_SEND,
  REQUEST,
  RESPONSE,
  RST,
  RW,
  SHUTDOWN,
} from "../support/vsock-packet.ts";
import { GuestStream } from "../support/vsock-rig.ts";
import { carry, connectSiblings, countOf, FIRST_CID, siblings } from "../support/vsock-siblings.ts";

limitTests(1_800_000);

const EOM = spec.VIRTIO_VSOCK_SEQ_EOM;
const MUCH = 1 << 20;
const PART = 32 << 10;
const SEQPACKET = spec.VIRTIO_VSOCK_TYPE_SEQPACKET;

describe("a guest that calls its sibling", () => {
  test("is seen with its own CID and port, and bytes go both ways", async (t) => {
    const all = await siblings(t);
    const near = new GuestStream(all[0]!.guest, 52, 4000, undefined, FIRST_CID + 1);
    await near.say(REQUEST);
    const { cid, port, guestPort, type } = await all[1]!.guest.next(REQUEST);
    assert.deepEqual({ cid, port, guestPort, type }, { cid: FIRST_CID, port: 4000, guestPort: 52, type: 1 });
    const far = new GuestStream(all[1]!.guest, 4000, 52, 100_000, FIRST_CID);
    await far.say(RESPONSE);
    await near.next(RESPONSE);
    const [up, down] = [randomBytes(MUCH), randomBytes(MUCH)];
    assert.ok((await carry(near, far, up)).equals(up));
    assert.ok((await carry(far, near, down)).equals(down));
  });

  test("finds ends of messages kept", async (t) => {
    const { near, far } = await connectSiblings(await siblings(t), { type: SEQPACKET });
    const lengths = [3, 0, 60_000, 1, 9000];
    for (const length of lengths)
      await near.say(RW, { type: SEQPACKET, data: Buffer.alloc(length, "x"), flags: EOM });
    for (const length of lengths) {
      let heard = 0;
      for (;;) {
        const { byteLength, flags } = await far.next(RW);
        heard += byteLength;
        if (flags & EOM) break;
      }
      assert.equal(heard, length);
    }
  });

  test("hears RST where nobody listens, or the sibling's driver knows no such sockets", async (t) => {
    const all = await siblings(t);
    const near = new GuestStream(all[0]!.guest, 52, 4000, undefined, FIRST_CID + 1);
    await near.say(REQUEST);
    await all[1]!.guest.next(REQUEST);
    await all[1]!.guest.say({ op: RST, cid: FIRST_CID, port: 4000, guestPort: 52 });
    await near.next(RST);
    await until(() => countOf(all[0]!.device) + countOf(all[1]!.device) === 0, "both are over");
    all[1]!.device.negotiated(0n);
    await near.say(REQUEST, { type: SEQPACKET });
    await near.next(RST);
  });

  test("takes a call back", async (t) => {
    const all = await siblings(t);
    const near = new GuestStream(all[0]!.guest, 52, 4000, undefined, FIRST_CID + 1);
    await near.say(REQUEST);
    await all[1]!.guest.next(REQUEST);
    await near.say(RST);
    await all[1]!.guest.next(RST, ({ port }) => port === 4000);
  });

  test("hears RST when nobody answers in time, and so does the sibling", async (t) => {
    const all = await siblings(t, { patience: { connectMs: 200 } });
    const near = new GuestStream(all[0]!.guest, 52, 4000, undefined, FIRST_CID + 1);
    await near.say(REQUEST);
    await all[1]!.guest.next(REQUEST);
    await near.next(RST);
    await all[1]!.guest.next(RST);
  });
});

test("guests reach those with whom they have a group in common, and nobody else", async (t) => {
  const all = await siblings(t, { groups: [["a"], ["a", "b"], ["b"], []] });
  const reach = async (from: number, cid: number) => {
    const { guest } = all[from]!;
    const stream = new GuestStream(guest, 52, 4000 + cid, undefined, cid);
    await stream.say(REQUEST);
    const callee = all.find((each) => each.cid === cid && each !== all[from]);
    let isHeard = false;
    await until(() => {
      isHeard ||= callee?.guest.listen().some(({ op }) => op === REQUEST) ?? false;
      return isHeard || guest.listen().some(({ op }) => op === RST);
    }, "either side hears");
    guest.heard.length = 0;
    if (callee) callee.guest.heard.length = 0;
    return isHeard;
  };
  const reached: [number, number][] = [];
  for (let from = 0; from < all.length; from++)
    for (let to = 0; to <= all.length; to++) if (await reach(from, FIRST_CID + to)) reached.push([from, to]);
  assert.deepEqual(reached, [[0, 1], [1, 0], [1, 2], [2, 1]]); // biome-ignore format: pairs
});

describe("connections of siblings end", () => {
  test("in one direction at a time", async (t) => {
    const { near, far } = await connectSiblings(await siblings(t));
    await near.send(Buffer.from("last words"));
    await near.say(SHUTDOWN, { flags: NO_SEND });
    assert.equal(String(await far.receives(10)), "last words");
    assert.equal((await far.next(SHUTDOWN)).flags, NO_SEND);
    const answer = randomBytes(100_000);
    assert.ok((await carry(far, near, answer)).equals(answer));
    await far.say(SHUTDOWN, { flags: BOTH });
    await far.next(RST);
    assert.equal((await near.next(SHUTDOWN)).flags, BOTH);
  });

  test("when one side reads no more, and the other hears of it", async (t) => {
    const { near, far } = await connectSiblings(await siblings(t));
    await far.say(SHUTDOWN, { flags: NO_RECEIVE });
    assert.equal((await near.next(SHUTDOWN)).flags, NO_RECEIVE);
    await near.send(Buffer.alloc(1000));
    await far.send(Buffer.from("still here"));
    assert.equal(String(await near.receives(10)), "still here");
  });

  test("with all that was sent before, however late it is read", async (t) => {
    const { near, far } = await connectSiblings(await siblings(t), { farAlloc: 1000 });
    const data = randomBytes(200_000);
    for (let at = 0; at < data.length; at += PART) await near.send(data.subarray(at, at + PART));
    await near.say(SHUTDOWN, { flags: BOTH });
    // Its ports are free, whoever reads slowly.
    await near.next(RST);
    far.alloc = 1 << 20;
    await far.say(CREDIT_UPDATE);
    assert.ok((await far.receives(data.length)).equals(data));
    assert.equal((await far.next(SHUTDOWN)).flags, BOTH);
  });

  test("by RST at the other side, at once", async (t) => {
    const all = await siblings(t);
    const { near, far } = await connectSiblings(all);
    await far.say(RST);
    await near.next(RST);
    assert.equal(countOf(all[0]!.device) + countOf(all[1]!.device), 0);
  });

  test("when the front-end of one goes, and begin anew when it is back", async (t) => {
    const all = await siblings(t);
    const { near } = await connectSiblings(all);
    all[1]!.frontEnd.close();
    await near.next(RST);
    await near.say(REQUEST);
    await near.next(RST);
    await all[1]!.attach();
    const again = await connectSiblings(all);
    await again.near.send(Buffer.from("hello"));
    assert.equal(String(await again.far.receives(5)), "hello");
  });
});

test("an operator watches those that carry most, however many there are", async (t) => {
  const all = await siblings(t);
  for (let i = 0; i < 12; i++) {
    const { near, far } = await connectSiblings(all, { guestPort: 4000 + i });
    await near.send(Buffer.alloc(100 * (i + 1)));
    await far.receives(100 * (i + 1));
  }
  const watched = all[0]!.device.facts.watched!;
  assert.equal(watched.connections, "12");
  const names = Object.keys(watched).filter((name) => name !== "connections");
  assert.deepEqual(
    names,
    Array.from({ length: 8 }, (_, i) => `guest ${4011 - i} - CID ${FIRST_CID + 1} port 52`),
  );
  assert.equal(watched[names[0]!], `out 1200 in 0 credit ${BUFFER_BYTES}/${1 << 20}`);
});

setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");

function heapInUse(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

const CONNECTS = Number(process.env.VRINGD_TEST_CONNECTS ?? 500);
/** What a heap may gain, whatever was done. */
const HEAP_MARGIN = 4 << 20;

test(`${CONNECTS} connections of two guests leave nothing behind`, async (t) => {
  const all = await siblings(t);
  const connectOnce = async (i: number) => {
    const pair = i % 2 === 0 ? all : [all[1]!, all[0]!];
    const { near, far } = await connectSiblings(pair, { guestPort: 4000 + (i % 7) });
    await near.send(Buffer.from("hello"));
    await far.receives(5);
    await near.say(i % 3 === 0 ? RST : SHUTDOWN, { flags: BOTH });
    if (i % 3 > 0) {
      await near.next(RST);
      await far.next(SHUTDOWN);
      await far.say(RST);
    } else await far.next(RST);
    for (const { guest } of all) guest.listen().length = 0;
  };
  for (let i = 0; i < 100; i++) await connectOnce(i);
  const before = { descriptors: readdirSync("/proc/self/fd").length, heap: heapInUse() };
  for (let i = 0; i < CONNECTS; i++) await connectOnce(i);
  await until(() => all.every(({ device }) => countOf(device) === 0), "all are over");
  assert.ok(readdirSync("/proc/self/fd").length <= before.descriptors);
  const gained = heapInUse() - before.heap;
  t.diagnostic(`the heap has gained ${gained >> 10} KiB`);
  assert.ok(gained < HEAP_MARGIN, `${gained} bytes`);
});
