// Runs within a guest, where a chip is simulated (guest-gpio-chip.test.ts): vringd-gpio with the lines of a chip, and our own driver.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as spec from "../../assembly/spec/virtio-gpio.ts";
import { limitTests } from "../support/bounded-test.ts";
import { GPIO_PROGRAM, GpioDriver } from "../support/gpio.ts";
import { Vringd } from "../support/vringd.ts";

const { VIRTIO_GPIO_DIRECTION_NONE: NONE, VIRTIO_GPIO_DIRECTION_OUT: OUT } = spec;
const { VIRTIO_GPIO_DIRECTION_IN: IN, VIRTIO_GPIO_IRQ_TYPE_NONE: OFF } = spec;
const { VIRTIO_GPIO_IRQ_TYPE_EDGE_RISING: RISING, VIRTIO_GPIO_IRQ_TYPE_EDGE_BOTH: BOTH } = spec;
const { VIRTIO_GPIO_IRQ_TYPE_LEVEL_HIGH: HIGH, VIRTIO_GPIO_IRQ_STATUS_VALID: VALID } = spec;

/** As the script has made them; 4 belongs to the kernel. */
const [LED, BUTTON, , UNNAMED, TAKEN] = [0, 1, 2, 3, 4];
const CONFIG = "/sys/kernel/config/gpio-sim/chip";
const EDGES = 300;
limitTests(900_000);

const read = (path: string) => readFileSync(path, "utf8").trim();
const [bank] = readdirSync(CONFIG).filter((name) => name === "bank");
const chip = read(join(CONFIG, bank!, "chip_name"));
const lines = join("/sys/devices/platform", read(join(CONFIG, "dev_name")), chip);
const levelOf = (line: number) => read(join(lines, `sim_gpio${line}`, "value"));
const pull = (line: number, level: number) =>
  writeFileSync(join(lines, `sim_gpio${line}`, "pull"), level === 1 ? "pull-up" : "pull-down");
const pulse = (line: number) => {
  pull(line, 1);
  pull(line, 0);
};

let daemon: Vringd;
let driver: GpioDriver;

async function connect(options?: Parameters<typeof GpioDriver.connect>[1]): Promise<GpioDriver> {
  const connected = await GpioDriver.connect(daemon.socketPath, options);
  connected.tries = 50;
  return connected;
}

before(async () => {
  const deviceArgs = () => [`--device-list=/dev/${chip}`];
  daemon = await Vringd.start({ program: GPIO_PROGRAM, deviceArgs });
  driver = await connect();
});
after(async () => {
  driver?.close();
  await daemon?.[Symbol.asyncDispose]();
});

test("a chip's lines have the names that they have there", async () => {
  const { config } = driver.frontEnd;
  const names = "led\0button\0\0\0taken\0\0\0\0";
  assert.deepEqual([config.readUInt16LE(0), config.readUInt32LE(4)], [8, names.length]);
  const bytes = await driver.raw(spec.VIRTIO_GPIO_MSG_GET_LINE_NAMES, 0, 0, 1 + names.length);
  assert.equal(bytes.toString("latin1"), `\0${names}`);
});

test("an output is driven, and given back with its direction", async () => {
  assert.equal(await driver.getDirection(LED), IN);
  await driver.setValue(LED, 1);
  assert.equal(levelOf(LED), "0");
  await driver.setDirection(LED, OUT);
  assert.deepEqual([levelOf(LED), await driver.getDirection(LED), await driver.getValue(LED)], ["1", OUT, 1]);
  await driver.setValue(LED, 0);
  assert.equal(levelOf(LED), "0");
  await driver.setValue(LED, 1);
  await driver.setDirection(LED, NONE);
  // Somebody else may have it now.
  await driver.setDirection(LED, IN);
  assert.equal(await driver.getDirection(LED), IN);
  await driver.setDirection(LED, NONE);
});

test("an input has the level that is there, taken or not", async () => {
  for (const level of [1, 0]) {
    pull(UNNAMED, level);
    assert.equal(await driver.getValue(UNNAMED), level);
    await driver.setDirection(UNNAMED, IN);
    assert.equal(await driver.getValue(UNNAMED), level);
    await driver.setDirection(UNNAMED, NONE);
  }
});

