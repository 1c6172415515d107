// The program vringd-input: its command line, events on its standard input, and what an operator can do by `vringd ctl`.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import * as codes from "../../host/linux/input-event-codes.ts";
import { limitTests } from "../support/bounded-test.ts";
import { connectInput, InputDriver } from "../support/input-driver.ts";
import { toolbox } from "../support/toolbox.ts";
import { PROGRAM, Vringd } from "../support/vringd.ts";

limitTests(300_000);

const { EV_ABS, EV_KEY, EV_LED, EV_REL } = codes;
const INPUT = join(dirname(PROGRAM), "vringd-input.mjs");

function run(...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [INPUT, ...args], { encoding: "utf8" });
  return { status, stdout, stderr };
}

test("it says what it can do, as management software wants it", () => {
  const { status, stdout } = run("--print-capabilities");
  assert.equal(status, 0);
  assert.deepEqual(JSON.parse(stdout), { type: "input", features: ["evdev-path", "no-grab"] });
});

const SOCKET = `--socket-path=${join(tmpdir(), "vringd-input-test-unused")}`;

for (const [args, status, sentence] of [
  [
    [],
    2,
    /^what the guest is to have is missing: one of --evdev-path, --keyboard, --mouse, --tablet \(see --help\)$/,
  ],
  [
    ["--mouse", "--tablet"],
    2,
    /^--mouse and --tablet are two devices: start a program for each \(see --help\)$/,
  ],
  [["--keyboard", "--evdev-path=/dev/null"], 2, /^--evdev-path and --keyboard are two devices/],
  [
    ["--evdev-path=/dev/null", "--events=-"],
    2,
    /^--events is not for --evdev-path, which has events of its own/,
  ],
  [["--mouse", "--events-format=json"], 2, /^--events-format takes one of text, virtio, evdev, not "json"/],
  [["--mouse", `--name=${"n".repeat(129)}`], 2, /^--name takes at most 128 ASCII characters/],
  [["--evdev-path=/dev/null"], 1, /^\/dev\/null is no event device; give one of \/dev\/input\/event\*$/],
  [["--evdev-path=/dev/null", "--no-grab"], 1, /^\/dev\/null is no event device/],
  [["--evdev-path=/nowhere/event3"], 1, /^can't open \/nowhere\/event3: no such file or directory$/],
  [
    ["--mouse", "--events=/nowhere/events"],
    1,
    /^can't read from \/nowhere\/events: no such file or directory$/,
  ],
] as const) {
  test(`${["vringd-input", ...args].join(" ")} is answered with a sentence`, () => {
    const { stderr, ...result } = run(SOCKET, ...args);
    assert.deepEqual(result, { status, stdout: "" });
    assert.match(stderr, /^vringd-input: [^\n]+\n$/);
    assert.match(stderr.slice("vringd-input: ".length, -1), sentence);
  });
}

for (const [kind, command] of [
  ["a pipe", ["sh", "-c", 'cat | exec "$@"', "sh"]],
  ["a socket", []],
] as const) {
  test(`events come by ${kind} on standard input`, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), "vringd-input-"));
    const socketPath = join(directory, "vhost");
    const line = [
      ...command,
      process.execPath,
      INPUT,
      "--mouse",
      "--events=-",
      // So that it ends with this test, whoever its parent is.
      "--once",
      `--socket-path=${socketPath}`,
    ];
    // What Node calls a pipe is a socket.
    const child = spawn(line[0]!, line.slice(1), { stdio: ["pipe", "ignore", "inherit"] });
    t.after(async () => {
      child.kill();
      rmSync(directory, { recursive: true });
    });
    const frontEnd = await connectInput(socketPath);
    const driver = new InputDriver(frontEnd);
    for (let i = 1; i < 4; i++) {
      child.stdin.write(`EV_REL REL_X ${i}\nEV_SYN SYN_REP`);
      child.stdin.write("ORT 0\n");
      assert.deepEqual(await driver.group(), [[EV_REL, 0, i]]);
    }
    child.stdin.end("EV_REL REL_Y 9\nEV_SYN SYN_REPORT 0\n");
    assert.deepEqual(await driver.group(), [[EV_REL, 1, 9]]);
    // Its end is not the guest's.
    assert.equal(await driver.tell(EV_LED, 0, 1), 0);
    frontEnd.close();
    const [status] = await once(child, "exit");
    assert.equal(status, 0);
  });
}

