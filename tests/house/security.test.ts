// SECURITY.md says for each case which test covers it: that test must be there, and must not be one that never runs.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const cases = [...readFileSync(`${root}SECURITY.md`, "utf8").matchAll(/\| `([\w.-]+)`: (.+) \|$/gm)];

/** Each test of a file that is no suite, by its full name, as the runner would come to it. */
type Found = { file: string; name: string; never: boolean };

/**
 * Loaded in place of node:test: keeps the name of each test and whether it is always left out, enters suites, and runs nothing.
 * What the machine can't do is no reason here: `skip` with a sentence is left to the run itself.
 */
const COLLECTOR = `
const names = [];
const found = [];
function read(args) {
  const body = args.find((each) => typeof each === "function");
  const options = args.find((each) => typeof each === "object" && each !== null) ?? {};
  return { name: typeof args[0] === "string" ? args[0] : "", options, body };
}
const outer = [];
function isNever({ skip, todo }, body) {
  return skip === true || todo !== undefined && todo !== false || body === undefined || outer.some((each) => each);
}
export function describe(...args) {
  const { name, options, body } = read(args);
  names.push(name);
  outer.push(isNever(options, body));
  body?.();
  names.pop();
  outer.pop();
}
export function test(...args) {
  const { name, options, body } = read(args);
  found.push({ file: globalThis.file, name: [...names, name].join(" "), never: isNever(options, body) });
  return Promise.resolve();
}
const nothing = () => {};
describe.skip = (...args) => { outer.push(true); describe(...args); outer.pop(); };
test.skip = (...args) => { outer.push(true); test(...args); outer.pop(); };
test.todo = test.skip;
export const it = test, suite = describe;
export const after = nothing, before = nothing, beforeEach = nothing, afterEach = nothing;
export const mock = { timers: { enable: nothing, reset: nothing, tick: nothing }, fn: nothing, method: nothing };
export function run() {}
export default Object.assign(test, { test, it, describe, suite, after, before, beforeEach, afterEach, mock });
process.on("exit", () => require("node:fs").writeSync(3, JSON.stringify(found)));
import { createRequire } from "node:module";
const require = createRequire(import.meta.url);
`;

/** The tests of built files: what is put together from parts has its whole name there, and what stands in a comment is none. */
function testsOf(files: readonly string[], directory: string): Found[] {
  const collector = join(directory, "collector.mjs");
  writeFileSync(collector, COLLECTOR);
  const hooks = `export const resolve = (specifier, context, next) => specifier === "node:test"
    ? { url: ${JSON.stringify(pathToFileURL(collector).href)}, shortCircuit: true } : next(specifier, context);`;
  const register = `import { register } from "node:module";
    register("data:text/javascript," + encodeURIComponent(${JSON.stringify(hooks)}));`;
  const built = files.map((file) => {
    const path = join(root, "build/tests", file.replace(/\.ts$/, ".mjs"));
    return [file, pathToFileURL(path).href];
  });
  const { status, output, stderr } = spawnSync(
    process.execPath,
    [
      "--import",
      `data:text/javascript,${encodeURIComponent(register)}`,
      "--input-type=module",
      "-e",
      `for (const [file, url] of ${JSON.stringify(built)}) { globalThis.file = file; await import(url); } process.exit();`,
    ],
    // What a file makes as it is loaded goes with the directory, which no other user may enter: a test that needs one is found, not run.
    {
      cwd: root,
      encoding: "utf8",
      stdio: ["ignore", "ignore", "pipe", "pipe"],
      env: { ...process.env, TMPDIR: directory, VRINGD_TEST_SKIPS: "" },
      maxBuffer: 64 << 20,
    },
  );
  assert.equal(status, 0, stderr);
  return JSON.parse(output[3]!);
}

test("every case of SECURITY.md names a test that is run", { timeout: 300_000 }, () => {
  assert.ok(cases.length > 30);
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  try {
    const found = testsOf([...new Set(cases.map(([, file]) => file!))], directory);
    const missing = cases.filter(
      ([, file, words]) =>
        !found.some((each) => each.file === file && !each.never && each.name.includes(words!)),
    );
    assert.deepEqual(
      missing.map(([line]) => line),
      [],
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});
