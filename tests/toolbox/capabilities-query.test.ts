// Asking other people's programs: whatever they do, there is an answer or a sentence, in time.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { after, test } from "node:test";
import type { BackendType } from "../../build/schemas.js";
import { program } from "../../host/devices/block/options.ts";
import { askCapabilities } from "../../host/discovery/capabilities-query.ts";
import type { Checked } from "../../host/json/checked.ts";
import { BackendFiles } from "../support/backend-files.ts";
import { until } from "../support/until.ts";
import { PROGRAM } from "../support/vringd.ts";

const files = new BackendFiles();
after(() => files[Symbol.dispose]());

const AMPLE_MS = 20_000;
const BRIEF_MS = 300;

function ask(binary: string, timeoutMs = AMPLE_MS, type: BackendType = "block") {
  return askCapabilities({ description: "", type, binary }, timeoutMs);
}

function assertFault({ value, faults }: Checked<unknown>, binary: string, sentence: string | RegExp): void {
  assert.equal(value, undefined);
  assert.equal(faults.length, 1, faults.join("\n"));
  const start = `${binary} --print-capabilities: `;
  assert.equal(faults[0]!.slice(0, start.length), start);
  const rest = faults[0]!.slice(start.length);
  if (typeof sentence === "string") assert.equal(rest, sentence);
  else assert.match(rest, sentence);
}

function isAlive(pid: number): boolean {
  try {
    // A killed process whose parent has not looked yet is as good as gone.
    return !/^State:\s*[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return false;
  }
}

test("vringd-blk's own answer is understood", async () => {
  assert.deepEqual(await ask(PROGRAM), { value: program.capabilities, faults: [], warnings: [] });
});

test("a program is asked with --print-capabilities alone, and nothing to read", async () => {
  const script = files.script(
    "asked",
    'read x && exit 8; [ "$#/$1" = 1/--print-capabilities ] || exit 9; echo \'{"type":"fs"}\'',
  );
  assert.deepEqual((await ask(script, AMPLE_MS, "fs")).value, { type: "fs" });
});

test("an answer over several lines is understood", async () => {
  const script = files.script("lines", 'printf \'{\\n  "type": "fs"\\n}\\n\\n\'');
  assert.deepEqual((await ask(script, AMPLE_MS, "fs")).value, { type: "fs" });
});

test("complaints of a program that answers are nobody's business", async () => {
  const script = files.script("chatty", "yes warning | head -c 300000 >&2", 'echo \'{"type":"fs"}\'');
  assert.deepEqual(await ask(script, AMPLE_MS, "fs"), { value: { type: "fs" }, faults: [], warnings: [] });
});

test("features that the schema does not know are warned of, and kept", async () => {
  const features = ["blk-file", "new-one"];
  const binary = files.program("newer", { type: "block", features });
  const { value, faults, warnings } = await ask(binary);
  assert.deepEqual(value, { type: "block", features });
  assert.deepEqual(faults, []);
  assert.deepEqual(warnings, [
    `${binary} --print-capabilities: the schema has no feature "new-one" for this type, only read-only, blk-file`,
  ]);
});

test("a program that does not end is killed at the bound, with its children", async () => {
  const pids = files.path("pids");
  const script = files.script(
    "hang",
    `sleep 1000 & echo $$ $! > ${pids}.new && mv ${pids}.new ${pids}; wait`,
  );
  const answer = ask(script, 2_000);
  await until(() => existsSync(pids), "it has started", AMPLE_MS);
  assertFault(await answer, script, "it gave no answer within 2000 ms");
  for (const pid of readFileSync(pids, "utf8").split(" ").map(Number)) {
    assert.ok(pid > 0);
    await until(() => !isAlive(pid), `process ${pid} is gone`);
  }
});

test("a program that ends, and leaves one behind that holds its output open, is not waited for", async () => {
  const pid = files.path("daemon");
  const script = files.script("daemon", `setsid sleep 1000 & echo $! > ${pid}`);
  assertFault(await ask(script, BRIEF_MS), script, `it gave no answer within ${BRIEF_MS} ms`);
  // It has left the group on purpose, and so it lives on.
  process.kill(Number(readFileSync(pid, "utf8")), "SIGKILL");
});

test("a program that prints without end is killed at 64 KiB", async () => {
  const script = files.script("flood", "exec yes");
  assertFault(await ask(script), script, "it printed more than 65536 bytes");
});

test("an answer of 64 KiB is still understood", async () => {
  const answer = '{"type":"fs"}';
  const script = files.script("large", `printf '%s%*s' '${answer}' ${65536 - answer.length} ''`);
  assert.deepEqual((await ask(script, AMPLE_MS, "fs")).value, { type: "fs" });
});

test("a program of another type than described is of no use", async () => {
  const binary = files.program("gpu", { type: "gpu", features: [] });
  assertFault(await ask(binary), binary, '"type" is gpu; the description has block');
});

test("a program that fails is quoted, with its status", async () => {
  const script = files.script("fails", "echo; echo no device >&2; echo more >&2; exit 3");
  assertFault(await ask(script), script, "it ended with status 3: no device");
});

test("a program that fails in silence has its status told", async () => {
  const script = files.script("silent", "exit 1");
  assertFault(await ask(script), script, "it ended with status 1");
});

test("a program that crashes has its signal told", async () => {
  const script = files.script("crash", "kill -SEGV $$");
  assertFault(await ask(script), script, "it was ended by SIGSEGV");
});

const answers: [what: string, answer: string, sentence: string][] = [
  ["nothing", "", "it is not JSON: it ends too early, at line 1, column 1"],
  ["a usage text", "Usage: x", "it is not JSON from line 1, column 1 on: Usage: x"],
  ["JSON and more", '{"type":"block"} done', "it is not JSON from line 1, column 18 on: done"],
  ["no object", "[]", "the whole must be an object, not an array"],
  ["no type", "{}", '"type" is missing; add it'],
  ["no features", '{"type":"block"}', '"features" is missing; add it'],
  [
    "a feature that is none",
    '{"type":"block","features":[1]}',
    '"features 0" must be a string, not a number',
  ],
  ["features that are none", '{"type":"block","features":{}}', '"features" must be an array, not an object'],
];

for (const [what, answer, sentence] of answers) {
  test(`an answer with ${what} is refused in one sentence`, async () => {
    const script = files.script("answer", `printf '%s' '${answer}'`);
    assertFault(await ask(script), script, sentence);
  });
}

test("an answer that is no text is refused", async () => {
  const script = files.script("latin", 'printf \'{"type": "\\377"}\'');
  assertFault(await ask(script), script, "it is not UTF-8; write it in that encoding");
});

test("a program that does not exist is told", async () => {
  const binary = files.path("bin/none");
  assertFault(await ask(binary), binary, "it can't be started: no such file or directory");
});

test("a program that is no program is told", async () => {
  const binary = files.write("bin/text", "hello", 0o644);
  assertFault(await ask(binary), binary, "it can't be started: permission denied");
  const binary0 = `${binary}\0`;
  assertFault(await ask(binary0), binary0, /^it can't be started: .*null byte/);
  const directory = files.path("bin/directory");
  mkdirSync(directory);
  assertFault(await ask(directory), directory, "it can't be started: permission denied");
});
