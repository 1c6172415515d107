// `vringd top` under its user's hands: widths, keys, and a shell that has the terminal in between.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { textWidth } from "../../host/toolbox/terminal.ts";
import { Controls } from "../../host/toolbox/top/controls.ts";
import { frame, type Size } from "../../host/toolbox/top/frame.ts";
import { keysIn } from "../../host/toolbox/top/keys.ts";
import { viewLines } from "../../host/toolbox/top/view.ts";
import type { Look } from "../../host/toolbox/top/watch.ts";
import { TerminalSession } from "../support/terminal-session.ts";
import { TOOLBOX } from "../support/toolbox.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

function look(device: string, requests: number, queues = 1, p99Ns: number | null = 24_300): Look {
  const rate = { requests, bytes: requests * 4096, p50Ns: 1_360_000, p99Ns };
  const rates = (queue: number | undefined) => ({
    ...{ queue, state: "running", all: rate, read: rate, write: rate, other: rate },
    ...{ inFlight: 1024, failures: 0, kicks: 1, calls: 1, pollsPaid: queue === undefined ? 1 : null },
  });
  const each = Array.from({ length: queues }, (_, queue) => rates(queue));
  return { device, socket: `/run/vringd/${device}.control`, rates: [rates(undefined), ...each] };
}

const LONG = "a-disk-with-a-very-long-name-of-a-guest-in-production";
const LOOKS: readonly Look[] = [
  look(LONG, 123_456, 4),
  look("vm1", 9999, 16, 123_000),
  look("磁盘磁盘磁盘磁盘", 5, 1, null),
  {
    device: "vm2",
    socket: "/run/vringd/vm2.control",
    problem: `/run/vringd/${"vm2".repeat(30)}: no answer within 2 s`,
  },
];

const plain = (line: string) => stripVTControlCharacters(line);

function shown(controls: Controls, size: Partial<Size> = {}, looks: readonly Look[] = LOOKS): string[] {
  return frame(looks, 1, controls, { width: 80, rows: 60, ...size }).map(plain);
}

function pressed(keys: readonly string[], controls = new Controls(), size: Partial<Size> = {}): string[] {
  shown(controls, size);
  for (const key of keys) {
    controls.press(key);
    shown(controls, size);
  }
  return shown(controls, size);
}

/** Names at the beginnings of lines. */
const namesIn = (lines: readonly string[]) =>
  lines.slice(3).flatMap((line) => /^(a-disk|vm1|磁盘|\/run)/.exec(line)?.[0] ?? []);

describe("values are whole", () => {
  for (const width of [30, 40, 60, 80, 120, 200])
    test(`in ${width} columns`, () => {
      const [titles, ...lines] = viewLines(LOOKS, width).map(plain);
      for (const line of [titles!, ...lines])
        assert.ok(textWidth(line) <= width, `${textWidth(line)}: ${line}`);
      const numbers = lines.filter((line) => / (all|\d+) +\d[\d.]*k? /.test(line));
      for (const line of numbers) {
        // A name may be cut; behind it nothing is.
        assert.doesNotMatch(line.replace(/^\S+/, ""), /…/);
        if (titles!.includes("P99")) assert.match(line, /(24\.3|123) us|-/);
      }
      const some = width < 40 ? [] : width < 60 ? ["P99"] : ["P50", "P99", "FLIGHT"];
      for (const title of ["QUEUE", "IOPS", ...some]) assert.ok(titles!.includes(title), titles);
    });
});

describe("a frame", () => {
  test("never has more lines than the terminal, nor wider ones", () => {
    for (const width of [20, 40, 80, 200])
      for (const rows of [1, 3, 4, 10, 24, 60])
        for (const keys of [[], ["?"], ["/", "v"], ["End"], ["Enter"]]) {
          const lines = pressed(keys, new Controls(), { width, rows });
          for (const line of lines) assert.ok(textWidth(line) <= width, `${width}x${rows}: ${line}`);
          assert.ok(lines.length <= rows, `${lines.length} of ${rows}`);
        }
  });

  test("says which lines are seen, and goes to the others", () => {
    const size = { rows: 10 };
    const all = viewLines(LOOKS, 80).length - 1;
    const controls = new Controls();
    assert.equal(shown(controls, size).at(-1), `lines 1 to 6 of ${all}`);
    assert.equal(pressed(["PgDn"], controls, size).at(-1), `lines 2 to 7 of ${all}`);
    assert.equal(pressed(["End"], controls, size).at(-1), `lines ${all - 5} to ${all} of ${all}`);
    assert.equal(
      pressed(["Up", "Up", "PgUp"], controls, size).at(-1),
      `lines ${all - 8} to ${all - 3} of ${all}`,
    );
    assert.equal(pressed(["Home"], controls, size).at(-1), `lines 1 to 6 of ${all}`);
    // A terminal that has become larger shows all.
    assert.ok(pressed(["End"], controls, { rows: 60 }).every((line) => !line.startsWith("lines")));
  });

  test("keeps what was chosen when others come before it", () => {
    const controls = new Controls();
    pressed(["Down", "Down", "Down", "Down", "Down", "Down"], controls);
    const before = controls.chosen!;
    shown(controls, {}, [look("aaa", 1, 2), ...LOOKS]);
    assert.equal(controls.chosen, before + 3);
  });
});

