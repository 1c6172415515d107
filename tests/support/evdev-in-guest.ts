// What runs in a guest that has event devices of its own: a device that it plays, vringd-input on it, and our own front-end as its
// guest. Prints what is so, a line each; the first thing that is not so ends it with status 1.
import assert from "node:assert/strict";
import { rmSync, symlinkSync } from "node:fs";
import { serve } from "vringd";
import * as spec from "../../assembly/spec/virtio-input.ts";
import { valuesOf } from "../../host/command-line/from-options.ts";
import type { VirtioDevice } from "../../host/devices/device.ts";
import { program } from "../../host/devices/input/options.ts";
import { StartError } from "../../host/errors.ts";
import type { FrontEnd } from "../../host/front-end/front-end.ts";
import { bitmapOf, bitsOf, EventDevice, type InputDescription } from "../../host/linux/evdev.ts";
import {
  ABS_X,
  ABS_Y,
  EV_ABS,
  EV_KEY,
  EV_LED,
  EV_MSC,
  EV_REL,
  EV_REP,
  EV_SND,
  EV_SYN,
  LED_CAPSL,
  REL_X,
  REL_Y,
  SYN_DROPPED,
} from "../../host/linux/input-event-codes.ts";
import { SILENT } from "../../host/process/log.ts";
import { commandLineOf } from "../../host/programs/command-line.ts";
import { connectInput, InputDriver } from "./input-driver.ts";
import { UinputDevice } from "./uinput.ts";
import { until } from "./until.ts";

const [directory = "/run"] = process.argv.slice(2);

const EVENTS = 10_000;
/** Of one write: Linux keeps 64 events at the least for each reader. */
const BATCH = 60;
const [A, B] = [30, 48];
const REPORT = [EV_SYN, 0, 0];
const DROPPED = [[EV_SYN, SYN_DROPPED, 0]];
/** An emulated processor of a machine that has much else to do. */
const PATIENCE_MS = 300_000;

const PAD: InputDescription = {
  name: Buffer.from("A pad that is played"),
  serial: Buffer.alloc(0),
  ids: { bustype: 3, vendor: 0x1234, product: 0x5678, version: 0x111 },
  properties: bitmapOf([0]),
  codes: new Map([
    [EV_KEY, bitmapOf([A, B, 0x110])],
    [EV_REL, bitmapOf([REL_X, REL_Y])],
    [EV_ABS, bitmapOf([ABS_X, ABS_Y])],
    [EV_MSC, bitmapOf([4])],
    [EV_LED, bitmapOf([0, LED_CAPSL])],
    [EV_SND, bitmapOf([2])],
    [EV_REP, bitmapOf([0, 1])],
  ]),
  axes: new Map([
    [ABS_X, { minimum: -5, maximum: 4000, fuzz: 0, flat: 3, resolution: 12 }],
    [ABS_Y, { minimum: 0, maximum: 70_000, fuzz: 0, flat: 0, resolution: 0 }],
  ]),
};

/** As udev keeps a name for a device. */
const link = `${directory}/pad`;

function plugIn(): UinputDevice {
  const device = UinputDevice.make(PAD);
  rmSync(link, { force: true });
  symlinkSync(device.path, link);
  return device;
}

function tell(what: string): void {
  console.log(`so: ${what}`);
  console.error(`${(performance.now() / 1000).toFixed(1)} s: ${what}`);
}

/** The device as the program makes it, served to our own front-end. A program of its own would start for a minute here. */
class Served {
  private constructor(
    readonly driver: InputDriver,
    private readonly frontEnd: FrontEnd,
    private readonly server: { close(): Promise<void> },
  ) {}

  static async start(...args: readonly string[]): Promise<Served> {
    const socketPath = `${directory}/vhost`;
    const server = await serve({ device: await openPad(...args), socketPath });
    const frontEnd = await connectInput(socketPath);
    return new Served(new InputDriver(frontEnd), frontEnd, server);
  }

