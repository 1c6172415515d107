// `npm run fuzz -- --self-test` takes hours of processor time, so that it runs seldom. That what it plants still fits the core's
// source is seen here.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { PLANTED_BUGS } from "../fuzz/planted-bugs.ts";
import { ROOT } from "../support/sources.ts";

test("each bug that the fuzzer must find can be planted", () => {
  for (const [name, { file, from, to }] of Object.entries(PLANTED_BUGS)) {
    const parts = readFileSync(join(ROOT, "assembly", file), "utf8").split(from);
    assert.equal(parts.length, 2, `${name}: ${file} holds it ${parts.length - 1} times, not once`);
    assert.notEqual(from, to, name);
  }
});
