// The input device at a real front-end's rings: what it says that it is, its events by groups, and what becomes of its state.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { serve } from "vringd";
import * as spec from "../../assembly/spec/virtio-input.ts";
import { InputDevice } from "../../host/devices/input/device.ts";
import { StartError } from "../../host/errors.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import { EventStream } from "../../host/input/event-stream.ts";
import { PluggedDevice } from "../../host/input/plugged-device.ts";
import { preset } from "../../host/input/presets.ts";
import { bitmapOf, bitsOf, type InputDescription } from "../../host/linux/evdev.ts";
import * as codes from "../../host/linux/input-event-codes.ts";
import { limitTests } from "../support/bounded-test.ts";
import { FakeEventDevice } from "../support/fake-event-device.ts";
import { connectInput, EVENT_QUEUE, InputDriver, STATUS_QUEUE } from "../support/input-driver.ts";
import { until } from "../support/until.ts";

limitTests(300_000);

const { EV_ABS, EV_KEY, EV_LED, EV_MSC, EV_REL, EV_REP, EV_SND, EV_SW, EV_SYN } = codes;
const REPORT = [EV_SYN, codes.SYN_REPORT, 0] as const;
const DROPPED = [EV_SYN, codes.SYN_DROPPED, 0] as const;
const [A, B, SHIFT] = [30, 48, 42];

/** All that a device can have: a keyboard with lights and sounds, a lid, a pad for two fingers. */
const RICH: InputDescription = {
  name: Buffer.from("A keyboard of a test"),
  serial: Buffer.from("0123456789"),
  ids: { bustype: 3, vendor: 0x1234, product: 0x5678, version: 0x111 },
  properties: bitmapOf([0, 2]),
  codes: new Map([
    [EV_KEY, bitmapOf([A, B, SHIFT, 0x14a, 0x2ff])],
    [EV_REL, bitmapOf([0, 1, 8])],
    [EV_ABS, bitmapOf([0, 1, codes.ABS_MT_SLOT, 0x35, codes.ABS_MT_TRACKING_ID])],
    [EV_MSC, bitmapOf([4])],
    [EV_SW, bitmapOf([0])],
    [EV_LED, bitmapOf([0, 1, 2])],
    [EV_SND, bitmapOf([2])],
    [EV_REP, bitmapOf([0, 1])],
  ]),
  axes: new Map([
    [0, { minimum: -7, maximum: 4095, fuzz: 3, flat: 2, resolution: 31 }],
    [1, { minimum: 0, maximum: 2 ** 31 - 1, fuzz: 0, flat: 0, resolution: 0 }],
  ]),
};