  async end(): Promise<void> {
    this.frontEnd.close();
    await this.server.close();
  }
}

/** Throws StartError. */
async function openPad(...args: readonly string[]): Promise<VirtioDevice> {
  const line = commandLineOf(program).exitOverride();
  const given = line
    .parse([`--evdev-path=${link}`, "--socket-path=unused", ...args], { from: "user" })
    .opts();
  const context = { stopping: new AbortController().signal, log: SILENT, ownSockets: [] };
  return (await program.open(valuesOf(program.options, given), context)) as VirtioDevice;
}

async function look(driver: InputDriver): Promise<void> {
  assert.equal(String(await driver.ask(spec.VIRTIO_INPUT_CFG_ID_NAME)), "A pad that is played");
  assert.equal((await driver.ask(spec.VIRTIO_INPUT_CFG_ID_DEVIDS)).toString("hex"), "0300341278561101");
  assert.deepEqual(bitsOf(await driver.ask(spec.VIRTIO_INPUT_CFG_PROP_BITS)), [0]);
  for (const [type, bitmap] of PAD.codes)
    assert.deepEqual(
      bitsOf(await driver.ask(spec.VIRTIO_INPUT_CFG_EV_BITS, type)),
      bitsOf(bitmap),
      `${type}`,
    );
  for (const [code, axis] of PAD.axes) {
    const answer = await driver.ask(spec.VIRTIO_INPUT_CFG_ABS_INFO, code);
    const numbers = Array.from({ length: 5 }, (_, i) => answer.readInt32LE(i * 4));
    assert.deepEqual(numbers, [axis.minimum, axis.maximum, axis.fuzz, axis.flat, axis.resolution]);
  }
  tell("names, ids and ranges are the device's");
}

/** Each differs from all others, in groups of several lengths. */
function* batches(): Generator<number[][]> {
  let number = 0;
  for (let sent = 0; sent < EVENTS; ) {
    const batch: number[][] = [];
    while (batch.length <= BATCH - 5) {
      number++;
      for (let i = 0; i <= number % 4; i++) batch.push([EV_REL, i % 2, number * 4 + i]);
      batch.push(REPORT);
    }
    sent += batch.length;
    yield batch;
  }
}

/** `others`: whoever else on this machine reads the device, which hears as much, or nothing. */
async function exchange(
  pad: UinputDevice,
  driver: InputDriver,
  others: EventDevice,
  doOthersHear: boolean,
): Promise<void> {
  let count = 0;
  for (const batch of batches()) {
    pad.emit(batch);
    assert.deepEqual(await driver.next(batch.length), batch);
    // A light that went out before is told with the first report after it.
    const events = others.read().filter(({ type }) => type !== EV_LED);
    const heard = events.map(({ type, code, value }) => [type, code, value]);
    assert.deepEqual(heard, doOthersHear ? batch : []);
    count += batch.length;
  }
  assert.ok(count >= EVENTS);
  tell(
    `${EVENTS} events arrive, complete and in order, and others hear ${doOthersHear ? "them too" : "none"}`,
  );
}

async function blink(pad: UinputDevice, driver: InputDriver): Promise<void> {
  const told: number[][] = [];
  const hears = (wanted: readonly (readonly number[])[]) =>
    until(
      () => {
        told.push(...pad.told().map(({ type, code, value }) => [type, code, value]));
        const ours = told.filter(([type]) => type !== EV_SYN && type !== EV_REP);
        if (ours.length < wanted.length) return false;
        assert.deepEqual(ours, wanted);
        told.length = 0;
        return true;
      },
      "the device is told",
      PATIENCE_MS,
    );
  await driver.tell(EV_LED, LED_CAPSL, 1);
  await driver.tell(EV_MSC, 4, 7);
  await driver.tell(EV_SND, 2, 440);
  await hears([
    [EV_LED, LED_CAPSL, 1],
    [EV_SND, 2, 440],
  ]);
  await driver.tell(EV_SND, 2, 0);
  await hears([[EV_SND, 2, 0]]);
  // What was written came back to the program as events, and did not get here.
  pad.emit([[EV_REL, REL_X, 1], REPORT]);
  assert.deepEqual(await driver.group(), [[EV_REL, REL_X, 1]]);
  tell("lights and sounds come to the device, and nothing else of the status queue");
}

