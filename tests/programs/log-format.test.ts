// Log lines for a terminal, a file and the journal.
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatterFor } from "../../host/process/log-format.ts";

const lineOf = (fields: object) => `${JSON.stringify({ time: new Date(2026, 0, 2, 3, 4, 5), ...fields })}\n`;
const WARNING = lineOf({ level: "warn", queue: 3, msg: "a ring is broken" });

test("a terminal gets the time, and a file the date, too", () => {
  assert.equal(formatterFor("text", "terminal")(WARNING), "03:04:05 warn  a ring is broken  queue=3\n");
  assert.equal(
    formatterFor("text", "file")(WARNING),
    "2026-01-02 03:04:05 warn  a ring is broken  queue=3\n",
  );
});

for (const [level, priority] of [
  ["error", 3],
  ["warn", 4],
  ["info", 6],
  ["debug", 7],
] as const)
  test(`the journal gets ${level} as priority ${priority}, on each line of a stack`, () => {
    const err = { stack: "Error: x\n    at y" };
    const text = formatterFor("text", "journal")(lineOf({ level, err, msg: "it failed" }));
    const [first, second, ...rest] = text.split("\n");
    assert.equal(first, `<${priority}>${level.padEnd(5)} it failed  err=Error: x`);
    assert.deepEqual([second, rest], [`<${priority}>    at y`, [""]]);
    assert.match(
      formatterFor("json", "journal")(lineOf({ level, msg: "m" })),
      new RegExp(`^<${priority}>\\{.*\\}\n$`),
    );
  });
