// One core, many runtimes: each serves the same disk to the same guest, and must tell the same story of it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type ServedFile, textOfPage } from "./support/chromium.ts";
import { buildNative } from "./support/native-core.ts";
import * as runtimes from "./support/runtimes.ts";

const PLAIN = resolve("build/core.plain.wasm");
const SHARED = resolve("build/core.wasm");
const TIMEOUT_MS = 60_000;

/** What tests/runtimes/scenario.ts tells of a ring. Four writes, the third of which is done when the device crashes. */
const storyOf = (format: string, lastBase: string) => [
  `${format}: write: status 0, 1 bytes written, the same on the disk`,
  `${format}: read: status 0, 4097 bytes written, the same in the guest`,
  `${format}: flush: status 0, 1 bytes written, 1 reached the disk`,
  `${format}: read past the end: status 1, 1 bytes written`,
  // One more than requests: a ring with an inflight region begins with a call.
  `${format}: calls: 5`,
  `${format}: before the crash: write 3 done`,
  `${format}: the successor writes blocks 2, 3, 5 again`,
  `${format}: after the crash: write 1, write 2, write 4 done`,
  `${format}: blocks 2 to 5: the same, the same, the same, the same`,
  `${format}: another successor finds 0 in flight`,
  `${format}: stopped, base ${lastBase}`,
];

/** Eight requests: eight heads, or 24 descriptors. */
const STORY = [...storyOf("split", "0x8"), ...storyOf("packed", "0x80188018")];

/** Neither looks for a newer version of itself, nor keeps anything outside of build/. */
const QUIET = { DENO_NO_UPDATE_CHECK: "1", DENO_DIR: resolve("build/deno"), DO_NOT_TRACK: "1" };

const linesOf = (text: string) => text.trimEnd().split("\n");

function tell(program: string, args: readonly string[]): string[] {
  const env = { ...process.env, ...QUIET };
  return linesOf(execFileSync(program, args, { encoding: "utf8", timeout: TIMEOUT_MS, env }));
}

describe("The core in Node", () => {
  const program = fileURLToPath(new URL("runtime-node.mjs", import.meta.url));

  test("With memory of its own it serves a disk, and survives a crash.", () => {
    assert.deepEqual(tell(process.execPath, [program, PLAIN]), STORY);
  });

  test("With shared memory it does so too.", () => {
    assert.deepEqual(tell(process.execPath, [program, SHARED, "shared"]), STORY);
  });
});

describe("The core in Deno", () => {
  const deno = runtimes.findDeno();
  const skip = runtimes.skipWithout(deno);
  const flags = ["--no-config", "--no-lock", "--no-remote", "--no-npm", "--no-prompt", "--allow-read=build"];
  const run = (...args: string[]) => tell(deno.path!, ["run", ...flags, "tests/runtimes/deno.ts", ...args]);

  test("With memory of its own it serves a disk, and survives a crash.", { skip }, () => {
    assert.deepEqual(run(PLAIN), STORY);
  });

  test("With shared memory it does so too.", { skip }, () => {
    assert.deepEqual(run(SHARED, "shared"), STORY);
  });
});

describe("The core in Bun", () => {
  const bun = runtimes.findBun();
  const skip = runtimes.skipWithout(bun);
  const run = (...args: string[]) =>
    tell(bun.path!, ["run", "--no-install", "tests/runtimes/bun.ts", ...args]);

  test("With memory of its own it serves a disk, and survives a crash.", { skip }, () => {
    assert.deepEqual(run(PLAIN), STORY);
  });

  test("With shared memory it does so too.", { skip }, () => {
    assert.deepEqual(run(SHARED, "shared"), STORY);
  });
});

describe("The core in a browser", () => {
  const chromium = runtimes.findChromium();
  const skip = runtimes.skipWithout(chromium);
  let files: Map<string, ServedFile>;

  before(() => {
    const page = '<!doctype html><meta charset="utf-8"><body><script type="module" src="/page.js"></script>';
    const flags = ["--bundle", "--format=esm", "--target=es2022", "--log-level=warning"];
    const script = execFileSync("node_modules/.bin/esbuild", ["tests/runtimes/page.ts", ...flags]);
    files = new Map<string, ServedFile>([
      ["/", { type: "text/html", content: page }],
      ["/page.js", { type: "text/javascript", content: script }],
      ["/core.plain.wasm", { type: "application/wasm", content: readFileSync(PLAIN) }],
      ["/core.wasm", { type: "application/wasm", content: readFileSync(SHARED) }],
    ]);
  });

  test("With memory of its own it serves a disk, and survives a crash.", { skip }, async () => {
    assert.deepEqual(linesOf(await textOfPage(chromium.path!, files, "/?file=core.plain.wasm")), STORY);
  });

  test("In an isolated page, with shared memory, it does so too.", { skip }, async () => {
    assert.deepEqual(linesOf(await textOfPage(chromium.path!, files, "/?file=core.wasm&shared")), STORY);
  });
});

describe("The core as a native program", () => {
  const wasm2c = runtimes.findWasm2c();
  const compiler = runtimes.findCompiler();
  const skip = runtimes.skipWithout(wasm2c, compiler);

  test("With an embedder in C it serves a disk, and survives a crash.", { skip }, async () => {
    const program = await buildNative(wasm2c.path!, compiler.path!, "main");
    assert.deepEqual(tell(program, []), STORY);
  });
});
