// What was agreed on, a file each in tests/golden: a change of it shows in review.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";

/** `npm run golden` sets this. */
const isUpdate = process.env.VRINGD_GOLDEN === "update";

/** `hint`: what to do about a difference. */
export function compareGolden(name: string, actual: string, hint: string): void {
  const path = resolve("tests/golden", name);
  if (isUpdate) {
    mkdirSync(resolve("tests/golden"), { recursive: true });
    writeFileSync(path, actual);
  }
  assert.equal(actual, readFileSync(path, "utf8"), hint);
}
