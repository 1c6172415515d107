// The programs vringd-rng and vringd-console at a real front-end's rings.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { serve } from "vringd";
import { ConsoleDevice } from "../../host/devices/console/device.ts";
import type { VirtioDevice } from "../../host/devices/device.ts";
import { RngDevice } from "../../host/devices/rng/device.ts";
import { ChainDriver, connectDevice } from "../support/chain-driver.ts";
import { until } from "../support/until.ts";

const MULTIPORT = 1;

async function rig(
  t: TestContext,
  make: (directory: string) => VirtioDevice | Promise<VirtioDevice>,
  queues = 1,
  bits: number[] = [],
) {
  const directory = mkdtempSync(join(tmpdir(), "vringd-device-"));
  const socketPath = join(directory, "vhost");
  const device = await make(directory);
  const server = await serve({ device, socketPath });
  const frontEnd = await connectDevice(socketPath, { queues, queueSize: 16, bits });
  t.after(async () => {
    frontEnd.close();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return { directory, frontEnd, driver: (index: number) => new ChainDriver(frontEnd, index) };
}

test("rng gives a file exactly and in order, and then nothing, without an empty answer", async (t) => {
  const contents = randomBytes(5000);
  const { driver, directory, frontEnd } = await rig(t, (directory) => {
    const source = join(directory, "source");
    writeFileSync(source, contents);
    return new RngDevice({ source, maxBytes: undefined, period: 1000 });
  });
  const requests = driver(0);
  const read: Buffer[] = [];
  for (let length = 0; length < contents.length; length += read.at(-1)!.length)
    read.push(await requests.exchange([], [64, 100]));
  assert.deepEqual(Buffer.concat(read), contents);
  const waiting = requests.post([], [64]);
  await sleep(100);
  const base = await frontEnd.stopQueue(0);
  assert.equal(requests.outstanding, 1);
  await frontEnd.startQueue(0, base);
  appendFileSync(join(directory, "source"), "more");
  assert.equal(String((await requests.used(waiting)).bytes), "more");
});

test("rng answers a chain without room, and one of nothing but reading", async (t) => {
  const { driver } = await rig(
    t,
    () => new RngDevice({ source: "/dev/urandom", maxBytes: undefined, period: 1000 }),
  );
  assert.equal((await driver(0).exchange([Buffer.from("readable")], [])).length, 0);
  assert.equal((await driver(0).exchange([], [64])).length, 64);
});

test("rng keeps to its rate", async (t) => {
  const { driver } = await rig(t, () => new RngDevice({ source: "/dev/urandom", maxBytes: 100, period: 50 }));
  const start = performance.now();
  let sum = 0;
  while (sum < 1000) sum += (await driver(0).exchange([], [64])).length;
  assert.ok(performance.now() - start >= 440, "ten periods' bytes take nine periods");
});

test("a console's output goes to its socket, and input comes from it", async (t) => {
  const { directory, driver } = await rig(
    t,
    (directory) => ConsoleDevice.open([{ name: "console", kind: "unix", where: join(directory, "c") }]),
    2,
  );
  // Nobody is there: it is dropped.
  assert.equal((await driver(1).exchange([Buffer.from("lost")], [])).length, 0);
  const peer = connect(join(directory, "c"));
  const heard: Buffer[] = [];
  peer.on("data", (bytes: Buffer) => heard.push(bytes));
  peer.write("typed");
  assert.equal(String(await driver(0).exchange([], [64])), "typed");
  await driver(1).exchange([Buffer.from("hel"), Buffer.from("lo")], []);
  await until(() => String(Buffer.concat(heard)) === "hello", "it is heard");
  peer.destroy();
});

test("ports are announced and named, and open as their host side comes", async (t) => {
  const { directory, driver } = await rig(
    t,
    (directory) =>
      ConsoleDevice.open([
        { name: "console", kind: "file", where: join(directory, "log") },
        { name: "agent", kind: "unix", where: join(directory, "a") },
      ]),
    6,
    [MULTIPORT],
  );
  const message = (id: number, event: number, value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(id, 0);
    bytes.writeUInt16LE(event, 4);
    bytes.writeUInt16LE(value, 6);
    return bytes;
  };
  const toDevice = driver(3);
  const fromDevice = driver(2);
  const next = () => fromDevice.exchange([], [64]);
  await toDevice.exchange([message(0, 0, 1)], []);
  assert.deepEqual([await next(), await next()], [message(0, 1, 0), message(1, 1, 0)]);
  await toDevice.exchange([message(1, 3, 1)], []);
  assert.deepEqual(await next(), Buffer.concat([message(1, 7, 1), Buffer.from("agent")]));
  const peer = connect(join(directory, "a"));
  peer.write("question");
  assert.deepEqual(await next(), message(1, 6, 1));
  await toDevice.exchange([message(1, 6, 1)], []);
  assert.equal(String(await driver(4).exchange([], [64])), "question");
  await driver(1).exchange([Buffer.from("line")], []);
  await until(() => readFileSync(join(directory, "log"), "utf8") === "line", "the log has it");
  peer.destroy();
  assert.deepEqual(await next(), message(1, 6, 0));
});