async function serveDevice(t: TestContext, device: InputDevice) {
  const directory = mkdtempSync(join(tmpdir(), "vringd-input-"));
  const socketPath = join(directory, "vhost");
  const server = await serve({ device, socketPath, packed: true });
  const frontEnds: FrontEnd[] = [];
  t.after(async () => {
    for (const frontEnd of frontEnds) frontEnd.close();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return {
    async connect(options?: Parameters<typeof connectInput>[1]) {
      const frontEnd = await connectInput(socketPath, options);
      frontEnds.push(frontEnd);
      return frontEnd;
    },
  };
}

/** A device of the host's that the test plays, and the guest's driver. */
async function rig(t: TestContext, { isGrabbed = false, queueSize = 64 } = {}) {
  let fake = new FakeEventDevice(RICH);
  let next: FakeEventDevice | undefined;
  const hardware = PluggedDevice.open("/dev/input/test", isGrabbed, () => {
    if (fake.isClosed && next === undefined) throw Object.assign(new Error("gone"), { code: "ENOENT" });
    fake = next ?? fake;
    return fake;
  });
  const device = new InputDevice(RICH, hardware);
  const { connect } = await serveDevice(t, device);
  const frontEnd = await connect({ queueSize });
  return {
    device,
    connect,
    frontEnd,
    fake,
    driver: new InputDriver(frontEnd),
    plugIn: (description: InputDescription) => {
      next = new FakeEventDevice(description);
      return next;
    },
  };
}

function numbersOf(bytes: Buffer): number[] {
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readInt32LE(i * 4));
}

for (const isWhole of [true, false]) {
  test(`all of a device is told, ${isWhole ? "by a config space that is written whole" : "byte by byte"}`, async (t) => {
    const { driver } = await rig(t);
    const ask = (select: number, subsel = 0) => driver.ask(select, subsel, isWhole);
    assert.equal(String(await ask(spec.VIRTIO_INPUT_CFG_ID_NAME)), "A keyboard of a test");
    assert.equal(String(await ask(spec.VIRTIO_INPUT_CFG_ID_SERIAL)), "0123456789");
    assert.equal((await ask(spec.VIRTIO_INPUT_CFG_ID_DEVIDS)).toString("hex"), "0300341278561101");
    assert.deepEqual(bitsOf(await ask(spec.VIRTIO_INPUT_CFG_PROP_BITS)), [0, 2]);
    for (const [type, bitmap] of RICH.codes)
      assert.deepEqual(bitsOf(await ask(spec.VIRTIO_INPUT_CFG_EV_BITS, type)), bitsOf(bitmap));
    // As many bytes as there are bits in.
    assert.equal((await ask(spec.VIRTIO_INPUT_CFG_EV_BITS, EV_LED)).length, 1);
    assert.deepEqual(numbersOf(await ask(spec.VIRTIO_INPUT_CFG_ABS_INFO, 0)), [-7, 4095, 3, 2, 31]);
    assert.deepEqual(numbersOf(await ask(spec.VIRTIO_INPUT_CFG_ABS_INFO, 1)), [0, 2 ** 31 - 1, 0, 0, 0]);
  });
}

test("there is no answer to what is not there", async (t) => {
  const { driver } = await rig(t);
  const { EV_BITS, ABS_INFO, ID_NAME, ID_SERIAL, ID_DEVIDS, PROP_BITS } = {
    EV_BITS: spec.VIRTIO_INPUT_CFG_EV_BITS,
    ABS_INFO: spec.VIRTIO_INPUT_CFG_ABS_INFO,
    ID_NAME: spec.VIRTIO_INPUT_CFG_ID_NAME,
    ID_SERIAL: spec.VIRTIO_INPUT_CFG_ID_SERIAL,
    ID_DEVIDS: spec.VIRTIO_INPUT_CFG_ID_DEVIDS,
    PROP_BITS: spec.VIRTIO_INPUT_CFG_PROP_BITS,
  };
  const nothing = [
    [0, 0],
    [0, 1],
    [4, 0],
    [0x13, 0],
    [0xff, 0xff],
    [EV_BITS, EV_SYN],
    [EV_BITS, 0x15],
    [EV_BITS, 0xff],
    [ABS_INFO, 2],
    [ABS_INFO, 0xff],
    ...[ID_NAME, ID_SERIAL, ID_DEVIDS, PROP_BITS].map((select) => [select, 1]),
  ];
  for (const [select, subsel] of nothing)
    assert.equal((await driver.ask(select!, subsel!)).length, 0, `${select} ${subsel}`);
});

test("a driver can write what it asks for, and nothing else", async (t) => {
  const { frontEnd, driver } = await rig(t);
  await driver.ask(spec.VIRTIO_INPUT_CFG_ID_NAME);
  const before = await frontEnd.getConfig(0, spec.INPUT_CONFIG_SIZE);
  for (const offset of [2, 3, 7, 8, 135]) {
    const answer = await frontEnd.setConfig({ offset, flags: 0, bytes: Buffer.of(0xee) });
    assert.notEqual(answer, 0n, `${offset}`);
  }
  const foreign = Buffer.from(before!).fill(0xee, 2);
  assert.equal(await frontEnd.setConfig({ offset: 0, flags: 0, bytes: foreign }), 0n);
  assert.deepEqual(await frontEnd.getConfig(0, spec.INPUT_CONFIG_SIZE), before);
});

test("a name has room for 128 bytes", async (t) => {
  const device = new InputDevice({ ...RICH, name: Buffer.alloc(200, "n"), serial: Buffer.alloc(0) });
  const { connect } = await serveDevice(t, device);
  const driver = new InputDriver(await connect());
  assert.equal(String(await driver.ask(spec.VIRTIO_INPUT_CFG_ID_NAME)), "n".repeat(128));
  assert.equal((await driver.ask(spec.VIRTIO_INPUT_CFG_ID_SERIAL)).length, 0);
});

/** As many, in groups of different lengths, each of which differs from all others. */
function numbered(count: number): number[][] {
  const events: number[][] = [];
  for (let i = 0; events.length < count; i++) {
    const group = Array.from({ length: 1 + (i % 7) }, (_, j) => [EV_REL, j % 2, i * 8 + j + 1]);
    events.push(...group, [...REPORT]);
  }
  return events;
}

function binaryOf(events: readonly (readonly number[])[], size: 8 | 24): Buffer {
  const bytes = Buffer.alloc(events.length * size, 0x77);
  for (const [i, [type, code, value]] of events.entries()) {
    const at = (i + 1) * size - 8;
    bytes.writeUInt16LE(type!, at);
    bytes.writeUInt16LE(code!, at + 2);
    bytes.writeInt32LE(value!, at + 4);
  }
  return bytes;
}

function textOf(events: readonly (readonly number[])[]): string {
  return events.map((event) => `${event.join(" ")}\n`).join("");
}

async function mouseOf(
  t: TestContext,
  format: "text" | "virtio" | "evdev",
  content: string | Buffer,
  options?: Parameters<typeof connectInput>[1],
) {
  const directory = mkdtempSync(join(tmpdir(), "vringd-input-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "events");
  writeFileSync(path, content);
  const stream = EventStream.open(path, format);
  const mouse = preset({ keyboard: false, mouse: true, tablet: false });
  const { connect } = await serveDevice(t, new InputDevice(mouse, undefined, stream));
  return { driver: new InputDriver(await connect(options)), connect };
}

for (const packed of [false, true]) {
  for (const [queueSize, count] of [
    [4, 1_000],
    [64, 10_000],
    [1024, 10_000],
  ] as const) {
    test(`${count} events arrive, complete and in order, by ${packed ? "packed" : "split"} rings of ${queueSize}`, async (t) => {
      const events = numbered(count);
      const { driver } = await mouseOf(t, "virtio", binaryOf(events, 8), { queueSize, packed });
      assert.deepEqual(await driver.next(events.length), events);
    });
  }
}

test("a group that is longer than the ring comes in parts", async (t) => {
  const { driver, fake } = await rig(t, { queueSize: 4 });
  const group = Array.from({ length: 101 }, (_, i) => [EV_REL, i % 2, i + 1] as const);
  fake.say(...group, REPORT, [EV_REL, 0, 1], REPORT);
  assert.deepEqual(await driver.group(), group);
  assert.deepEqual(await driver.group(), [[EV_REL, 0, 1]]);
});

for (const [format, content] of [
  ["text", textOf(numbered(3_000))],
  ["evdev", binaryOf(numbered(3_000), 24)],
] as const) {
  test(`a stream may be ${format}`, async (t) => {
    const events = numbered(3_000);
    const { driver } = await mouseOf(t, format, content);
    assert.deepEqual(await driver.next(events.length), events);
  });
}

test("lines have names or numbers, comments and blanks; what is no event of the device is left out", async (t) => {
  const lines = [
    "# a comment",
    "EV_REL REL_X 5",
    "   EV_REL\tREL_Y   -3  ",
    "",
    "EV_KEY BTN_LEFT 1",
    "EV_REL REL_DIAL 1",
    "EV_KEY KEY_A 1",
    "EV_NONE 0 0",
    "1 2",
    "1 0x111 1 1",
    "2 8 2147483648",
    "2 0 x",
    "999 999 999",
    "-1 -1 -1",
    "x".repeat(5000),
    "2 0x8 0x10",
    "EV_SYN SYN_REPORT 0",
    "EV_REL REL_X -2147483648\r",
    "EV_SYN SYN_REPORT 0",
  ];
  const { driver } = await mouseOf(t, "text", `${lines.join("\n")}\n`);
  assert.deepEqual(await driver.group(), [
    [EV_REL, 0, 5],
    [EV_REL, 1, -3],
    [EV_KEY, codes.BTN_LEFT, 1],
    [EV_REL, codes.REL_WHEEL, 16],
  ]);
  assert.deepEqual(await driver.group(), [[EV_REL, 0, -2147483648]]);
});

test("a stream waits for a driver, and for one that is slow", async (t) => {
  const events = numbered(20_000);
  const { driver } = await mouseOf(t, "virtio", binaryOf(events, 8), { queueSize: 16 });
  assert.deepEqual(await driver.next(events.length), events);
});

test("events go on after a pause where they were", async (t) => {
  const { driver, fake, frontEnd } = await rig(t);
  fake.say([EV_KEY, A, 1], REPORT);
  assert.deepEqual(await driver.group(), [[EV_KEY, A, 1]]);
  await driver.hasHeard();
  const base = await frontEnd.stopQueue(EVENT_QUEUE);
  fake.say([EV_KEY, B, 1], REPORT, [EV_KEY, B, 0], REPORT);
  await until(() => fake.isDrained, "the device is read");
  await frontEnd.startQueue(EVENT_QUEUE, base);
  assert.deepEqual(await driver.group(), [[EV_KEY, B, 1]]);
  assert.deepEqual(await driver.group(), [[EV_KEY, B, 0]]);
});

test("groups that a driver has no room for are dropped whole, and it learns so, and how the device is then", async (t) => {
  const { driver, fake } = await rig(t);
  const BACKLOG = 8192;
  fake.say([EV_KEY, SHIFT, 1], REPORT);
  const groups = Array.from({ length: 5_000 }, (_, i) => [
    [EV_REL, 0, i + 1] as const,
    [EV_REL, 1, i + 1] as const,
    REPORT,
  ]);
  fake.say(...groups.flat(), [EV_KEY, SHIFT, 0], [EV_KEY, A, 1], [EV_SW, 0, 1], [EV_ABS, 0, 77], REPORT);
  await until(() => fake.isDrained, "the device is read");
  assert.deepEqual(await driver.group(), [[EV_KEY, SHIFT, 1]]);
  let whole = 0;
  for (;;) {
    const group = await driver.group();
    if (group[0]![0] === EV_SYN) {
      assert.deepEqual(group, [[...DROPPED]]);
      break;
    }
    whole++;
    assert.deepEqual(group, [
      [EV_REL, 0, whole],
      [EV_REL, 1, whole],
    ]);
  }
  // Chains that were asked for are outside of what waits.
  assert.equal(whole, Math.floor((BACKLOG - 2) / 3));
  assert.deepEqual(await driver.group(), [
    [EV_KEY, SHIFT, 0],
    [EV_KEY, A, 1],
    [EV_SW, 0, 1],
    [EV_ABS, 0, 77],
  ]);
  fake.say([EV_KEY, A, 0], REPORT);
  assert.deepEqual(await driver.group(), [[EV_KEY, A, 0]]);
});

test("a group without end is dropped, and does not grow for ever", async (t) => {
  const { driver, fake } = await rig(t);
  for (let i = 0; i < 30; i++) fake.say(...Array.from({ length: 1000 }, () => [EV_REL, 0, 1] as const));
  fake.say(REPORT, [EV_REL, 0, 9], REPORT);
  assert.deepEqual(await driver.group(), [[...DROPPED]]);
  assert.deepEqual(await driver.group(), [[EV_REL, 0, 9]]);
});

test("what the kernel has dropped is told, with the device's state after it", async (t) => {
  const { driver, fake } = await rig(t);
  fake.say([EV_KEY, A, 1], [EV_KEY, B, 1], REPORT);
  assert.equal((await driver.group()).length, 2);
  fake.keys = [B, SHIFT];
  fake.others = [{ type: EV_ABS, code: 1, value: 123 }];
  fake.say([EV_REL, 0, 1], DROPPED, [EV_KEY, 0x14a, 1], REPORT, [EV_REL, 0, 2], REPORT);
  assert.deepEqual(await driver.group(), [[...DROPPED]]);
  assert.deepEqual(await driver.group(), [
    [EV_KEY, A, 0],
    [EV_KEY, SHIFT, 1],
    [EV_ABS, 1, 123],
  ]);
  assert.deepEqual(await driver.group(), [[EV_REL, 0, 2]]);
});

test("fingers that were lifted while events were dropped are not there any more", async (t) => {
  const { driver, fake } = await rig(t);
  const [SLOT, X, ID] = [codes.ABS_MT_SLOT, 0x35, codes.ABS_MT_TRACKING_ID];
  fake.say([EV_ABS, ID, 5], [EV_ABS, X, 100], [EV_ABS, SLOT, 1], [EV_ABS, ID, 6], [EV_ABS, X, 200], REPORT);
  assert.equal((await driver.group()).length, 5);
  fake.say(DROPPED, REPORT);
  assert.deepEqual(await driver.group(), [[...DROPPED]]);
  assert.deepEqual(await driver.group(), [
    [EV_ABS, SLOT, 0],
    [EV_ABS, ID, -1],
    [EV_ABS, SLOT, 1],
    [EV_ABS, ID, -1],
  ]);
});

test("keys are released at a reset, and what else the device is in is told anew", async (t) => {
  const { driver, fake, frontEnd } = await rig(t);
  fake.say([EV_KEY, A, 1], [EV_ABS, 0, 50], [EV_SW, 0, 1], REPORT);
  assert.equal((await driver.group()).length, 3);
  fake.say([EV_KEY, B, 1], REPORT);
  await until(() => fake.isDrained, "the device is read");
  await frontEnd.resetDevice();
  assert.equal(await frontEnd.setFeatures(frontEnd.features), 0n);
  await frontEnd.renewQueue(EVENT_QUEUE);
  assert.deepEqual(sorted(await new InputDriver(frontEnd).group()), [
    [EV_KEY, A, 0],
    [EV_KEY, B, 0],
    [EV_ABS, 0, 50],
    [EV_SW, 0, 1],
  ]);
});

test("they are released, too, for a driver that begins after a reset that nobody told of", async (t) => {
  const { driver, fake, frontEnd } = await rig(t);
  fake.say([EV_KEY, A, 1], REPORT);
  assert.deepEqual(await driver.group(), [[EV_KEY, A, 1]]);
  await frontEnd.stopQueue(EVENT_QUEUE);
  fake.say([EV_KEY, B, 1], REPORT);
  await until(() => fake.isDrained, "the device is read");
  await driver.ask(spec.VIRTIO_INPUT_CFG_ID_NAME);
  await frontEnd.renewQueue(EVENT_QUEUE);
  const next = new InputDriver(frontEnd);
  assert.deepEqual(sorted(await next.group()), [
    [EV_KEY, A, 0],
    [EV_KEY, B, 0],
  ]);
  fake.say([EV_REL, 0, 1], REPORT);
  assert.deepEqual(await next.group(), [[EV_REL, 0, 1]]);
});

test("a driver that another process has served has no key down", async (t) => {
  const { connect, frontEnd } = await rig(t);
  frontEnd.close();
  const next = await connect({ queues: 0 });
  next.makeQueue(64);
  const driver = new InputDriver(next);
  // It has offered buffers before: to somebody else.
  await driver.hasHeard();
  await next.startQueue(EVENT_QUEUE);
  const keys = bitsOf(RICH.codes.get(EV_KEY)!).map((code) => [EV_KEY, code, 0]);
  assert.deepEqual(sorted(await driver.group()), keys);
});

function sorted(events: readonly (readonly number[])[]): number[][] {
  return events
    .map((event) => [...event])
    .sort(([a = 0, b = 0], [c = 0, d = 0]) => (a === EV_SW ? 9 : a) - (c === EV_SW ? 9 : c) || b - d);
}

test("lights and sounds go to the device, and come on again when it is back; other status goes nowhere", async (t) => {
  const { driver, fake, device, plugIn } = await rig(t);
  for (const event of [
    [EV_LED, 1, 1],
    [EV_LED, 0, 1],
    [EV_SND, 2, 440],
    [EV_MSC, 4, 30],
    [EV_LED, 9, 1],
    [EV_KEY, A, 1],
    [EV_LED, 0, 0],
  ] as const)
    assert.equal(await driver.tell(event[0], event[1], event[2]), 0);
  assert.deepEqual(
    fake.written.map(({ type, code, value }) => [type, code, value]),
    [
      [EV_LED, 1, 1],
      [EV_LED, 0, 1],
      [EV_SND, 2, 440],
      [EV_LED, 0, 0],
    ],
  );
  assert.deepEqual(await device.commands.leds!.run([]), {
    LED_NUML: false,
    LED_CAPSL: true,
    LED_SCROLLL: false,
  });
  const next = plugIn(RICH);
  fake.unplug();
  await until(() => next.written.length === 2, "they are on again");
  assert.deepEqual(
    next.written.map(({ type, code, value }) => [type, code, value]),
    [
      [EV_LED, 1, 1],
      [EV_SND, 2, 440],
    ],
  );
});

test("a status buffer without room for an event comes back", async (t) => {
  const { frontEnd, driver } = await rig(t);
  const { ChainDriver } = await import("../support/chain-driver.ts");
  const status = new ChainDriver(frontEnd, 1);
  assert.equal((await status.used(status.post([Buffer.alloc(7)], []))).length, 0);
  assert.equal((await status.used(status.post([], [8]))).length, 0);
  assert.equal(await driver.tell(EV_LED, 0, 1), 0);
});

test("lights are out, and sounds end, while the driver does not run that has turned them on", async (t) => {
  const { driver, fake, frontEnd } = await rig(t);
  await driver.tell(EV_LED, 1, 1);
  await driver.tell(EV_SND, 2, 440);
  const news = () => fake.written.splice(0).map(({ type, code, value }) => [type, code, value]);
  news();
  const base = await frontEnd.stopQueue(STATUS_QUEUE);
  assert.deepEqual(news(), [
    [EV_LED, 1, 0],
    [EV_SND, 2, 0],
  ]);
  await frontEnd.startQueue(STATUS_QUEUE, base);
  assert.deepEqual(news(), [
    [EV_LED, 1, 1],
    [EV_SND, 2, 440],
  ]);
  frontEnd.close();
  await until(() => fake.written.length === 2, "they are off");
  assert.deepEqual(news(), [
    [EV_LED, 1, 0],
    [EV_SND, 2, 0],
  ]);
});

test("what the host writes to its device, and keys that its kernel repeats, are no events for the guest", async (t) => {
  const { driver, fake } = await rig(t);
  fake.say(
    [EV_LED, 0, 1],
    REPORT,
    [EV_KEY, A, 1],
    REPORT,
    [EV_KEY, A, 2],
    [EV_SYN, 0, 1],
    [EV_KEY, A, 0],
    REPORT,
  );
  assert.deepEqual(await driver.group(), [[EV_KEY, A, 1]]);
  assert.deepEqual(await driver.group(), [[EV_KEY, A, 0]]);
});

test("a device that is unplugged releases its keys, and goes on when it is back", async (t) => {
  const { driver, fake, plugIn } = await rig(t);
  fake.say([EV_KEY, A, 1], [EV_SW, 0, 1], REPORT, [EV_REL, 0, 1]);
  assert.equal((await driver.group()).length, 2);
  fake.unplug();
  assert.deepEqual(await driver.group(), [[...DROPPED]]);
  assert.deepEqual(await driver.group(), [
    [EV_KEY, A, 0],
    [EV_SW, 0, 0],
  ]);
  assert.ok(fake.isClosed);
  // Another one at its path is not taken for it.
  const other = plugIn({ ...RICH, serial: Buffer.from("another") });
  await until(() => other.isClosed, "the other one is let go");
  const next = plugIn(RICH);
  next.keys = [B];
  assert.deepEqual(await driver.group(), [[...DROPPED]]);
  assert.deepEqual(await driver.group(), [[EV_KEY, B, 1]]);
  next.say([EV_REL, 1, 2], REPORT);
  assert.deepEqual(await driver.group(), [[EV_REL, 1, 2]]);
});

test("a device is grabbed once no key is down", async (t) => {
  const fake = new FakeEventDevice(RICH);
  fake.keys = [A, B];
  const hardware = PluggedDevice.open("test", true, () => fake);
  const { connect } = await serveDevice(t, new InputDevice(RICH, hardware));
  const driver = new InputDriver(await connect());
  const group = driver.group();
  fake.say([EV_KEY, A, 0], REPORT);
  await until(() => fake.isDrained, "the device is read");
  assert.ok(!fake.isGrabbed);
  fake.say([EV_KEY, SHIFT, 1], REPORT, [EV_KEY, B, 0], REPORT);
  await until(() => fake.isDrained, "the device is read");
  assert.ok(!fake.isGrabbed);
  fake.say([EV_KEY, SHIFT, 0], REPORT);
  await until(() => fake.isGrabbed, "it is grabbed");
  await group;
});

test("one that is not to be grabbed is not", async (t) => {
  const { fake, driver } = await rig(t, { isGrabbed: false });
  fake.say([EV_REL, 0, 1], REPORT);
  await driver.group();
  assert.ok(!fake.isGrabbed);
});

test("what is no event device, and one that somebody else has grabbed, is told in a sentence", () => {
  const fake = new FakeEventDevice(RICH);
  fake.whyNoGrab = "EBUSY";
  assert.throws(
    () => PluggedDevice.open("/dev/input/event3", true, () => fake),
    (error) => {
      assert.ok(error instanceof StartError);
      assert.match(
        error.message,
        /^another program keeps the events of \/dev\/input\/event3 for itself; end it, or say noGrab$/,
      );
      return true;
    },
  );
  assert.ok(fake.isClosed);
  assert.throws(
    () => PluggedDevice.open("/dev/null", true),
    /^StartError: \/dev\/null is no event device; give one of/,
  );
  assert.throws(
    () => PluggedDevice.open("/nowhere", true),
    /^StartError: can't open \/nowhere: no such file or directory$/,
  );
});
