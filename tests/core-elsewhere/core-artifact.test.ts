// What the build leaves of the core: its one import, its exports, and the atomics that the rings rest on.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { before, describe, test } from "node:test";
import { DEVICE_PTR, MEMORY_PAGES } from "../../assembly/abi/memory.ts";

/** Whoever drives the core depends on these. A change here is a change of its interface. */
const EXPORTS = [
  "abiVersion",
  "addCredit",
  "attachRings",
  "isStopped",
  "missedGpa",
  "news",
  "openWorker",
  "placeRing",
  "queueBase",
  "queueFault",
  "setCallFd",
  "setCredit",
  "setLogging",
  "startQueue",
  "step",
  "stepAwake",
  "stopQueue",
  "suspendQueue",
  "throttleUs",
  "trackInflight",
];

/**
 * Atomics that must be in the emitted code: instruction, offset, how many places need one at least, and which.
 * Optimisers have deleted fences and merged atomics on memory that is not shared, so what the source says is no proof.
 */
const ATOMICS: [string, number, number, string][] = [
  ["i32.atomic.load16_u", 2, 2, "avail.idx, used.idx at the start"],
  ["i32.atomic.load16_u", 0, 2, "avail.flags, used_event"],
  ["i32.atomic.load16_u", 14, 1, "flags of a packed descriptor"],
  ["i32.atomic.load", 0, 4, "SQ head, CQ tail, driver event suppression, write-through"],
  ["i64.atomic.load", 0, 1, "capacity"],
  ["i32.atomic.store16", 2, 2, "used.idx, flags of device event suppression"],
  ["i32.atomic.store16", 0, 2, "used.flags, avail_event"],
  ["i32.atomic.store16", 14, 1, "flags of the first used descriptor"],
  ["i32.atomic.rmw.or", 0, 1, "bits of the dirty log"],
  ["i32.atomic.store", 0, 3, "SQ tail, CQ head, device event suppression"],
];

for (const name of ["core.wasm", "core.plain.wasm"]) {
  describe(name, () => {
    const isShared = name === "core.wasm";
    // Tests are run from the root of the repository, bundled or not.
    const path = resolve("build", name);
    let module: WebAssembly.Module;
    let text: string;

    before(() => {
      module = new WebAssembly.Module(readFileSync(path));
      const wasmDis = resolve("node_modules/.bin/wasm-dis");
      text = execFileSync(wasmDis, [path], { encoding: "utf8", maxBuffer: 64 << 20 });
    });

    test("It imports its memory, and no function.", () => {
      const imports = WebAssembly.Module.imports(module);
      assert.deepEqual(imports, [{ module: "env", name: "memory", kind: "memory" }]);
    });

    test("It exports the functions that a host needs, and nothing else.", () => {
      const exports = WebAssembly.Module.exports(module);
      assert.deepEqual(exports.map(({ name }) => name).sort(), EXPORTS);
      assert.ok(exports.every(({ kind }) => kind === "function"));
    });

    test(
      isShared ? "Its memory is shared, up to 4 GiB." : "Its memory is not shared, and has no maximum.",
      () => {
        const [, limits] = /\(import "env" "memory" \(memory \S+ ([^)]*)\)\)/.exec(text) ?? [];
        assert.match(limits ?? "", isShared ? new RegExp(`^\\d+ ${MEMORY_PAGES} shared$`) : /^\d+$/);
      },
    );

    for (const [instruction, offset, least, what] of ATOMICS) {
      test(`It has ${instruction} at offset ${offset} for ${what}.`, () => {
        const found = countOf(text, instruction, offset);
        assert.ok(found >= least, `found ${found}, expected ${least} or more`);
      });
    }

    test("It has no fence: order comes from the atomics alone.", () => {
      assert.doesNotMatch(text, /atomic\.fence/);
    });

    test("It never waits, and never grows its memory.", () => {
      assert.doesNotMatch(text, /memory\.atomic\.(wait|notify)/);
      assert.doesNotMatch(text, /memory\.grow/);
    });

    test("No static data reaches into the memory that the host writes: every new worker would overwrite it.", () => {
      for (const [, at, data] of text.matchAll(/\(data \S+ \(i32\.const (\d+)\) "(.*)"\)/g)) {
        const byteLength = (data ?? "").replace(/\\[0-9a-f]{2}|\\./g, ".").length;
        assert.ok(Number(at) + byteLength <= DEVICE_PTR, `data at ${at}`);
      }
    });
  });
}

function countOf(text: string, instruction: string, offset: number): number {
  const operand = offset === 0 ? "(?! offset)" : ` offset=${offset}`;
  return text.match(new RegExp(`\\(${instruction.replaceAll(".", "\\.")}${operand}\\b`, "g"))?.length ?? 0;
}
