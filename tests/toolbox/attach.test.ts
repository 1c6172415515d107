// `vringd ctl SOCKET attach`: a terminal at the port of a console, from a real terminal and from a pipe.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { controlKey, EscapeKey } from "../../host/toolbox/ctl/escape-key.ts";
import type { ChainDriver } from "../support/chain-driver.ts";
import { ConsoleDaemon, ConsoleHere, type ConsoleRig } from "../support/console-rig.ts";
import { TerminalSession } from "../support/terminal-session.ts";
import { TOOLBOX, toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";

const GREETING = "Ctrl-] q detaches";
const RESIZE = 5;
/** A hang is a failure, however slow the machine is. */
const TIMEOUT_MS = 120_000;

function attachArgs(daemon: { control: string }, args: readonly string[]): string[] {
  return ["ctl", daemon.control, "attach", "--timeout=50", ...args];
}

function sessionAt(rig: ConsoleRig, ...args: string[]): TerminalSession {
  return TerminalSession.start([process.execPath, TOOLBOX, ...attachArgs(rig, args)]);
}

async function attached(rig: ConsoleRig, ...args: string[]): Promise<TerminalSession> {
  const session = sessionAt(rig, ...args);
  await session.shows("Attached to ");
  await until(() => session.mode !== session.modeBefore, "the terminal is raw", TIMEOUT_MS);
  return session;
}

/** With what it reads from a pipe. */
function piped(daemon: { control: string }, input: string, ...args: string[]) {
  const child = spawn(process.execPath, [TOOLBOX, ...attachArgs(daemon, args)], { timeout: TIMEOUT_MS });
  const run = { child, stdout: "", stderr: "", status: undefined as number | null | undefined };
  child.stdout.on("data", (text) => {
    run.stdout += text;
  });
  child.stderr.on("data", (text) => {
    run.stderr += text;
  });
  child.once("close", (status) => {
    run.status = status;
  });
  child.stdin.write(input);
  return run;
}

/** What was typed for the guest next, however long that takes. */
async function typedFor(port: { input: ChainDriver }): Promise<string> {
  const { input } = port;
  return (await input.used(input.post([], [64]), TIMEOUT_MS)).bytes.toString("latin1");
}

describe("attach on a terminal", { timeout: 900_000 }, () => {
  test("passes bytes as they are, both ways, and leaves the terminal as it was at the escape key", async () => {
    await using rig = await ConsoleHere.start("console=none");
    const { input, output } = rig.port(0);
    await using session = await attached(rig);
    assert.match(session.shown, new RegExp(`Attached to console: ${GREETING.replace("]", "\\]")}`));
    // Ctrl-C, Ctrl-S, Ctrl-Z, Ctrl-D and a carriage return.
    const keys = "ls\r\x03\x13\x1a\x04\xff";
    session.press(keys);
    let typed = "";
    while (typed.length < keys.length) typed += (await input.exchange([], [64])).toString("latin1");
    assert.equal(typed, keys);
    await output.exchange([Buffer.from("one\n\ttwo\r\n\x1b[1mthree", "latin1")], []);
    await session.shows("one\n\ttwo\r\n\x1b[1mthree");
    session.press("\x1d\x1d");
    assert.equal(String(await input.exchange([], [64])), "\x1d");
    session.press("\x1dx");
    await until(() => session.shown.split(GREETING).length === 3, "what the key can do is shown again");
    session.press("last\x1dqdropped");
    assert.equal(String(await input.exchange([], [64])), "last");
    assert.equal(await session.end(), 0);
    assert.equal(session.mode, session.modeBefore);
    await rig.waitForLog("terminal detached");
  });

  test("tells the device of the window's size, and of each change", async () => {
    await using rig = await ConsoleHere.start("console=none", "hvc1=none");
    const next = await rig.openPorts();
    await using session = await attached(rig, "hvc1");
    const size = async () => {
      for (;;) {
        const { id, event, rest } = await next();
        if (event === RESIZE) return [id, rest.readUInt16LE(0), rest.readUInt16LE(2)];
      }
    };
    assert.deepEqual(await size(), [1, 100, 30]);
    session.resize(133, 44);
    // stty(1) changes one number after the other.
    let now = await size();
    if (now[2] !== 44) now = await size();
    assert.deepEqual(now, [1, 133, 44]);
  });

  test("changes the size in the configuration space where there is one port", async () => {
    await using rig = await ConsoleHere.start("console=none");
    await using session = await attached(rig);
    session.resize(133, 44);
    let size = [0, 0];
    for (let looks = 0; looks < 1000 && (size[0] !== 133 || size[1] !== 44); looks++) {
      const config = await rig.frontEnd.readConfig();
      size = [config.readUInt16LE(0), config.readUInt16LE(2)];
      await sleep(10);
    }
    assert.deepEqual(size, [133, 44]);
  });

  test("takes another key for the escape key, or none", async () => {
    await using rig = await ConsoleHere.start("console=none");
    const { input } = rig.port(0);
    {
      await using session = await attached(rig, "--escape=^a");
      await session.shows("Ctrl-A q detaches");
      session.press("\x1dq");
      assert.equal(String(await input.exchange([], [64])), "\x1dq");
      session.press("\x01q");
      assert.equal(await session.end(), 0);
    }
    await rig.waitForLog("terminal detached");
    await using session = await attached(rig, "--escape=none");
    session.press("\x1dq\x01q");
    assert.equal(String(await input.exchange([], [64])), "\x1dq\x01q");
  });

  for (const [signal, status] of [
    ["SIGTERM", 143],
    ["SIGHUP", 129],
    ["SIGINT", 130],
  ] as const) {
    test(`leaves the terminal as it was at ${signal}`, async () => {
      await using rig = await ConsoleHere.start("console=none");
      await using session = await attached(rig);
      session.signal(signal);
      assert.equal(await session.end(), status);
      assert.equal(session.mode, session.modeBefore);
    });
  }

  test("says that the daemon was killed, and leaves the terminal as it was", async () => {
    await using daemon = await ConsoleDaemon.start("console=none");
    await using session = await attached(daemon);
    await daemon.kill();
    assert.equal(await session.end(), 1);
    assert.match(session.shown.replaceAll(/\s+/g, " "), /vringd: \S+vm\.control: the daemon has ended/);
    assert.equal(session.mode, session.modeBefore);
  });

  test("shows what a file beside it gets, too", async () => {
    await using rig = await ConsoleHere.start("console=file:DIR/log");
    const { output } = rig.port(0);
    await output.exchange([Buffer.from("before ")], []);
    await using session = await attached(rig);
    await output.exchange([Buffer.from("during")], []);
    await session.shows("during");
    await until(
      () => readFileSync(join(rig.directory, "log"), "utf8") === "before during",
      "the file has all",
    );
    assert.ok(!session.shown.includes("before"));
  });

  test("that shows nothing more keeps its guest waiting, costs the daemon no memory, and can be ended", async () => {
    await using daemon = await ConsoleDaemon.start("console=none", "other=file:DIR/other");
    await daemon.openPorts();
    const { output } = daemon.port(0);
    await using session = await attached(daemon, "console");
    session.stall();
    const before = daemon.residentKiB;
    let taken = 0;
    const flood = Buffer.alloc(1 << 20, "x");
    // Far more than pipes, sockets and terminals hold.
    for (let posted = output.post([flood], []); taken < 64; posted = output.post([flood], [])) {
      const isTaken = await output.used(posted, 1000).catch(() => undefined);
      if (isTaken === undefined) break;
      taken++;
    }
    assert.ok(taken < 16, `${taken} MiB were taken that nobody has seen`);
    const other = daemon.port(1).output;
    for (let i = 0; i < 20; i++) await other.exchange([Buffer.from("goes on\n")], []);
    assert.ok(daemon.residentKiB - before < 64 << 10, "memory");
    session.signal("SIGTERM");
    assert.equal(await session.end(), 143);
    assert.equal(session.mode, session.modeBefore);
    await until(() => output.outstanding === 0, "the guest goes on once nobody is there");
  });

  test("is refused where another is attached, and takes its place with --force", async () => {
    await using rig = await ConsoleHere.start("console=none");
    await using first = await attached(rig);
    const { status, stderr } = await toolbox(attachArgs(rig, []));
    assert.equal(status, 1);
    assert.match(stderr, /^vringd: \S+: a terminal is attached to console already: detach it first\n$/);
    await using second = await attached(rig, "--force");
    assert.equal(await first.end(), 1);
    assert.match(
      first.shown.replaceAll(/\s+/g, " "),
      /somebody else has detached this terminal from console/,
    );
    assert.equal(first.mode, first.modeBefore);
    const { input } = rig.port(0);
    second.press("mine");
    assert.equal(String(await input.exchange([], [64])), "mine");
  });
});

describe("attach without a terminal", { timeout: 600_000 }, () => {
  test("passes on what it reads, and ends with its input, once the guest has taken all", async () => {
    await using rig = await ConsoleHere.start("console=none");
    const { input, output } = rig.port(0);
    const run = piped(rig, "echo \x1dq\n");
    assert.equal(await typedFor({ input }), "echo \x1dq\n");
    await output.exchange([Buffer.from("answer\r\n")], []);
    await until(() => run.stdout === "answer\r\n", "the answer is there");
    run.child.stdin.end("x".repeat(1 << 20));
    await sleep(100);
    assert.equal(run.status, undefined);
    let length = 0;
    while (length < 1 << 20) length += (await input.exchange([], [65536])).length;
    await until(() => run.status !== undefined, "it ends", TIMEOUT_MS);
    assert.deepEqual([run.status, run.stderr, length], [0, "", 1 << 20]);
  });

  test("fails if the daemon ends before", async () => {
    await using daemon = await ConsoleDaemon.start("console=none");
    const run = piped(daemon, "hello");
    assert.equal(await typedFor(daemon.port(0)), "hello");
    await daemon.kill();
    await until(() => run.status !== undefined, "it ends", TIMEOUT_MS);
    assert.equal(run.status, 1);
    assert.match(run.stderr, /the daemon has ended\n$/);
  });
});

describe("attach that can't be", { timeout: 600_000 }, () => {
  test("names the ports that there are", async () => {
    await using rig = await ConsoleHere.start("console=none", "a b/ü=none");
    const none = await toolbox(attachArgs(rig, []));
    assert.deepEqual(
      [none.status, none.stderr],
      [1, `vringd: ${rig.control}: it has 2 ports, so name one: console, a b/ü\n`],
    );
    const wrong = await toolbox(attachArgs(rig, ["a"]));
    assert.deepEqual(
      [wrong.status, wrong.stderr],
      [1, `vringd: ${rig.control}: there is no port "a": the ports are console, a b/ü\n`],
    );
    await using session = await attached(rig, "a b/ü");
    assert.equal(session.status, undefined);
  });

  test("says that nobody is there", async () => {
    const { status, stderr } = await toolbox(attachArgs({ control: "/nonexistent/vm.control" }, []));
    assert.equal(status, 1);
    assert.match(stderr, /there is no such socket\n$/);
  });

  for (const [args, complaint] of [
    [["attach", "one", "two"], /attach takes the name of one port/],
    [["attach", "--escape=q"], /--escape takes a key as \^\] or ctrl-a, or none, not "q"/],
  ] as [string[], RegExp][]) {
    test(`is a wrong call: ${args.join(" ")}`, async () => {
      const { status, stderr } = await toolbox(["ctl", "x", ...args]);
      assert.equal(status, 2);
      assert.match(stderr, complaint);
    });
  }
});

