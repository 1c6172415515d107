// vringd-console at front-ends and drivers with habits: what they ask of the config space, which rings they set up, which bits they
// accept, and who does not read at the host side.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { serve } from "vringd";
import {
  CONSOLE_CONFIG_SIZE as CONFIG_SIZE,
  VIRTIO_CONSOLE_DEVICE_ADD as DEVICE_ADD,
  VIRTIO_CONSOLE_DEVICE_READY as DEVICE_READY,
  CONSOLE_CONFIG_EMERG_WR as EMERG_WR,
  VIRTIO_CONSOLE_F_EMERG_WRITE as EMERG_WRITE,
  CONSOLE_CONFIG_MAX_NR_PORTS as MAX_NR_PORTS,
  VIRTIO_CONSOLE_F_MULTIPORT as MULTIPORT,
  VIRTIO_CONSOLE_PORT_NAME as PORT_NAME,
  VIRTIO_CONSOLE_PORT_OPEN as PORT_OPEN,
  VIRTIO_CONSOLE_PORT_READY as PORT_READY,
  VIRTIO_CONSOLE_F_SIZE as SIZE,
} from "../../assembly/spec/virtio-console.ts";
import { ConsoleDevice } from "../../host/devices/console/device.ts";
import type { FrontEnd, FrontEndOptions } from "../../host/front-end/front-end.ts";
import { VHOST_USER_CONFIG_F_WRITABLE, VHOST_USER_PROTOCOL_F_CONFIG } from "../../host/protocol/messages.ts";
import { ChainDriver, connectDevice } from "../support/chain-driver.ts";
import { until } from "../support/until.ts";

const RECEIVE = 0;
const TRANSMIT = 1;
const CONTROL_RECEIVE = 2;
const CONTROL_TRANSMIT = 3;
/** Of port 1. */
const SECOND_RECEIVE = 4;
const SECOND_TRANSMIT = 5;

/** What Linux has for the id where there is none. */
const NO_PORT = 0xffffffff;

/** More than two sockets' buffers and a stream's have room for. */
const MORE_THAN_FITS = 8 << 20;
const CHAIN_BYTES = 4096;

type Options = FrontEndOptions & { bits?: readonly number[] };

async function rig(t: TestContext, names: readonly string[], options: Options) {
  const directory = mkdtempSync(join(tmpdir(), "vringd-console-"));
  const socketPath = join(directory, "vhost");
  const where = (name: string) => join(directory, name);
  const device = await ConsoleDevice.open(names.map((name) => ({ name, kind: "unix", where: where(name) })));
  const server = await serve({ device, socketPath });
  const sockets: Socket[] = [];
  let frontEnd: FrontEnd | undefined;
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    frontEnd?.close();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  frontEnd = await connectDevice(socketPath, { queueSize: 16, ...options });
  return {
    frontEnd,
    device,
    driver: (index: number) => new ChainDriver(frontEnd, index),
    /** Resolves when the device knows of it. */
    async come(name: string) {
      const socket = connect(where(name));
      sockets.push(socket);
      const port = device.ports.find((port) => port.name === name)!;
      await until(() => port.host.isTaken, "the peer is there");
      return socket;
    },
  };
}

function message(id: number, event: number, value: number, more = ""): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(id, 0);
  bytes.writeUInt16LE(event, 4);
  bytes.writeUInt16LE(value, 6);
  return Buffer.concat([bytes, Buffer.from(more)]);
}

/** All that is said to a peer. */
function listen(socket: Socket): () => string {
  let heard = "";
  socket.on("data", (bytes) => (heard += bytes));
  return () => heard;
}

