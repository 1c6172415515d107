// Where a text stops being JSON.
import assert from "node:assert/strict";
import { test } from "node:test";
import { findJsonFault } from "../../host/json/json-fault.ts";
import { Random } from "../support/random.ts";

const TEXT = '{"description": "a \\u00e9\\n b", "n": [-1.5e+3, 0, true, {}, [], null], "tags": ["x", ""]}\n';
/** What breaks JSON, or mends it. */
const PIECES = [
  ...'{}[],:"\\-+.e019tx \n\t\u0001\u007f\u0085\u00a0\ufeff',
  "true",
  "null",
  "\\u12",
  "1.",
  "01",
];
const RUNS = 20_000;

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function mutate(random: Random, text: string): string {
  const at = random.below(text.length + 1);
  const removed = random.pick([0, 0, 1, 1, 2, text.length]);
  return text.slice(0, at) + random.pick(["", ...PIECES]) + text.slice(at + removed);
}

const random = new Random();

test(`a fault is found where JSON.parse finds one, and only there (seed ${random.seed})`, () => {
  let faults = 0;
  for (let run = 0; run < RUNS; run++) {
    let text = TEXT;
    for (let times = random.below(3); times >= 0; times--) text = mutate(random, text);
    const at = findJsonFault(text);
    assert.equal(at === undefined, isJson(text), JSON.stringify(text));
    if (at !== undefined) faults++;
  }
  assert.ok(faults > RUNS / 10 && faults < RUNS, `${faults} faults`);
});

const examples: [text: string, at: number | undefined][] = [
  ["", 0],
  ["  ", 2],
  ["{} x", 3],
  ['{"a" 1}', 5],
  ['{"a": 1,}', 8],
  ["[1, ]", 4],
  ["[1}", 2],
  ["}", 0],
  [",", 0],
  ["1,", 1],
  ['{"a": "b', 6],
  ['{"a": [1', 8],
  ["\ufeff{}", 0],
  ['"\u007f\u0085"', undefined],
  [`"${"x".repeat(1 << 20)}"`, undefined],
  ["[".repeat(100_000) + "]".repeat(100_000), undefined],
];

for (const [text, at] of examples) {
  test(`${JSON.stringify(text).slice(0, 30)} ${at === undefined ? "has no fault" : `has its fault at ${at}`}`, () => {
    assert.equal(findJsonFault(text), at);
  });
}