describe("keys", () => {
  test("are told apart", () => {
    assert.deepEqual(keysIn("s\x1b[A\x1b[6~\x1bOB\r\x1b"), ["s", "Up", "PgDn", "Down", "Enter", "Esc"]);
  });

  test("sort by a column, most first, and devices without a number last", () => {
    assert.deepEqual(namesIn(pressed([])), ["a-disk", "vm1", "磁盘", "/run"]);
    assert.deepEqual(namesIn(pressed(["s"])), ["a-disk", "vm1", "磁盘", "/run"]);
    const reversed = pressed(["s", "r"]);
    assert.match(reversed[1]!, /sorted by IOPS, reversed/);
    assert.deepEqual(namesIn(reversed), ["磁盘", "vm1", "a-disk", "/run"]);
    const byLatency = pressed(["s", "s", "s", "s"]);
    assert.match(byLatency[1]!, /sorted by P99/);
    assert.deepEqual(namesIn(byLatency), ["vm1", "a-disk", "磁盘", "/run"]);
    assert.doesNotMatch(pressed(["s", "S"])[1]!, /sorted/);
  });

  test("choose names by a part of them", () => {
    const controls = new Controls();
    assert.match(pressed(["/", "V", "m", "1", "x", "Backspace"], controls)[1]!, /names with "Vm1_"/);
    // What is typed is no command.
    assert.deepEqual(namesIn(pressed(["Enter"], controls)), ["vm1"]);
    assert.deepEqual(namesIn(pressed(["Esc"], controls)).length, 4);
    assert.match(pressed(["/", "q", "q"]).at(-1)!, /no device has that text in its name/);
  });

  test("show one device alone, and all again", () => {
    const controls = new Controls();
    // The first device has five lines.
    const alone = pressed(["Down", "Down", "Down", "Down", "Down", "Down", "Enter"], controls);
    assert.deepEqual(namesIn(alone), ["vm1"]);
    assert.match(alone[1]!, /one device alone/);
    assert.equal(namesIn(pressed(["Enter"], controls)).length, 4);
  });

  test("ask for help, which any key ends", () => {
    const controls = new Controls();
    assert.match(pressed(["?"], controls).join("\n"), /^Ctrl-Z {4}stop; fg comes back$/m);
    assert.equal(controls.press("q"), undefined);
    assert.match(shown(controls)[0]!, /^vringd top /);
    assert.equal(controls.press("q"), "end");
  });
});

test("top stops for its shell and comes back, paused or resized, and leaves the terminal as it was", {
  timeout: 240_000,
}, async () => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  const socket = join(directory, "vm1.control");
  try {
    await using _daemon = await Vringd.start({ args: [`--control-socket=${socket}`] });
    await using shell = TerminalSession.start(["env", "PS1=$ ", "HISTFILE=", "bash", "--norc", "-i"]);
    const next = async (keys: string, wanted: string) => {
      shell.shown = "";
      shell.press(keys);
      await until(
        () => shell.shown.includes(wanted),
        () => `${JSON.stringify(wanted)} in ${JSON.stringify(shell.shown)}`,
        60_000,
      );
    };
    await next("stty sane; PS1='ready '\r", "ready ");
    await next(`${process.execPath} ${TOOLBOX} top --timeout=50 ${socket}\r`, "lists keys");
    const raw = shell.mode;
    await next("p", "paused");
    await next("\x1a", "Stopped");
    assert.ok(shell.shown.includes("\x1b[?25h\x1b[?1049l"), "the shell's screen is back");
    await next("stty -a\r", " icanon");
    await next("fg\r", "paused");
    assert.ok(shell.shown.includes("\x1b[?1049h\x1b[?25l"), "the screen is taken again");
    assert.equal(shell.mode, raw);
    // Stopped in a way of which it hears nothing, and then given a smaller window.
    await next("\x1a", "Stopped");
    shell.resize(50, 12);
    await next("fg\r", "paused");
    await next("?", "Any key goes back");
    await next("x", "paused");
    await next("q", "ready ");
    await next("stty -a\r", " icanon");
    await next("echo status=$?\r", "status=0");
    shell.press("exit\r");
    assert.equal(await shell.end(), 0);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("top goes on where no shell could continue it", { timeout: 180_000 }, async () => {
  await using terminal = TerminalSession.start([
    process.execPath,
    TOOLBOX,
    "top",
    "--timeout=50",
    "/nonexistent.control",
  ]);
  await terminal.shows("no such socket");
  terminal.press("\x1a");
  await until(() => terminal.shown.split("\x1b[?1049h").length > 2, "the screen is taken again");
  terminal.press("q");
  assert.equal(await terminal.end(), 0);
});
