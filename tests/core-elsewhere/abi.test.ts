// The core's interface: assembly/ABI.md tells the truth about it, and no change of it goes unseen.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, test } from "node:test";
import * as layout from "../../assembly/abi/index.ts";
import * as uring from "../../assembly/spec/io-uring.ts";
import { abiExports, abiNumbers } from "../support/abi-document.ts";
import { interfaceOf } from "../support/core-interface.ts";
import { compareGolden } from "../support/golden.ts";

const NUMBERS: Record<string, number> = { ...layout, ...uring };
const ARTEFACTS = ["core.wasm", "core.plain.wasm"];

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

  test("abi/index.ts has each file beside it, but the driver's: none goes unseen by these tables.", () => {
    const files = readdirSync(resolve("assembly/abi")).filter((name) => !/^(index|driver)\.ts$/.test(name));
    const index = readFileSync(resolve("assembly/abi/index.ts"), "utf8");
    const exported = [...index.matchAll(/^export \* from "\.\/(.*)";$/gm)].map(([, name]) => name!);
    assert.deepEqual(exported.sort(), files.sort());
  });

  for (const name of ARTEFACTS) {
    test(`The exports in it are those of ${name}, with their types.`, () => {
      assert.deepEqual(abiExports().sort(), interfaceOf(resolve("build", name)).exports);
    });
  }
});

describe("Golden files of the core", () => {
  test("core.d.ts is as it was.", () => {
    compare("core.d.ts", readFileSync("build/core.d.ts", "utf8"));
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
    compare("core-interface.txt", `${artefacts.flat().join("\n")}\n`);
  });
});

function compare(name: string, actual: string): void {
  const hint = `The core's interface has changed. If it was meant to: see "Versions" in assembly/ABI.md, then npm run golden.`;
  compareGolden(name, actual, hint);
}
