// SECURITY.md says for each case which test covers it: that test must be there.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const cases = [...readFileSync(`${root}SECURITY.md`, "utf8").matchAll(/\| `([\w.-]+)`: (.+) \|$/gm)];

test("every case of SECURITY.md names a test that exists", () => {
  assert.ok(cases.length > 30);
  const missing = cases.filter(([, file, words]) => !namesOf(`${root}tests/${file}`).includes(words!));
  assert.deepEqual(
    missing.map(([line]) => line),
    [],
  );
});

/** All strings of a test file, as far as a name may be put together from them. */
function namesOf(path: string): string {
  return [...readFileSync(path, "utf8").matchAll(/"([^"\n]+)"|`([^`]+)`/g)]
    .map(([, plain, template]) => plain ?? template)
    .join("\n");
}