describe("the config space", () => {
  test("is offered, is read in any parts, and is zero past its end", async (t) => {
    const { frontEnd } = await rig(t, ["console", "data"], { queues: 0, configSize: CONFIG_SIZE });
    assert.ok(frontEnd.hasProtocolFeature(VHOST_USER_PROTOCOL_F_CONFIG));
    const whole = await frontEnd.getConfig(0, 256);
    assert.equal(whole!.readUInt32LE(MAX_NR_PORTS), 2);
    assert.deepEqual(whole!.subarray(CONFIG_SIZE), Buffer.alloc(256 - CONFIG_SIZE));
    for (let i = 0; i < CONFIG_SIZE; i++)
      assert.deepEqual(await frontEnd.getConfig(i, 1), whole!.subarray(i, i + 1));
  });

  test("prints what is written to its register, byte by byte or with the whole space, before any ring or feature", async (t) => {
    const { frontEnd, come } = await rig(t, ["console"], { queues: 0, bits: [] });
    const heard = listen(await come("console"));
    const write = (offset: number, bytes: Uint8Array) =>
      frontEnd.setConfig({ offset, flags: VHOST_USER_CONFIG_F_WRITABLE, bytes: Buffer.from(bytes) });
    for (const character of Buffer.from("bytes ")) {
      assert.equal(await write(EMERG_WR, Uint8Array.of(character)), 0n);
    }
    for (const character of Buffer.from("words ")) {
      assert.equal(await write(EMERG_WR, Uint8Array.of(character, 0xff, 0xff, 0xff)), 0n);
    }
    // As QEMU does: it reads all, changes a byte, and writes all.
    for (const character of Buffer.from("spaces\n")) {
      const whole = Buffer.from((await frontEnd.getConfig(0, CONFIG_SIZE))!);
      whole[EMERG_WR] = character;
      assert.equal(await write(0, whole), 0n);
    }
    // A byte of another field, by a front-end that writes all for it.
    assert.equal(await write(0, (await frontEnd.getConfig(0, CONFIG_SIZE))!), 0n);
    assert.equal(await write(0, Uint8Array.of(7)), 0n);
    await until(() => heard().endsWith("\n"), "the line is heard");
    await sleep(20);
    assert.equal(heard(), "bytes words spaces\n");
    assert.equal((await frontEnd.getConfig(0, 2))!.readUInt16LE(), 80, "a driver does not set the size");
  });

  test("takes no more characters than its peer reads", async (t) => {
    const { frontEnd, come, driver, device } = await rig(t, ["console"], { queues: 2 });
    const peer = await come("console");
    peer.pause();
    const output = driver(TRANSMIT);
    const isFull = () => !device.ports[0]!.host.hasRoom;
    await until(() => {
      if (output.outstanding === 0) output.post([Buffer.alloc(MORE_THAN_FITS >> 3, "x")], []);
      return isFull() && output.outstanding > 0;
    }, "the peer's buffers are full");
    const bytes = Buffer.from("!");
    for (let i = 0; i < 1000; i++) {
      await frontEnd.setConfig({ offset: EMERG_WR, flags: VHOST_USER_CONFIG_F_WRITABLE, bytes });
    }
    const heard = listen(peer);
    peer.resume();
    await until(() => !isFull() && output.outstanding === 0, "it reads again");
    await frontEnd.setConfig({
      offset: EMERG_WR,
      flags: VHOST_USER_CONFIG_F_WRITABLE,
      bytes: Buffer.from("?"),
    });
    await until(() => heard().endsWith("?"), "it hears what comes then");
    assert.ok(heard().split("!").length < 100, "most were dropped");
  });
});

