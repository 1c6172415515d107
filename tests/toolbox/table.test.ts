// Tables, and the terminal: what fits, what is cut, and when there is colour.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { type Column, formatTable } from "../../host/toolbox/table.ts";
import { textWidth, wrap } from "../../host/toolbox/terminal.ts";
import { BackendFiles } from "../support/backend-files.ts";
import { PROGRAM } from "../support/vringd.ts";

const COLUMNS: Column[] = [
  { title: "NAME", least: 4 },
  { title: "PATH", least: 6, cut: "start" },
  { title: "NOTE", least: 5, canGo: true },
];
const ROWS = [
  ["first", "/usr/lib/one", "a note of some length"],
  ["second one", "/x", "short"],
];

function table(width: number): string[] {
  return formatTable(COLUMNS, ROWS, width);
}

test("columns are aligned, and nothing is cut where there is room", () => {
  const whole = [
    "NAME        PATH          NOTE",
    "first       /usr/lib/one  a note of some length",
    "second one  /x            short",
  ];
  assert.deepEqual(table(Number.POSITIVE_INFINITY), whole);
  assert.deepEqual(table(47), whole);
});

test("the last column is cut first, at its end", () => {
  assert.deepEqual(table(36), [
    "NAME        PATH          NOTE",
    "first       /usr/lib/one  a note of…",
    "second one  /x            short",
  ]);
});

test("a column that can go does, before others are cut", () => {
  assert.deepEqual(table(30), ["NAME        PATH", "first       /usr/lib/one", "second one  /x"]);
});

test("a path is cut at its start", () => {
  assert.deepEqual(table(20), ["NAME        PATH", "first       …lib/one", "second one  /x"]);
});

test("no line is wider than what was asked for, down to the least", () => {
  for (let width = 12; width <= 50; width++) {
    for (const line of table(width)) assert.ok(textWidth(line) <= width, `${width}: ${line}`);
  }
});

test("wide and combining characters are counted as terminals do", () => {
  assert.equal(textWidth("入力"), 4);
  assert.equal(textWidth("e\u0301"), 1);
  assert.deepEqual(
    formatTable(
      [
        { title: "A", least: 3 },
        { title: "B", least: 1 },
      ],
      [["入力端末", "x"]],
      8,
    ),
    ["A      B", "入力…  x"],
  );
});

test("text is wrapped between words, and a long word has its own line", () => {
  assert.deepEqual(wrap("one two three-and-more four", 8), ["one two", "three-and-more", "four"]);
});

const files = ["10-a.json", "20-b.json"];

/** The list, on a terminal of that width. */
function onTerminal(columns: number, variables: Record<string, string>): string[] {
  using backends = new BackendFiles();
  for (const name of files) backends.backend(`dir/${name}`, "gpu", ["render-node", "virgl"]);
  const toolbox = join(dirname(PROGRAM), "vringd.mjs");
  const search = `--timeout=60 --directory=${backends.path("dir")}`;
  const command = `stty cols ${columns}; "${process.execPath}" "${toolbox}" backends list ${search}`;
  const { stdout } = spawnSync("script", ["-qec", command, "/dev/null"], {
    env: { PATH: process.env.PATH, TERM: "xterm", SHELL: "/bin/sh", ...variables },
    stdio: ["ignore", "pipe", "inherit"],
  });
  return String(stdout).trimEnd().split("\r\n");
}

for (const columns of [60, 80, 200]) {
  test(`a list on a terminal of ${columns} columns fits, and has all rows`, () => {
    const lines = onTerminal(columns, { NO_COLOR: "1" });
    assert.equal(lines.length, 1 + files.length);
    for (const line of lines) assert.ok(textWidth(line) <= columns, line);
    files.forEach((name, at) => {
      assert.ok(lines[1 + at]!.includes(name), lines[1 + at]);
    });
  });
}

test("a wide terminal has what a narrow one has no room for", () => {
  assert.match(onTerminal(200, { NO_COLOR: "1" })[0]!, /BINARY +DESCRIPTION$/);
  assert.match(onTerminal(70, { NO_COLOR: "1" })[0]!, /BINARY$/);
});

test("there is colour on a terminal, but not with NO_COLOR or where none is known", () => {
  const csi = "\u001b[";
  assert.ok(onTerminal(80, {}).join().includes(csi));
  assert.ok(!onTerminal(80, { NO_COLOR: "1" }).join().includes(csi));
  assert.ok(!onTerminal(80, { TERM: "dumb" }).join().includes(csi));
});
