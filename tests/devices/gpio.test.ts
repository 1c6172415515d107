// vringd-gpio at a driver's rings: messages, levels, and interrupts that are armed, latched, or lost to nobody.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { serve } from "vringd";
import * as spec from "../../assembly/spec/virtio-gpio.ts";
import { GpioDevice } from "../../host/devices/gpio/device.ts";
import { EmulatedPin, type Pin } from "../../host/lines/pin.ts";
import { Pins } from "../../host/lines/pins.ts";
import type { Log } from "../../host/process/log.ts";
import { GPIO_PROGRAM, GpioDriver, startGpio } from "../support/gpio.ts";
import { ask } from "../support/observed.ts";
import { toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";

const { VIRTIO_GPIO_DIRECTION_NONE: NONE, VIRTIO_GPIO_DIRECTION_OUT: OUT } = spec;
const { VIRTIO_GPIO_DIRECTION_IN: IN, VIRTIO_GPIO_IRQ_TYPE_NONE: OFF } = spec;
const { VIRTIO_GPIO_IRQ_TYPE_EDGE_RISING: RISING, VIRTIO_GPIO_IRQ_TYPE_EDGE_FALLING: FALLING } = spec;
const { VIRTIO_GPIO_IRQ_TYPE_LEVEL_HIGH: HIGH, VIRTIO_GPIO_IRQ_TYPE_LEVEL_LOW: LOW } = spec;
const { VIRTIO_GPIO_IRQ_STATUS_VALID: VALID, VIRTIO_GPIO_IRQ_STATUS_INVALID: INVALID } = spec;
const BOTH = spec.VIRTIO_GPIO_IRQ_TYPE_EDGE_BOTH;
const { VIRTIO_GPIO_STATUS_OK: OK, VIRTIO_GPIO_STATUS_ERR: ERR } = spec;

const NAMES = ["led", "button", "the reset line"];
const [LED, BUTTON, RESET] = [0, 1, 2];
const USAGE = 2;

type Options = Parameters<typeof GpioDriver.connect>[1];

async function rig(t: TestContext, options: Options & { pins?: Pins } = {}) {
  const { pins = Pins.emulate(NAMES), ...rest } = options;
  const directory = mkdtempSync(join(tmpdir(), "vringd-gpio-"));
  const socketPath = join(directory, "socket");
  const lines: { fields: object | string; sentence?: string | undefined }[] = [];
  const keep = (fields: object | string, sentence?: string) => void lines.push({ fields, sentence });
  const log: Log = { error: keep, warn: keep, info: () => {}, debug: () => {} };
  const device = new GpioDevice(pins);
  const server = await serve({ device, socketPath, packed: true, log });
  const driver = await GpioDriver.connect(socketPath, rest);
  t.after(async () => {
    driver.close();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const set = (line: string, level: number) => void device.commands.set!.run([line, String(level)]);
  const pulse = (line: string) => {
    set(line, 1);
    set(line, 0);
  };
  return { device, driver, socketPath, lines, set, pulse };
}

describe("the configuration space", () => {
  test("tells how many lines there are, and how long their names", async (t) => {
    const { driver } = await rig(t);
    const { config } = driver.frontEnd;
    const { length } = `${NAMES.join("\0")}\0`;
    assert.deepEqual([config.length, config.readUInt16LE(0), config.readUInt16LE(2)], [8, NAMES.length, 0]);
    assert.equal(config.readUInt32LE(spec.GPIO_CONFIG_NAMES_SIZE), length);
    const names = await driver.raw(spec.VIRTIO_GPIO_MSG_GET_LINE_NAMES, 0, 0, 1 + length);
    assert.equal(names.toString("latin1"), `\0${NAMES.join("\0")}\0`);
  });

  test("has no names where no line has one, and a byte for each where some have", async (t) => {
    const { driver } = await rig(t, { pins: new Pins(["", ""].map((name) => new EmulatedPin(name))) });
    assert.equal(driver.frontEnd.config.readUInt32LE(spec.GPIO_CONFIG_NAMES_SIZE), 0);
    assert.deepEqual(await driver.ask(spec.VIRTIO_GPIO_MSG_GET_LINE_NAMES, 0), { status: ERR, value: 0 });
    // What is no ASCII, or is there twice, is no name for a guest.
    const pins = new Pins(["", "MMC-CD", "größe", "MMC-CD"].map((name) => new EmulatedPin(name)));
    assert.equal(String(pins.nameBlock), "\0MMC-CD\0\0\0");
  });
});

for (const packed of [false, true]) {
  describe(`a message in a ${packed ? "packed" : "split"} ring`, () => {
    test("sets a direction and a value, which counts once the line is an output", async (t) => {
      const { driver, device, set } = await rig(t, { packed });
      assert.equal(await driver.getDirection(LED), IN);
      await driver.setValue(LED, 1);
      assert.equal(await driver.getValue(LED), 0);
      await driver.setDirection(LED, OUT);
      assert.deepEqual([await driver.getDirection(LED), await driver.getValue(LED)], [OUT, 1]);
      await driver.setValue(LED, 0);
      assert.equal(await driver.getValue(LED), 0);
      await driver.setDirection(BUTTON, IN);
      set("button", 1);
      assert.deepEqual([await driver.getDirection(BUTTON), await driver.getValue(BUTTON)], [IN, 1]);
      assert.deepEqual(device.commands.lines!.run([]), {
        led: "out 0",
        button: "in 1",
        "the reset line": "0",
      });
      // All that was said of a line is forgotten with its direction.
      await driver.setValue(LED, 1);
      await driver.setDirection(LED, NONE);
      assert.equal(await driver.getValue(LED), 0);
      await driver.setDirection(LED, OUT);
      assert.equal(await driver.getValue(LED), 0);
    });

    test("that makes no sense fails, with both bytes of its response", async (t) => {
      const { driver, lines } = await rig(t, { packed });
      const nonsense: [message: number, gpio: number, value: number][] = [
        [0, LED, 0],
        [7, LED, 0],
        [0xffff, LED, 0],
        [spec.VIRTIO_GPIO_MSG_GET_DIRECTION, NAMES.length, 0],
        [spec.VIRTIO_GPIO_MSG_GET_VALUE, 0xffff, 0],
        [spec.VIRTIO_GPIO_MSG_SET_DIRECTION, LED, 3],
        [spec.VIRTIO_GPIO_MSG_SET_DIRECTION, LED, 0x1_0001],
        [spec.VIRTIO_GPIO_MSG_SET_VALUE, LED, 2],
        ...[5, 6, 7, 9, 12, 16, 0xffff_ffff].map((type): [number, number, number] => [
          spec.VIRTIO_GPIO_MSG_SET_IRQ_TYPE,
          LED,
          type,
        ]),
      ];
      for (const [message, gpio, value] of nonsense)
        assert.deepEqual(await driver.ask(message, gpio, value), { status: ERR, value: 0 });
      assert.equal(await driver.getValue(LED), 0);
      assert.deepEqual(lines, []);
    });

    test("writes what its response has, whatever the room", async (t) => {
      const { driver } = await rig(t, { packed });
      const { VIRTIO_GPIO_MSG_GET_DIRECTION: GET, VIRTIO_GPIO_MSG_GET_LINE_NAMES: GET_NAMES } = spec;
      assert.deepEqual([...(await driver.raw(GET, LED, 0, 64))], [OK, IN]);
      assert.equal((await driver.raw(GET, LED, 0, 1)).length, 0);
      const names = `${NAMES.join("\0")}\0`;
      assert.equal((await driver.raw(GET_NAMES, 0, 0, 500)).length, 1 + names.length);
      assert.deepEqual([...(await driver.raw(GET_NAMES, 0, 0, names.length))], [ERR, 0]);
    });

    test("is answered beside others for other lines, and in its turn for the same", async (t) => {
      const { driver } = await rig(t, { packed });
      await driver.setDirection(LED, OUT);
      const posted = [1, 0, 1].flatMap((value) => [
        driver.post(spec.VIRTIO_GPIO_MSG_SET_VALUE, LED, value, 2),
        driver.post(spec.VIRTIO_GPIO_MSG_GET_VALUE, LED, 0, 2),
      ]);
      await driver.settle();
      const values = posted.map((each) => [...each.used!.bytes]);
      assert.deepEqual(
        values,
        [0, 1, 0, 0, 0, 1].map((value) => [OK, value]),
      );
    });
  });

  describe(`an interrupt by a ${packed ? "packed" : "split"} ring`, () => {
    for (const [type, name, up, down] of [
      [RISING, "rising edges", VALID, undefined],
      [FALLING, "falling edges", undefined, VALID],
      [BOTH, "both edges", VALID, VALID],
    ] as const) {
      test(`comes for ${name}, one at a time, and for no others`, async (t) => {
        const { driver, set } = await rig(t, { packed });
        await driver.enable(BUTTON, type);
        let armed = driver.arm(BUTTON);
        for (const [level, wanted] of [
          [1, up],
          [0, down],
          [1, up],
        ] as const) {
          set("button", level);
          if (wanted === undefined) {
            await driver.settle();
            assert.equal(driver.armedCount, 1);
          } else {
            assert.equal(await driver.heard(armed), wanted);
            armed = driver.arm(BUTTON);
          }
        }
        // The same level once more is no edge.
        set("button", 1);
        await driver.settle();
        assert.equal(driver.armedCount, 1);
      });
    }

    test("is latched while it is masked, as often as there were edges", async (t) => {
      const { driver, pulse } = await rig(t, { packed });
      await driver.enable(BUTTON, RISING);
      for (let i = 0; i < 5; i++) pulse("button");
      for (let i = 0; i < 5; i++) assert.equal(await driver.heard(driver.arm(BUTTON)), VALID);
      driver.arm(BUTTON);
      await driver.settle();
      assert.equal(driver.armedCount, 1);
    });

    test("of a level comes as long as the line has it, and is not latched", async (t) => {
      const { driver, set } = await rig(t, { packed });
      await driver.enable(BUTTON, HIGH);
      set("button", 1);
      for (let i = 0; i < 3; i++) assert.equal(await driver.heard(driver.arm(BUTTON)), VALID);
      set("button", 0);
      const armed = driver.arm(BUTTON);
      await driver.settle();
      assert.equal(driver.armedCount, 1);
      set("button", 1);
      assert.equal(await driver.heard(armed), VALID);
      set("button", 0);
      await driver.setIrqType(BUTTON, OFF);
      await driver.setIrqType(BUTTON, LOW);
      assert.equal(await driver.heard(driver.arm(BUTTON)), VALID);
    });

    test("that is disabled gives its buffers back, and forgets what was latched", async (t) => {
      const { driver, pulse } = await rig(t, { packed });
      await driver.enable(BUTTON, RISING);
      const armed = driver.arm(BUTTON);
      await driver.setIrqType(BUTTON, OFF);
      assert.equal(await driver.heard(armed), INVALID);
      await driver.setIrqType(BUTTON, RISING);
      pulse("button");
      await driver.setIrqType(BUTTON, OFF);
      await driver.setIrqType(BUTTON, RISING);
      const again = driver.arm(BUTTON);
      await driver.settle();
      assert.equal(driver.armedCount, 1);
      // With the line itself, too.
      await driver.setDirection(BUTTON, NONE);
      assert.equal(await driver.heard(again), INVALID);
    });

    test("that is not enabled, is no line's, or is unmasked already, is none", async (t) => {
      const { driver } = await rig(t, { packed });
      for (const gpio of [BUTTON, NAMES.length, 0xffff])
        assert.equal(await driver.heard(driver.arm(gpio)), INVALID);
      await driver.enable(BUTTON, BOTH);
      driver.arm(BUTTON);
      assert.equal(await driver.heard(driver.arm(BUTTON)), INVALID);
      assert.equal(driver.armedCount, 1);
    });

    test("is for inputs, and inputs stay such while they have one", async (t) => {
      const { driver } = await rig(t, { packed });
      await driver.setDirection(LED, OUT);
      const { VIRTIO_GPIO_MSG_SET_IRQ_TYPE: SET_IRQ_TYPE, VIRTIO_GPIO_MSG_SET_DIRECTION: SET_DIRECTION } =
        spec;
      assert.equal((await driver.ask(SET_IRQ_TYPE, LED, RISING)).status, ERR);
      await driver.setIrqType(LED, OFF);
      assert.equal(await driver.getDirection(LED), OUT);
      await driver.enable(BUTTON, RISING);
      assert.equal((await driver.ask(SET_DIRECTION, BUTTON, OUT)).status, ERR);
      await driver.setDirection(BUTTON, IN);
      await driver.setIrqType(BUTTON, OFF);
      await driver.setDirection(BUTTON, OUT);
    });

    test("of each line comes for that line, by as many buffers as there are lines", async (t) => {
      const { driver, set } = await rig(t, { packed });
      const armed = [];
      for (const gpio of [LED, BUTTON, RESET]) {
        await driver.enable(gpio, RISING);
        armed.push(driver.arm(gpio));
      }
      for (const gpio of [RESET, LED, BUTTON]) {
        set(NAMES[gpio]!, 1);
        assert.equal(await driver.heard(armed[gpio]!), VALID);
      }
      assert.equal(driver.armedCount, 0);
    });

    test("that is armed outlives a pause, with the edges that come meanwhile", async (t) => {
      const { driver, set, pulse } = await rig(t, { packed });
      await driver.enable(BUTTON, RISING);
      await driver.enable(RESET, HIGH);
      let armed = driver.arm(BUTTON);
      const level = driver.arm(RESET);
      for (let round = 0; round < 20; round++) {
        await driver.pause();
        await driver.settle();
        assert.equal(driver.armedCount, 2);
      }
      await driver.pause(() => {
        pulse("button");
        pulse("button");
        set("the reset line", 1);
      });
      assert.equal(await driver.heard(armed), VALID);
      assert.equal(await driver.heard(level), VALID);
      armed = driver.arm(BUTTON);
      assert.equal(await driver.heard(armed), VALID);
      pulse("button");
      assert.equal(await driver.heard(driver.arm(BUTTON)), VALID);
    });

    test("is nothing to a driver that comes after: all lines are as at the start", async (t) => {
      const { driver, device, socketPath, pulse } = await rig(t, { packed });
      await driver.enable(BUTTON, RISING);
      await driver.setDirection(LED, OUT);
      await driver.setValue(LED, 1);
      driver.arm(BUTTON);
      pulse("button");
      driver.frontEnd.disconnect();
      const next = await GpioDriver.connect(socketPath, { packed });
      t.after(() => next.close());
      const initial = { led: "0", button: "0", "the reset line": "0" };
      assert.deepEqual(device.commands.lines!.run([]), initial);
      assert.equal(await next.heard(next.arm(BUTTON)), INVALID);
      await next.enable(BUTTON, RISING);
      next.arm(BUTTON);
      await next.settle();
      assert.equal(next.armedCount, 1);
    });
  });
}

test("a driver that has not accepted interrupts has none", async (t) => {
  const { driver } = await rig(t, { bits: [] });
  await driver.setDirection(BUTTON, IN);
  assert.equal((await driver.ask(spec.VIRTIO_GPIO_MSG_SET_IRQ_TYPE, BUTTON, RISING)).status, ERR);
  assert.equal(await driver.heard(driver.arm(BUTTON)), INVALID);
});

test("interrupts that nobody takes are kept up to a number", async (t) => {
  const { driver, pulse } = await rig(t);
  await driver.enable(BUTTON, RISING);
  for (let i = 0; i < 3000; i++) pulse("button");
  for (let i = 0; i < 1024; i++) assert.equal(await driver.heard(driver.arm(BUTTON)), VALID);
  driver.arm(BUTTON);
  await driver.settle();
  assert.equal(driver.armedCount, 1);
});

/** A line of a chip whose bus can hang. */
class HangingPin extends EmulatedPin {
  isHanging = false;
  calls: string[] = [];
  private readonly waiting: (() => void)[] = [];

  wake(): void {
    this.isHanging = false;
    for (const goOn of this.waiting.splice(0)) goOn();
  }

  override async output(value: number): Promise<void> {
    await this.reach("output");
    await super.output(value);
  }

  override async input(): Promise<void> {
    await this.reach("input");
    await super.input();
  }

  override async get(): Promise<number> {
    await this.reach("get");
    return super.get();
  }

  override async release(): Promise<void> {
    this.calls.push("release");
    await super.release();
  }

  private async reach(call: string): Promise<void> {
    this.calls.push(call);
    if (this.isHanging) await new Promise<void>((goOn) => this.waiting.push(goOn));
  }
}

describe("a line of the host's that hangs", () => {
  const GET = spec.VIRTIO_GPIO_MSG_GET_VALUE;
  const make = (): [pin: HangingPin, pins: Pins] => {
    const pin = new HangingPin("slow");
    return [pin, new Pins([pin, new EmulatedPin("quick")])];
  };

  test("fails its requests before the driver gives up, and holds up no other line", async (t) => {
    const [pin, pins] = make();
    const { driver, lines } = await rig(t, { pins });
    pin.isHanging = true;
    const hung = Array.from({ length: 4 }, () => driver.post(GET, 0, 0, 2));
    assert.equal(await driver.getValue(1), 0);
    await driver.settle();
    for (const each of hung) assert.deepEqual([...each.used!.bytes], [ERR, 0]);
    assert.deepEqual(
      pin.calls.filter((call) => call === "get"),
      ["get"],
    );
    assert.equal((await driver.ask(GET, 0)).status, ERR);
    assert.ok(lines.every(({ sentence }) => sentence === "the host's line has failed a request"));
    assert.deepEqual(lines[0]!.fields, { line: "slow", reason: "it has not answered within 500 ms" });
    pin.wake();
    // Bounded by the test.
    while ((await driver.ask(GET, 0)).status !== OK);
  });

  test("has none of what a former driver made of it, once it goes on", async (t) => {
    const [pin, pins] = make();
    const { driver, socketPath } = await rig(t, { pins });
    pin.isHanging = true;
    assert.equal((await driver.ask(spec.VIRTIO_GPIO_MSG_SET_DIRECTION, 0, OUT)).status, ERR);
    driver.frontEnd.disconnect();
    const next = await GpioDriver.connect(socketPath);
    t.after(() => next.close());
    assert.equal(await next.getValue(1), 0);
    pin.calls = [];
    pin.wake();
    await until(() => pin.calls.includes("release"), "it is given back");
    assert.equal(await next.getDirection(0), IN);
  });
});

test("a pin that fails is a failed request, and its line goes on", async (t) => {
  const pin = new EmulatedPin("faulty");
  let isFaulty = true;
  const faulty: Pin = Object.assign(pin, {
    output: async (value: number) => {
      if (isFaulty) throw Object.assign(new Error("EIO"), { errno: 5 });
      pin.set(value);
    },
  });
  const { driver, lines } = await rig(t, { pins: new Pins([faulty]) });
  assert.equal((await driver.ask(spec.VIRTIO_GPIO_MSG_SET_DIRECTION, 0, OUT)).status, ERR);
  assert.deepEqual(lines[0]!.fields, { line: "faulty", reason: "i/o error" });
  assert.equal(await driver.getDirection(0), IN);
  isFaulty = false;
  await driver.setDirection(0, OUT);
});

describe("the program", { timeout: 240_000 }, () => {
  const run = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(GPIO_PROGRAM[0]!, [GPIO_PROGRAM[1]!, ...args], {
      encoding: "utf8",
    });
    return { status, stdout, stderr };
  };

  test("prints its type", () => {
    assert.deepEqual(run("--print-capabilities"), { status: 0, stdout: '{"type":"gpio"}\n', stderr: "" });
  });

  for (const [args, status, sentence] of [
    [[], USAGE, "give either --device-list=/dev/gpiochipN or --lines=NAME,... (see --help)"],
    [["--lines=a", "--device-list=0"], USAGE, "give either --device-list=/dev/gpiochipN or --lines=NAME,..."],
    [["--lines=a,b,a"], USAGE, "names of lines with commas between them"],
    [["--lines=a,,b"], USAGE, "and no two alike"],
    [["--lines=schön"], USAGE, "ASCII characters"],
    [["--device-list=0:1"], USAGE, "for each further one, start a program with a socket of its own"],
    [["--device-list=s4"], USAGE, "/dev/gpiochipN or N"],
    [["--device-list=/dev/gpiochip0:/dev/gpiochip1"], USAGE, "/dev/gpiochipN or N"],
    [["--device-list=4711"], 1, "can't have the GPIO chip /dev/gpiochip4711: no such file or directory"],
    [["--device-list=/dev/null"], 1, "can't have the GPIO chip /dev/null: that is no GPIO chip"],
  ] as const) {
    test(`says what is wrong with ${args.join(" ") || "no lines"}`, () => {
      const result = run(`--socket-path=${join(tmpdir(), `vringd-gpio-${process.pid}`)}`, ...args);
      assert.equal(result.status, status, result.stderr);
      assert.match(result.stderr, /^vringd-gpio: .*\n$/);
      assert.ok(result.stderr.includes(sentence), result.stderr);
    });
  }

  test("has its lines set and shown by ctl, and shown in top and status", async (t) => {
    const directory = mkdtempSync(join(tmpdir(), "vringd-gpio-"));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const control = join(directory, "pins.control");
    await using daemon = await startGpio(["led", "button"], { args: [`--control-socket=${control}`] });
    const driver = await GpioDriver.connect(daemon.socketPath);
    t.after(() => driver.close());
    await driver.setDirection(LED, OUT);
    await driver.setValue(LED, 1);
    await driver.enable(BUTTON, RISING);
    const ctl = (...args: string[]) => toolbox(["ctl", control, ...args]);
    assert.deepEqual(await ctl("lines"), {
      status: 0,
      stdout: "led     out 1\nbutton  in 0 (rising, masked)\n",
      stderr: "",
    });
    const armed = driver.arm(BUTTON);
    assert.deepEqual(await ctl("set", "button", "1"), { status: 0, stdout: "", stderr: "" });
    assert.equal(await driver.heard(armed), VALID);
    driver.arm(BUTTON);
    await driver.settle();
    assert.match((await ctl("status")).stdout, /^lines +led out 1, button in 1 \(rising, armed\)$/m);
    const top = await toolbox(["top", "--once", control]);
    assert.match(top.stdout, /^pins .*\n(.*\n)* {2}led out 1, button in 1 \(rising, armed\)$/m);
    const json = JSON.parse((await toolbox(["top", "--json", control])).stdout);
    assert.deepEqual(json[0].watched, { led: "out 1", button: "in 1 (rising, armed)" });
    for (const [args, sentence] of [
      [["led", "0"], "led is an output: the guest sets it"],
      [["lamp", "0"], "no line is called lamp; there are led, button"],
      [["button", "2"], "give a line, and 0 or 1"],
      [["button"], "give a line, and 0 or 1"],
      [["button", "1", "2"], "give a line, and 0 or 1"],
    ] as const) {
      const { status, stderr } = await ctl("set", ...args);
      assert.deepEqual([status, stderr], [1, `vringd: ${control}: ${sentence}\n`]);
    }
  });

  for (const packed of [false, true]) {
    test(`has an armed interrupt again after it was killed, by a ${packed ? "packed" : "split"} ring`, async (t) => {
      const directory = mkdtempSync(join(tmpdir(), "vringd-gpio-"));
      t.after(() => rmSync(directory, { recursive: true, force: true }));
      const control = join(directory, "pins.control");
      const args = [`--control-socket=${control}`, "--packed"];
      await using daemon = await startGpio(NAMES, { args });
      const driver = await GpioDriver.connect(daemon.socketPath, { packed, inflight: true });
      t.after(() => driver.close());
      for (const gpio of [BUTTON, RESET]) await driver.enable(gpio, RISING);
      const [button, reset] = [BUTTON, RESET].map((gpio) => driver.arm(gpio));
      await driver.settle();
      await daemon.kill9();
      await daemon.restart();
      await driver.frontEnd.reconnect(daemon.socketPath);
      const isArmed = async () => {
        const { lines } = JSON.parse((await ask(control, "GET", "/v1/status")).text);
        return [BUTTON, RESET].every((gpio) => lines[NAMES[gpio]!].endsWith("armed)"));
      };
      while (!(await isArmed()));
      assert.equal(driver.armedCount, 2);
      const body = JSON.stringify({ command: "set", arguments: ["button", "1"] });
      assert.equal((await ask(control, "POST", "/v1/commands", body)).status, 200);
      assert.equal(await driver.heard(button!), VALID);
      assert.equal(driver.armedCount, 1);
      // The driver goes on as if nothing had been.
      await driver.setIrqType(RESET, OFF);
      assert.equal(await driver.heard(reset!), INVALID);
    });
  }
});
