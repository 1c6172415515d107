// What npm would publish.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { test } from "node:test";
import manifest from "../package.json" with { type: "json" };
import { PROGRAM } from "./support/vringd.ts";

test("the package has its programs, and what they load", () => {
  const root = join(dirname(PROGRAM), "..");
  const { stdout } = spawnSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: root });
  const [{ files }] = JSON.parse(String(stdout));
  const paths: string[] = files.map(({ path }: { path: string }) => path);
  const wanted = [...Object.values(manifest.bin), "build/core.wasm", "build/worker.mjs", "build/ring.html"];
  assert.deepEqual(
    wanted.filter((path) => !paths.includes(path)),
    [],
  );
});