test("two ports of one name are refused", async () => {
  await assert.rejects(ConsoleHere.start("a=none", "b=none", "a=none"), /two ports are called a: give each/);
});

describe("an escape key", () => {
  for (const [text, byte, name] of [
    ["^]", 0x1d, "Ctrl-]"],
    ["ctrl-a", 1, "Ctrl-A"],
    ["Ctrl-\\", 0x1c, "Ctrl-\\"],
    ["^@", 0, "Ctrl-@"],
  ] as const) {
    test(`can be ${text}`, () => assert.deepEqual(controlKey(text), { byte, name }));
  }
  for (const text of ["", "^", "a", "^1", "ctrl-", "^aa", "alt-a"]) {
    test(`can't be "${text}"`, () => assert.equal(controlKey(text), undefined));
  }

  test("counts over the parts in which keys come", () => {
    const keys = new EscapeKey(controlKey("^]"));
    const read = (text: string) => {
      const { bytes, command } = keys.read(Buffer.from(text));
      return [String(bytes), command];
    };
    assert.deepEqual(read("ab\x1d"), ["ab", undefined]);
    assert.deepEqual(read("\x1dc\x1d"), ["\x1dc", undefined]);
    assert.deepEqual(read("xd"), ["d", "help"]);
    assert.deepEqual(read("e\x1dqf"), ["e", "detach"]);
  });
});
