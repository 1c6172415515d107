// Each device is a folder, and a program: what follows from the list of devices is there, and nothing else names them.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { validateCapabilities } from "../../build/schemas.js";
import { DEFAULT_TYPE, DEVICES } from "../../host/devices/index.ts";
import { flagOf } from "../../host/options/option.ts";
import { FRAME_OPTIONS } from "../../host/programs/frame-options.ts";
import manifest from "../../package.json" with { type: "json" };
import { PROGRAM } from "../support/vringd.ts";

const ROOT = join(dirname(PROGRAM), "..");

/** Clients of disks in other processes, and disks in other programs. */
const KNOW_DISKS = /^host\/(library|toolbox\/probe|workers\/data-plane\.ts)/;

test("what is meant by no type is a type that there is", () => {
  assert.ok(DEFAULT_TYPE in DEVICES);
});

const programs = await Promise.all(
  Object.entries(DEVICES).map(async ([type, load]) => [type, await load()] as const),
);

for (const [type, { name, capabilities, options }] of programs) {
  describe(type, () => {
    test("has a program that is built and published, with its manual page", () => {
      assert.ok(existsSync(join(ROOT, `host/programs/${name}.ts`)), name);
      assert.equal((manifest.bin as Record<string, string>)[name], `build/${name}.mjs`);
      assert.ok(manifest.man.includes(`build/man/${name}.1`));
    });

    test("says what it is in words that management software knows", () => {
      assert.equal(capabilities.type, type);
      assert.ok(validateCapabilities(capabilities), JSON.stringify(validateCapabilities.errors));
    });

    test("has no option by the name of one that every program has", () => {
      for (const own of Object.keys(options)) assert.ok(!(own in FRAME_OPTIONS), flagOf(own));
    });

    test("is imported by its folder and by the list of devices", () => {
      const folder = new RegExp(`from "[^"]*/devices/${type}/`);
      const others = readdirSync(join(ROOT, "host"), { recursive: true, encoding: "utf8" })
        .map((path) => `host/${path}`)
        .filter((path) => path.endsWith(".ts") && !path.startsWith(`host/devices/${type}/`))
        .filter((path) => !KNOW_DISKS.test(path) || type !== "block")
        .filter((path) => folder.test(readFileSync(join(ROOT, path), "utf8")));
      assert.deepEqual(others, []);
    });
  });
}