describe("vringd ctl", () => {
  async function rig(t: TestContext, ...args: readonly string[]) {
    const daemon = await Vringd.start({
      program: [process.execPath, INPUT],
      deviceArgs: (directory) => [`--control-socket=${join(directory, "input.control")}`, ...args],
    });
    t.after(() => daemon[Symbol.asyncDispose]());
    const control = join(daemon.directory, "input.control");
    return {
      ctl: (...command: string[]) => toolbox(["ctl", "--timeout=60", control, ...command]),
      async connect() {
        const frontEnd = await connectInput(daemon.socketPath);
        t.after(() => frontEnd.close());
        return new InputDriver(frontEnd);
      },
    };
  }

  /** What is pressed and released, in order. */
  async function keys(driver: InputDriver, groups: number): Promise<string[]> {
    const names: string[] = [];
    for (let i = 0; i < groups; i++)
      for (const [type, code, value] of await driver.group())
        names.push(`${codes.nameOf(type!, code!)} ${value}`);
    return names;
  }

  test("types, presses keys and tells lights", async (t) => {
    const { ctl, connect } = await rig(t, "--keyboard");
    assert.match((await ctl("type", "a")).stderr, /: no driver is there to take events\n$/);
    const driver = await connect();
    const typed = ctl("type", "aB\n");
    assert.deepEqual(await keys(driver, 6), [
      "KEY_A 1",
      "KEY_A 0",
      "KEY_LEFTSHIFT 1",
      "KEY_B 1",
      "KEY_B 0",
      "KEY_LEFTSHIFT 0",
      "KEY_ENTER 1",
      "KEY_ENTER 0",
    ]);
    assert.equal((await typed).status, 0);
    const pressed = ctl("key", "leftctrl+KEY_LEFTALT+delete", "esc");
    assert.deepEqual(await keys(driver, 4), [
      "KEY_LEFTCTRL 1",
      "KEY_LEFTALT 1",
      "KEY_DELETE 1",
      "KEY_DELETE 0",
      "KEY_LEFTALT 0",
      "KEY_LEFTCTRL 0",
      "KEY_ESC 1",
      "KEY_ESC 0",
    ]);
    assert.equal((await pressed).status, 0);
    await driver.tell(EV_LED, codes.LED_NUML, 1);
    const { stdout } = await ctl("leds", "--json");
    assert.deepEqual(JSON.parse(stdout), { LED_NUML: true, LED_CAPSL: false, LED_SCROLLL: false });
    for (const [command, sentence] of [
      [["type"], /type takes one text, of up to 500 characters/],
      [["type", "x".repeat(501)], /type takes one text, of up to 500 characters/],
      [["type", "é"], /no key of a keyboard of the USA is for "é"/],
      [["key"], /key takes names of keys/],
      [["key", "leftctrl+nokey"], /there is no key "nokey"/],
      [["move", "1", "2"], /the device has no REL_X/],
      [["click"], /the device has no BTN_LEFT/],
    ] as const) {
      const { status, stderr } = await ctl(...command);
      assert.match(stderr, sentence);
      assert.equal(status, 1);
    }
    const { stdout: list } = await ctl("commands");
    for (const name of ["type", "key", "move", "click", "leds"])
      assert.match(list, new RegExp(`^${name} `, "m"));
  });

  test("every character that a keyboard of the USA has can be typed", async (t) => {
    const { ctl, connect } = await rig(t, "--keyboard");
    const driver = await connect();
    const text = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).join("");
    const typed = ctl("type", text);
    const places = new Set<string>();
    for (let i = 0; i < text.length; i++) {
      const down = await driver.group();
      const up = await driver.group();
      assert.deepEqual(up, down.map(([type, code]) => [type, code, 0]).reverse());
      places.add(down.map(([, code]) => code).join());
    }
    assert.equal(places.size, text.length);
    assert.equal((await typed).status, 0);
  });

  test("moves a mouse by steps, and clicks", async (t) => {
    const { ctl, connect } = await rig(t, "--mouse");
    const driver = await connect();
    const moved = ctl("move", "--", "-10", "7");
    assert.deepEqual(await driver.group(), [
      [EV_REL, codes.REL_X, -10],
      [EV_REL, codes.REL_Y, 7],
    ]);
    assert.equal((await moved).status, 0);
    const clicked = ctl("click", "right");
    assert.deepEqual(await driver.group(), [[EV_KEY, codes.BTN_LEFT + 1, 1]]);
    assert.deepEqual(await driver.group(), [[EV_KEY, codes.BTN_LEFT + 1, 0]]);
    assert.equal((await clicked).status, 0);
    for (const [command, sentence] of [
      [["move", "1"], /move takes two whole numbers, X and Y/],
      [["move", "1", "2", "3"], /move takes two whole numbers, X and Y/],
      [["move", "1", "x"], /move takes two whole numbers, X and Y/],
      [["move", "1", "99999"], /Y is from -32767 to 32767, not 99999/],
      [["click", "left", "right"], /click takes the name of one button/],
      [["key", "a"], /the device has no KEY_A/],
    ] as const)
      assert.match((await ctl(...command)).stderr, sentence);
  });

  test("moves a tablet to a place", async (t) => {
    const { ctl, connect } = await rig(t, "--tablet");
    const driver = await connect();
    const moved = ctl("move", "100", "32767");
    assert.deepEqual(await driver.group(), [
      [EV_ABS, codes.ABS_X, 100],
      [EV_ABS, codes.ABS_Y, 32767],
    ]);
    assert.equal((await moved).status, 0);
    assert.match((await ctl("move", "1", "32768")).stderr, /Y is from 0 to 32767, not 32768/);
  });
});