test(`${EDGES} edges are as many interrupts, however they come`, async () => {
  await driver.enable(BUTTON, RISING);
  let heard = 0;
  for (let sent = 0; sent < EDGES; sent += 30) {
    let armed = driver.arm(BUTTON);
    for (let i = 0; i < 30; i++) pulse(BUTTON);
    for (let i = 0; i < 30; i++) {
      assert.equal(await driver.heard(armed), VALID);
      heard++;
      if (i < 29) armed = driver.arm(BUTTON);
    }
  }
  assert.equal(heard, EDGES);
  driver.arm(BUTTON);
  await driver.settle();
  assert.equal(driver.armedCount, 1);
  await driver.setDirection(BUTTON, NONE);
  await driver.settle();
});

test("both edges and a level are told apart from one", async () => {
  await driver.enable(BUTTON, BOTH);
  let armed = driver.arm(BUTTON);
  for (const level of [1, 0, 1]) {
    pull(BUTTON, level);
    assert.equal(await driver.heard(armed), VALID);
    armed = driver.arm(BUTTON);
  }
  await driver.setIrqType(BUTTON, OFF);
  await driver.heard(armed);
  await driver.setIrqType(BUTTON, HIGH);
  for (let i = 0; i < 3; i++) assert.equal(await driver.heard(driver.arm(BUTTON)), VALID);
  pull(BUTTON, 0);
  armed = driver.arm(BUTTON);
  await driver.settle();
  assert.equal(driver.armedCount, 1);
  pull(BUTTON, 1);
  assert.equal(await driver.heard(armed), VALID);
  await driver.setDirection(BUTTON, NONE);
  pull(BUTTON, 0);
});

test("an armed interrupt outlives a pause, with the edges of meanwhile", async () => {
  await driver.enable(BUTTON, RISING);
  const armed = driver.arm(BUTTON);
  await driver.pause(() => {
    for (let i = 0; i < 3; i++) pulse(BUTTON);
  });
  assert.equal(await driver.heard(armed), VALID);
  for (let i = 0; i < 2; i++) assert.equal(await driver.heard(driver.arm(BUTTON)), VALID);
  await driver.setDirection(BUTTON, NONE);
});

test("a line that the kernel has is refused, by name in the log", async () => {
  const response = await driver.ask(spec.VIRTIO_GPIO_MSG_SET_DIRECTION, TAKEN, IN);
  assert.deepEqual(response, { status: spec.VIRTIO_GPIO_STATUS_ERR, value: 0 });
  assert.match(await daemon.waitForLog(/has failed/), /line=taken +reason="?resource busy or locked/);
  assert.equal(await driver.getDirection(TAKEN), OUT);
});

test("an armed interrupt is there again after the program was killed", async () => {
  driver.close();
  driver = await connect({ inflight: true });
  await driver.enable(BUTTON, RISING);
  await driver.setDirection(LED, OUT);
  const armed = driver.arm(BUTTON);
  await driver.settle();
  await daemon.kill9();
  await daemon.restart();
  await driver.frontEnd.reconnect(daemon.socketPath);
  // It is taken from the ring, and the line from the chip, before this is answered.
  await driver.settle();
  await driver.getValue(BUTTON);
  pull(BUTTON, 1);
  assert.equal(await driver.heard(armed), VALID);
  // The chip kept the direction; the driver believes that it has the line.
  await driver.setValue(LED, 1);
  assert.equal(levelOf(LED), "1");
});

test("a chip that is unplugged fails its lines' requests, and the program goes on", async () => {
  await driver.enable(UNNAMED, RISING);
  writeFileSync(join(CONFIG, "live"), "0");
  assert.ok(!existsSync(`/dev/${chip}`));
  assert.equal(
    (await driver.ask(spec.VIRTIO_GPIO_MSG_GET_VALUE, UNNAMED)).status,
    spec.VIRTIO_GPIO_STATUS_ERR,
  );
  assert.equal(
    (await driver.ask(spec.VIRTIO_GPIO_MSG_SET_DIRECTION, LED, IN)).status,
    spec.VIRTIO_GPIO_STATUS_ERR,
  );
  assert.equal(await daemon.stop(), 0);
});
