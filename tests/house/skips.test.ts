// Tests that the machine lacks something for: a user's run leaves them out and says why, and CI fails.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { skipWithout, whyNoProgram } from "../support/skip.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
const SOURCES = resolve("tests");

describe("a lack", () => {
  let wish: string | undefined;
  beforeEach(() => {
    wish = process.env.VRINGD_TEST_SKIPS;
  });
  afterEach(() => {
    if (wish === undefined) delete process.env.VRINGD_TEST_SKIPS;
    else process.env.VRINGD_TEST_SKIPS = wish;
  });

  test("is the reason of a skip, and said once", () => {
    delete process.env.VRINGD_TEST_SKIPS;
    assert.equal(skipWithout(undefined, false), false);
    assert.equal(skipWithout("no a", undefined, "no b", "no a"), "no a, no b");
  });

  test("is an error where skips are forbidden", () => {
    process.env.VRINGD_TEST_SKIPS = "forbidden";
    assert.equal(skipWithout(undefined, false), false);
    assert.throws(() => skipWithout("no a"), /forbidden here: no a$/);
  });

  test("is not passed over by a wish that nobody knows", () => {
    process.env.VRINGD_TEST_SKIPS = "none";
    assert.throws(() => skipWithout("no a"), /"forbidden" or unset, not "none"/);
  });

  test("names all programs that are missing", () => {
    assert.equal(whyNoProgram("sh"), undefined);
    assert.equal(whyNoProgram("sh", "vringd-none"), "vringd-none is not installed");
    assert.equal(whyNoProgram("vringd-none", "vringd-nil"), "vringd-none and vringd-nil are not installed");
  });
});

/** As `npm test` runs a file, where nothing is installed. */
function runWithoutPrograms(file: string, wish: string) {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  return spawnSync(process.execPath, [join(here, "run.mjs"), file], {
    encoding: "utf8",
    env: { ...env, PATH: "/nowhere", VRINGD_TEST_SKIPS: wish },
  });
}

test("a run says what it left out, and fails where that is forbidden", () => {
  const allowed = runWithoutPrograms("manual", "");
  assert.equal(allowed.status, 0, allowed.stdout);
  assert.match(allowed.stdout, /mandoc is not installed/);
  const forbidden = runWithoutPrograms("manual", "forbidden");
  assert.equal(forbidden.status, 1, forbidden.stdout);
});

/** `skip` as an option, or as a constant for one, is nothing but what skipWithout gives. dd(1) has one of its own. */
const MADE = /(?<!\bdd .*)\bskip\b\s*[:=](?!=)(?!\s*skipWithout\()/;
/** Other ways to leave a test out. */
const OTHER_WAYS = /\.(skip|todo|only)\(|\b(todo|only)\s*:/;

test("no test is left out but by what tells CI", () => {
  // These speak of skipping; security.test.ts stands in for node:test, which has ways to skip.
  const about = ["house/skips.test.ts", "house/security.test.ts"];
  const files = readdirSync(SOURCES, { recursive: true, encoding: "utf8" }).filter(
    (path) => path.endsWith(".test.ts") && !about.includes(path),
  );
  assert.ok(files.length > 50);
  const wrong = files.flatMap((name) =>
    readFileSync(join(SOURCES, name), "utf8")
      .split("\n")
      .filter((line) => MADE.test(line) || OTHER_WAYS.test(line))
      .map((line) => `${name}: ${line.trim()}`),
  );
  assert.deepEqual(wrong, []);
});
