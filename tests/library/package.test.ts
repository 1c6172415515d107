// What npm would publish: all that is needed, and nothing else.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire, isBuiltin } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import manifest from "../../package.json" with { type: "json" };
import { listPackage, ROOT } from "../support/installation.ts";

const { files, size, unpackedSize } = listPackage();
const paths = files.map(({ path }) => path);

/** Chunks are named by what is in them. */
const CONTENT: readonly (string | RegExp)[] = [
  "LICENSE",
  "README.md",
  "package.json",
  "build/THIRD-PARTY.txt",
  "build/core.wasm",
  "build/core.plain.wasm",
  "build/driver.wasm",
  "build/core-loader.mjs",
  "build/core-loader.d.ts",
  "build/index.mjs",
  "build/index.d.ts",
  "build/ring.html",
  "build/view.html",
  "build/vringd.mjs",
  "build/vringd-blk.mjs",
  "build/vringd-console.mjs",
  "build/vringd-gpio.mjs",
  "build/vringd-gpu.mjs",
  "build/vringd-i2c.mjs",
  "build/vringd-input.mjs",
  "build/vringd-rng.mjs",
  "build/vringd-vsock.mjs",
  "build/worker.mjs",
  "build/renderer.mjs",
  /^build\/[\w-]+-[A-Z0-9]{8}\.mjs$/,
  /^build\/man\/vringd(-[a-z\d]+)*\.1$/,
  "build/systemd/vringd-blk@.service",
  "build/systemd/vringd-blk@.socket",
  "build/systemd/vringd-console@.service",
  "build/systemd/vringd-console@.socket",
  "build/systemd/vringd-gpio@.service",
  "build/systemd/vringd-gpio@.socket",
  "build/systemd/vringd-gpu@.service",
  "build/systemd/vringd-gpu@.socket",
  "build/systemd/vringd-i2c@.service",
  "build/systemd/vringd-i2c@.socket",
  "build/systemd/vringd-input@.service",
  "build/systemd/vringd-input@.socket",
  "build/systemd/vringd-rng@.service",
  "build/systemd/vringd-rng@.socket",
  "build/systemd/vringd-vsock@.service",
  "build/systemd/vringd-vsock@.socket",
  "build/systemd/vringd-exporter.service",
  "host/observability/alert-rules.yaml",
  "host/observability/grafana-dashboard.json",
  "schema/50-vringd-blk.json",
  "schema/50-vringd-console.json",
  "schema/50-vringd-gpu.json",
  "schema/50-vringd-input.json",
  "schema/50-vringd-rng.json",
  "schema/50-vringd-vsock.json",
  "schema/control.openapi.json",
  "schema/backend-capabilities.schema.json",
  "schema/blk-disks.schema.json",
  "schema/backend-description.schema.json",
  "schema/vsock-guests.schema.json",
  "assembly/ABI.md",
  /^assembly\/([a-z]+\/)?[a-z0-9-]+\.ts$/,
];

const SIZE_MAX = 780_000;
const UNPACKED_SIZE_MAX = 3_000_000;

const isMatch = (wanted: string | RegExp, path: string) =>
  typeof wanted === "string" ? wanted === path : wanted.test(path);

const bundles = paths.filter((path) => path.endsWith(".mjs"));
const textOf = (path: string) => readFileSync(join(ROOT, path), "utf8");

test("the package has what it should, and nothing else", () => {
  const unexpected = paths.filter((path) => !CONTENT.some((wanted) => isMatch(wanted, path)));
  const missing = CONTENT.filter((wanted) => !paths.some((path) => isMatch(wanted, path)));
  assert.deepEqual({ unexpected, missing }, { unexpected: [], missing: [] });
});

test("it is small", (t) => {
  t.diagnostic(`${paths.length} files, ${size} bytes packed, ${unpackedSize} unpacked`);
  assert.ok(size < SIZE_MAX && unpackedSize < UNPACKED_SIZE_MAX);
});

test("its programs can be run", () => {
  const modes = Object.values(manifest.bin).map((path) => files.find((file) => file.path === path)?.mode);
  assert.deepEqual(
    modes,
    modes.map(() => 0o755),
  );
});

test("all that package.json names is in it", () => {
  const named = [...Object.values(manifest.bin), ...manifest.man, ...exportedFiles()];
  assert.deepEqual(
    named.filter((path) => !paths.includes(path)),
    [],
  );
});

test('package.json names every manual page ("man"), so that npm links them', () => {
  const built = readdirSync(join(ROOT, "build/man")).map((name) => `build/man/${name}`);
  assert.deepEqual([...manifest.man].sort(), built.sort());
});

test("what it exports is found by its name", () => {
  const { resolve } = createRequire(join(ROOT, "package.json"));
  for (const path of [
    "core.wasm",
    "core.plain.wasm",
    "package.json",
    "schema/backend-description.schema.json",
    "schema/vsock-guests.schema.json",
  ])
    assert.ok(paths.includes(resolve(`vringd/${path}`).slice(ROOT.length + 1)), path);
  assert.throws(() => resolve("vringd/build/vringd.mjs"), { code: "ERR_PACKAGE_PATH_NOT_EXPORTED" });
});

test("it loads nothing but Node's modules and its dependencies", () => {
  const names = bundles.flatMap((path) =>
    [...textOf(path).matchAll(/^(?:import|export)\b[^"]*"([^"]+)";$|\bimport\("([^"]+)"\)/gm)].map(
      ([, name, lazy]) => name ?? lazy!,
    ),
  );
  const others = new Set(names.filter((name) => !name.startsWith("./") && !isBuiltin(name)));
  assert.deepEqual([...others], Object.keys(manifest.dependencies));
});

test("what it loads of its own is in it", () => {
  for (const path of bundles) {
    for (const [, name] of textOf(path).matchAll(/"\.\/([\w-]+\.mjs)"/g))
      assert.ok(paths.includes(`build/${name}`), `${path} loads ${name}`);
  }
});

test("it tells nothing of where it was built, and has no maps", () => {
  for (const path of paths) {
    const text = textOf(path);
    assert.ok(!text.includes(ROOT), path);
    assert.doesNotMatch(text, /sourceMappingURL=/, path);
  }
});

test("every package that was bundled has its licence along", () => {
  const notices = textOf("build/THIRD-PARTY.txt");
  const comments = bundles.flatMap((path) => [
    ...textOf(path).matchAll(/^\s*\/\/ node_modules\/((?:@[^/]+\/)?[^/]+)\//gm),
  ]);
  const bundled = new Set(comments.map(([, name]) => name!));
  assert.ok(bundled.has("commander") && bundled.has("pino"));
  for (const name of bundled) {
    const { version } = JSON.parse(textOf(`node_modules/${name}/package.json`));
    assert.match(
      notices,
      new RegExp(`^${name} ${version.replaceAll(".", "\\.")} \\(.*\\)\n\n[\\s\\S]*?Copyright`, "m"),
    );
  }
});

/** A pattern such as "./schema/*" has been tried above. */
function exportedFiles(): string[] {
  return Object.values(manifest.exports)
    .flatMap((target) => (typeof target === "string" ? [target] : Object.values<string>(target)))
    .filter((target) => !target.includes("*"))
    .map((target) => target.slice("./".length));
}
