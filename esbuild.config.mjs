// Bundles the host and its tests: entry points into build/, and what they share into chunks beside them.
import { chmodSync, existsSync, readdirSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { build } from "esbuild";

const programs = [
  { in: "host/cli.ts", out: "vringd-blk" },
  { in: "host/dataplane/worker.ts", out: "worker" },
  { in: "host/try-it.ts", out: "try-it" },
];

const tests = readdirSync("tests")
  .filter((name) => name.endsWith(".test.ts") || name === "run.ts")
  .map((name) => ({ in: `tests/${name}`, out: `tests/${basename(name, ".ts")}` }));

const { metafile } = await build({
  entryPoints: [...programs, ...tests],
  outdir: "build",
  outExtension: { ".js": ".mjs" },
  chunkNames: "[name]-[hash]",
  bundle: true,
  // What is imported lazily is loaded lazily: `--print-capabilities` must not wait for koffi.
  splitting: true,
  platform: "node",
  target: "node20",
  format: "esm",
  external: ["koffi"],
  sourcemap: "linked",
  metafile: true,
  // commander and pino are CommonJS.
  banner: { js: 'import { createRequire as _cr } from "node:module"; const require = _cr(import.meta.url);' },
  logLevel: "warning",
});

removeStale("build");
removeStale("build/tests");
chmodSync("build/vringd-blk.mjs", 0o755);

/** A chunk's name changes with its content; a test's may go. */
function removeStale(directory) {
  for (const name of existsSync(directory) ? readdirSync(directory) : []) {
    const path = join(directory, name);
    if (/\.mjs(\.map)?$/.test(name) && !(path in metafile.outputs)) rmSync(path);
  }
}