async function unplug(pad: UinputDevice, driver: InputDriver): Promise<UinputDevice> {
  pad.emit([[EV_KEY, A, 1], REPORT]);
  assert.deepEqual(await driver.group(), [[EV_KEY, A, 1]]);
  pad.unplug();
  // The kernel releases keys of a device that goes, which is heard in time or not: the order is open.
  const groups = [await driver.group(), await driver.group()].map(String);
  assert.deepEqual(groups.sort(), [DROPPED, [[EV_KEY, A, 0]]].map(String).sort());
  tell("a device that is unplugged has its keys released");
  const again = plugIn();
  assert.deepEqual(await driver.group(), DROPPED);
  // The light that was on before.
  await until(
    () => again.told().some(({ type, code, value }) => type === EV_LED && code === LED_CAPSL && value === 1),
    "its light is on",
    PATIENCE_MS,
  );
  again.emit([[EV_KEY, B, 1], REPORT]);
  assert.deepEqual(await driver.group(), [[EV_KEY, B, 1]]);
  again.emit([[EV_KEY, B, 0], REPORT]);
  assert.deepEqual(await driver.group(), [[EV_KEY, B, 0]]);
  tell("it comes back when the device does");
  return again;
}

/** All by one turn of the event loop, in which nobody reads the device. */
async function flood(pad: UinputDevice, driver: InputDriver): Promise<void> {
  for (let i = 0; i < 40; i++)
    pad.emit(
      Array.from({ length: 100 }, (_, j) => (j % 2 === 0 ? [EV_REL, REL_X, i * 100 + j + 1] : REPORT)),
    );
  pad.emit([[EV_KEY, B, 1], REPORT]);
  let isDropped = false;
  const untilKey = async (value: number) => {
    // The kernel keeps the last events of what it drops, and they come behind the state that they led to.
    for (let group = await driver.group(); ; group = await driver.group()) {
      isDropped ||= group.some(([type, code]) => type === EV_SYN && code === SYN_DROPPED);
      if (group.some(([type, code, told]) => type === EV_KEY && code === B && told === value)) return;
    }
  };
  await untilKey(1);
  assert.ok(isDropped);
  pad.emit([[EV_KEY, B, 0], REPORT]);
  await untilKey(0);
  tell("what the kernel drops is told, with the state after it");
}

async function main(): Promise<void> {
  let pad = plugIn();
  await until(() => pad.isThere, "the device is there", PATIENCE_MS);
  const grabbed = await Served.start();
  const { driver } = grabbed;
  await look(driver);
  const others = EventDevice.open(link);
  await exchange(pad, driver, others, false);
  assert.throws(() => others.grab(), { code: "EBUSY" });
  await blink(pad, driver);
  await flood(pad, driver);
  others.close();
  pad = await unplug(pad, driver);
  const newcomer = EventDevice.open(link);
  assert.throws(() => newcomer.grab(), { code: "EBUSY" });
  newcomer.close();
  await grabbed.end();

  const shared = await Served.start("--no-grab");
  const reader = EventDevice.open(link);
  await exchange(pad, shared.driver, reader, true);
  await shared.end();
  // The state of what nobody has grabbed can be had by anybody.
  reader.grab();
  await assert.rejects(openPad(), (error) => {
    assert.ok(error instanceof StartError);
    assert.match(
      error.message,
      /^another program keeps the events of \S+ for itself; end it, or say noGrab$/,
    );
    return true;
  });
  tell("a device that somebody else has grabbed is refused");
  reader.close();
  pad.unplug();
  tell("all");
}

await main();
process.exit();