describe("rings", () => {
  for (const queueSize of [4, 64, 256, 1024]) {
    test(`of ${queueSize} entries carry chains of any length both ways`, async (t) => {
      const { driver, come } = await rig(t, ["console"], { queues: 2, queueSize });
      const peer = await come("console");
      const heard = listen(peer);
      const output = driver(TRANSMIT);
      let said = "";
      // Chains of three buffers at the most, so that all of these fit.
      const batch = Math.max(1, queueSize >> 2);
      for (let sent = 0; sent < queueSize + 10; sent += batch) {
        const posted = Array.from({ length: batch }, (_, i) => {
          const parts = Array.from({ length: 1 + (i % 3) }, (_, part) => Buffer.from(`${i}.${part} `));
          said += Buffer.concat(parts);
          return output.post(parts, []);
        });
        for (const each of posted) assert.equal((await output.used(each)).length, 0);
      }
      await until(() => heard() === said, "all is heard, in order");
      const input = driver(RECEIVE);
      const bytes = randomBytes(11 * queueSize);
      peer.write(bytes);
      const received: Buffer[] = [];
      for (let left = bytes.length; left > 0; ) {
        // As many as the input fills: one more would never be used.
        const chains = Math.min(batch, Math.ceil(left / 11));
        const posted = Array.from({ length: chains }, () => input.post([], [5, 6]));
        for (const each of posted) {
          const used = await input.used(each);
          received.push(used.bytes);
          left -= used.length;
        }
      }
      assert.deepEqual(Buffer.concat(received), bytes);
    });
  }

  test("of ports that the driver does not use are not waited for", async (t) => {
    const { driver, come, frontEnd } = await rig(t, ["console", "data"], { queues: 0, bits: [MULTIPORT] });
    for (let i = 0; i < 6; i++) frontEnd.makeQueue();
    const heard = listen(await come("data"));
    // Nothing but the second port's output, and the messages that the driver sends.
    await frontEnd.startQueue(SECOND_TRANSMIT);
    await driver(SECOND_TRANSMIT).exchange([Buffer.from("alone")], []);
    await until(() => heard() === "alone", "it is heard");
    await frontEnd.startQueue(CONTROL_TRANSMIT);
    const toDevice = driver(CONTROL_TRANSMIT);
    for (const each of [
      message(NO_PORT, DEVICE_READY, 1),
      message(1, PORT_READY, 1),
      message(1, PORT_OPEN, 1),
    ])
      assert.equal((await toDevice.used(toDevice.post([each], []))).length, 0);
    // What was to be said waits for its queue.
    await frontEnd.startQueue(CONTROL_RECEIVE);
    const fromDevice = driver(CONTROL_RECEIVE);
    const said = [
      message(0, DEVICE_ADD, 0),
      message(1, DEVICE_ADD, 0),
      message(1, PORT_NAME, 1, "data"),
      message(1, PORT_OPEN, 1),
    ];
    for (const each of said) assert.deepEqual(await fromDevice.exchange([], [64]), each);
  });
});

describe("feature bits", () => {
  test("that were not offered are refused: no front-end sets one for a console", async (t) => {
    // One port has no messages about ports.
    await assert.rejects(rig(t, ["console"], { queues: 2, bits: [MULTIPORT] }), /SET_FEATURES/);
  });

  test("of several ports may be declined: the first one is the console", async (t) => {
    const { driver, come, frontEnd } = await rig(t, ["console", "data"], {
      queues: 2,
      bits: [SIZE, EMERG_WRITE],
    });
    assert.ok(!frontEnd.hasFeature(MULTIPORT));
    const peer = await come("console");
    peer.write("typed");
    assert.equal(String(await driver(RECEIVE).exchange([], [64])), "typed");
    const heard = listen(peer);
    await driver(TRANSMIT).exchange([Buffer.from("shown")], []);
    await until(() => heard() === "shown", "it is heard");
  });
});

describe("used lengths", () => {
  test("are what was written: nothing of output, and of input what came", async (t) => {
    const { driver, come } = await rig(t, ["console", "data"], { queues: 6, bits: [MULTIPORT] });
    const peer = await come("console");
    for (const index of [TRANSMIT, SECOND_TRANSMIT, CONTROL_TRANSMIT]) {
      const output = driver(index);
      // A driver must not give room here (5.3.6.1); one that does gets nothing in it.
      for (const room of [[], [64]]) {
        const { length } = await output.used(output.post([message(9, 9, 9)], room));
        assert.equal(length, 0);
      }
    }
    const toDevice = driver(CONTROL_TRANSMIT);
    await toDevice.exchange([message(0, PORT_OPEN, 1)], []);
    peer.write("four");
    const input = driver(RECEIVE);
    assert.deepEqual((await input.used(input.post([], [1, 2, 3, 4]))).length, 4);
  });
});

