// Each device is a folder, and a program: what follows from the list of devices is there, and nothing else names them. A folder is
// small, so that a new device is an evening's work.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { validateCapabilities, validateDescription } from "../../build/schemas.js";
import { DEFAULT_TYPE, DEVICES } from "../../host/devices/index.ts";
import { flagOf } from "../../host/options/option.ts";
import { FRAME_OPTIONS } from "../../host/programs/frame-options.ts";
import manifest from "../../package.json" with { type: "json" };
import schema from "../../schema/backend-description.schema.json" with { type: "json" };
import { ROOT, sourcesIn, withoutComments } from "../support/sources.ts";

/** Lines of a device's folder at the most. A disk, whose requests the core takes apart and engines serve, may have any number. */
const LINES_MAX = 300;
const OWN_LINES_MAX: Readonly<Record<string, number>> = {
  rng: 100,
  // In two dimensions and in three.
  gpu: 1200,
  vsock: 2500,
  block: Number.POSITIVE_INFINITY,
};

/** Disks in programs of others, what other programs say of theirs, and the one file that holds all programs. */
const KNOW_DISKS = /^host\/(library|toolbox\/probe|packaging\/sea)\//;

/** What runs in a browser, whose own words may be those of types. */
const PAGE = "host/demo/page/";

/** What reaches sockets of any vendor's guests. */
const KNOW_SOCKETS = /^host\/toolbox\/vsock\//;

const sources = sourcesIn("host", "assembly", "");

/** Its folder, its program, or its type as a string; comments may name it as an example. */
function naming(type: string, program: string): RegExp {
  return new RegExp(`devices/${type}/|\\b${program}\\b|(["'\`])${type}\\1`);
}

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

    test("has a description file for packages, if management software knows its type", () => {
      const path = join(ROOT, `schema/50-${name}.json`);
      const isKnown = schema.$defs.type.enum.includes(type);
      assert.equal(existsSync(path), isKnown, path);
      if (!isKnown) return;
      const description = JSON.parse(readFileSync(path, "utf8"));
      assert.ok(validateDescription(description), JSON.stringify(validateDescription.errors));
      assert.deepEqual([description.type, description.binary], [type, `/usr/bin/${name}`]);
      assert.equal(description.description, name.replace("-", " vhost-user-"));
    });

    test("has units for systemd", () => {
      for (const kind of ["service", "socket"])
        assert.ok(existsSync(join(ROOT, `build/systemd/${name}@.${kind}`)), kind);
    });

    test("has no option by the name of one that every program has", () => {
      for (const own of Object.keys(options)) assert.ok(!(own in FRAME_OPTIONS), flagOf(own));
    });

    test("is named by its folder, its program and the list of devices alone", () => {
      const named = naming(type, name);
      const mayName = ["host/devices/index.ts", `host/programs/${name}.ts`];
      const others = [...sources]
        .filter(([path]) => !path.startsWith(`host/devices/${type}/`) && !mayName.includes(path))
        .filter(([path]) => !path.startsWith(PAGE))
        .filter(([path]) => type !== DEFAULT_TYPE || !KNOW_DISKS.test(path))
        .filter(([path]) => type !== "vsock" || !KNOW_SOCKETS.test(path))
        .filter(([, code]) => named.test(withoutComments(code)));
      assert.deepEqual(
        others.map(([path]) => path),
        [],
      );
    });

    test("is a small folder", (t) => {
      const own = [...sources].filter(([path]) => path.startsWith(`host/devices/${type}/`));
      const lines = own.reduce((sum, [, code]) => sum + code.split("\n").length - 1, 0);
      t.diagnostic(`${lines} lines in ${own.length} files`);
      assert.ok(own.length > 0 && lines <= (OWN_LINES_MAX[type] ?? LINES_MAX), `${lines} lines`);
    });
  });
}

test("ARCHITECTURE.md is read in ten minutes", () => {
  const lines = readFileSync(join(ROOT, "ARCHITECTURE.md"), "utf8").split("\n").length - 1;
  assert.ok(lines <= 150, `${lines} lines`);
});
