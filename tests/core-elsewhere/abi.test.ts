// The core's interface: assembly/ABI.md tells the truth about it, and no change of it goes unseen.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, test } from "node:test";
import * as chain from "../../assembly/abi/chain.ts";
import * as layout from "../../assembly/abi/layout.ts";
import * as uring from "../../assembly/spec/io-uring.ts";
import { abiExports, abiNumbers } from "../support/abi-document.ts";
import { interfaceOf } from "../support/core-interface.ts";

const NUMBERS: Record<string, number> = { ...layout, ...chain, ...uring };
const ARTEFACTS = ["core.wasm", "core.plain.wasm"];

/** `npm run golden` sets this. */
const isUpdate = process.env.VRINGD_GOLDEN === "update";

describe("assembly/ABI.md", () => {
  test("Each number in its tables is that of the source.", () => {
    for (const [name, value] of abiNumbers()) {
      assert.equal(value, NUMBERS[name], `${name}: change its row in assembly/ABI.md`);
    }
  });

  test("Its tables have each number that the core shares with a host, and have it once.", () => {
    const names = abiNumbers().map(([name]) => name);
    assert.deepEqual(names.sort(), Object.keys(NUMBERS).sort(), "give each a row in assembly/ABI.md");
  });

  for (const name of ARTEFACTS) {
    test(`The exports in it are those of ${name}, with their types.`, () => {
      assert.deepEqual(abiExports().sort(), interfaceOf(resolve("build", name)).exports);
    });
  }
});

describe("Golden files of the core", () => {
  test("core.d.ts is as it was.", () => {
    compareGolden("core.d.ts", readFileSync("build/core.d.ts", "utf8"));
  });

  test("Imports and exports are as they were.", () => {
    const artefacts = ARTEFACTS.map((name) => {
      const { imports, exports } = interfaceOf(resolve("build", name));
      return [
        name,
        ...imports.map((line) => `  import ${line}`),
        ...exports.map((line) => `  export ${line}`),
      ];
    });
    compareGolden("core-interface.txt", `${artefacts.flat().join("\n")}\n`);
  });
});

function compareGolden(name: string, actual: string): void {
  const path = resolve("tests/golden", name);
  if (isUpdate) {
    mkdirSync(resolve("tests/golden"), { recursive: true });
    writeFileSync(path, actual);
  }
  const hint = `The core's interface has changed. If it was meant to: see "Versions" in assembly/ABI.md, then npm run golden.`;
  assert.equal(actual, readFileSync(path, "utf8"), hint);
}