describe("a peer that does not read", () => {
  test("keeps a port's chains in their ring as long as it likes, and has all of them then", async (t) => {
    const { driver, come, frontEnd, device } = await rig(t, ["console", "data"], {
      queues: 6,
      bits: [MULTIPORT],
    });
    const peer = await come("data");
    peer.pause();
    const output = driver(SECOND_TRANSMIT);
    const bytes = randomBytes(MORE_THAN_FITS);
    let length = 0;
    const offer = () => {
      for (; output.outstanding < 8 && length < bytes.length; length += CHAIN_BYTES)
        output.post([bytes.subarray(length, length + CHAIN_BYTES)], []);
    };
    await until(() => {
      offer();
      return !device.ports[1]!.host.hasRoom && output.outstanding === 8;
    }, "its ring is full");
    assert.ok(length < bytes.length, "there is no room for all");
    // Its ring stops all the same, again and again, and each time the chain goes back to it.
    for (let i = 0; i < 20; i++) {
      const base = await frontEnd.stopQueue(SECOND_TRANSMIT);
      await frontEnd.startQueue(SECOND_TRANSMIT, base);
    }
    assert.ok(output.outstanding > 0, "it waits");
    const heard: Buffer[] = [];
    peer.on("data", (part: Buffer) => heard.push(part));
    peer.resume();
    await until(
      () => {
        offer();
        return output.outstanding === 0;
      },
      "all chains are used",
      60_000,
    );
    await until(() => heard.reduce((sum, part) => sum + part.length, 0) >= bytes.length, "all is heard");
    assert.ok(Buffer.concat(heard).equals(bytes));
  });

  test("keeps a console's chains for a while, since its kernel waits for each, and gets what comes after it reads again", async (t) => {
    const { driver, come } = await rig(t, ["console"], { queues: 2 });
    const peer = await come("console");
    peer.pause();
    const output = driver(TRANSMIT);
    for (let length = 0; length < MORE_THAN_FITS; length += 32 * CHAIN_BYTES)
      await output.exchange([randomBytes(32 * CHAIN_BYTES)], []);
    const heard = listen(peer);
    peer.resume();
    await until(() => {
      if (output.outstanding === 0) output.post([Buffer.from("again")], []);
      return heard().endsWith("again");
    }, "it hears again");
    assert.ok(heard().length < MORE_THAN_FITS);
  });
});

test("a driver that begins anew has its ports announced anew, and gets no input before it opens them", async (t) => {
  const { driver, come, frontEnd } = await rig(t, ["console", "data"], { queues: 6, bits: [MULTIPORT] });
  const peer = await come("data");
  const introduce = async () => {
    const [toDevice, fromDevice] = [driver(CONTROL_TRANSMIT), driver(CONTROL_RECEIVE)];
    await toDevice.exchange([message(NO_PORT, DEVICE_READY, 1)], []);
    const next = () => fromDevice.exchange([], [64]);
    assert.deepEqual([await next(), await next()], [message(0, DEVICE_ADD, 0), message(1, DEVICE_ADD, 0)]);
    await toDevice.exchange([message(1, PORT_READY, 1)], []);
    assert.deepEqual(
      [await next(), await next()],
      [message(1, PORT_NAME, 1, "data"), message(1, PORT_OPEN, 1)],
    );
    return () => toDevice.exchange([message(1, PORT_OPEN, 1)], []);
  };
  await (await introduce())();
  peer.write("to the first");
  assert.equal(String(await driver(SECOND_RECEIVE).exchange([], [64])), "to the first");
  // Its successor sets up rings of its own, and has told nobody of a reset.
  for (let i = 0; i < 6; i++) await frontEnd.renewQueue(i);
  const open = await introduce();
  const input = driver(SECOND_RECEIVE);
  const posted = input.post([], [64]);
  peer.write("to the second");
  await sleep(100);
  assert.equal(input.outstanding, 1);
  await open();
  assert.equal(String((await input.used(posted)).bytes), "to the second");
});
