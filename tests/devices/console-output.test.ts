// A console's output to peers that do not read: what becomes of it when the ring stops, and what it costs.
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ConsoleConfig } from "../../host/devices/console/config.ts";
import { ConsoleHere } from "../support/console-rig.ts";
import { until } from "../support/until.ts";

const TRANSMIT = 1;

/** A console whose peer does not read yet, and all that it reads later. */
async function rig(t: TestContext) {
  const console = await ConsoleHere.start("console=unix:DIR/c");
  t.after(() => console[Symbol.asyncDispose]());
  const peer: Socket = connect(join(console.directory, "c"));
  // What was typed has come: so the peer is there.
  peer.write("?");
  await console.port(0).input.exchange([], [1]);
  const heard: Buffer[] = [];
  const listen = () => peer.on("data", (bytes: Buffer) => heard.push(bytes));
  return { console, peer, listen, heard: () => Buffer.concat(heard), output: console.port(0).output };
}

/** No two places of it are alike. */
function counting(byteLength: number, from = 0): Buffer {
  const bytes = Buffer.alloc(byteLength);
  for (let at = 0; at < byteLength; at += 4) bytes.writeUInt32LE(from + at, at);
  return bytes;
}

test("chains that wait for a peer come again when their ring goes on: nothing is lost, and nothing comes twice", async (t) => {
  const { console, listen, heard, output } = await rig(t);
  const parts = Array.from({ length: 16 }, (_, i) => counting(65536, i * 65536));
  const posted = parts.map((part) => output.post([part], [], { indirect: true }));
  await until(() => output.outstanding < 16, "some were taken");
  await sleep(50);
  for (let i = 0; i < 5; i++) {
    const base = await console.frontEnd.stopQueue(TRANSMIT);
    assert.ok(output.outstanding > 4, "the peer reads nothing");
    await console.frontEnd.startQueue(TRANSMIT, base);
  }
  listen();
  for (const each of posted) assert.equal((await output.used(each)).length, 0);
  await until(() => heard().length >= 16 * 65536, "all is heard");
  assert.ok(heard().equals(Buffer.concat(parts)));
});

test("of a chain that was begun when its ring stopped the peer gets all, once", async (t) => {
  const { console, listen, heard, output } = await rig(t);
  const bytes = counting(3 << 20);
  const posted = output.post([bytes], []);
  await sleep(100);
  assert.equal(output.outstanding, 1);
  const base = await console.frontEnd.stopQueue(TRANSMIT);
  assert.equal((await output.used(posted)).length, 0);
  await console.frontEnd.startQueue(TRANSMIT, base);
  const next = output.post([Buffer.from("next")], []);
  listen();
  await output.used(next);
  await until(() => heard().length >= bytes.length + 4, "all is heard");
  assert.ok(heard().equals(Buffer.concat([bytes, Buffer.from("next")])));
});

test("a character of the emergency register is dropped where there is no room", () => {
  const written: Uint8Array[] = [];
  const host = { backlog: 0, write: (bytes: Uint8Array) => written.push(bytes) };
  const config = new ConsoleConfig([{ host } as never]);
  config.write(8, Uint8Array.of(0x41, 0, 0, 0));
  host.backlog = 4096;
  config.write(8, Uint8Array.of(0x42, 0, 0, 0));
  assert.deepEqual(written, [Uint8Array.of(0x41)]);
});
