// Bundles the programs into build/ and the tests into build/tests/, with what each set shares in chunks beside it.
import { chmodSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { build } from "esbuild";
import { ENTRIES, PROGRAMS, RENDERER } from "./host/packaging/entries.mjs";
import { writeNotices } from "./host/packaging/third-party.mjs";

const programs = await bundle("build", ENTRIES);
writeNotices("build/THIRD-PARTY.txt", programs);
for (const program of PROGRAMS) makeExecutable(`build/${program}.mjs`);

const TEST_PROGRAMS = ["run.ts", "soak.ts", "fuzz.ts"];
/** Back-ends that tests start as programs of their own. */
const BACK_ENDS = ["file-disk-program", "chain-device-program"];
/** What guests run that see the build. */
const IN_GUESTS = [
  "support/i2c-in-guest",
  "support/vsock-in-guest",
  "support/evdev-in-guest",
  "support/gl-in-guest",
  "support/drm-in-guest",
  "guests/host-gpio",
];
const examples = readdirSync("tests/examples");
const tests = readdirSync("tests", { recursive: true }).filter((path) => path.endsWith(".test.ts"));
await bundle("build/tests", [
  ...[...tests, ...TEST_PROGRAMS].map((path) => ({ in: `tests/${path}`, out: basename(path, ".ts") })),
  { in: "tests/try-it.ts", out: "try-it" },
  { in: "tests/runtimes/node.ts", out: "runtime-node" },
  ...examples.map((name) => ({ in: `tests/examples/${name}`, out: `examples/${basename(name, ".ts")}` })),
  ...BACK_ENDS.map((name) => ({ in: `tests/support/${name}.ts`, out: name })),
  ...IN_GUESTS.map((path) => ({ in: `tests/${path}.ts`, out: basename(path) })),
  // Tests that are devices themselves start it.
  { in: RENDERER, out: "renderer" },
  { in: "tests/bench/main.ts", out: "bench" },
  { in: "tests/bench/runtimes.ts", out: "bench-runtimes" },
  { in: "tests/bench/profile.ts", out: "profile" },
]);

await bundle("build/tools", [
  { in: "host/packaging/manual/main.ts", out: "manual" },
  { in: "host/packaging/units/main.ts", out: "units" },
]);
// For hosts of any kind: it must not so much as name what only Node has.
await build({
  entryPoints: [{ in: "host/core/loader.ts", out: "core-loader" }],
  outdir: "build",
  outExtension: { ".js": ".mjs" },
  bundle: true,
  platform: "neutral",
  target: "es2022",
  sourcemap: "external",
  logLevel: "warning",
});

/**
 * Lets sh(1) start the program, for what Node lets no code of ours see. The second line is a string and a comment to Node.
 *
 * - Node gives every signal its default before it runs any code, and so whoever started it with SIGHUP ignored, such as nohup(1),
 *   would lose it with the terminal. SigIgn is a mask, whose lowest bit is SIGHUP's.
 * - Node makes ten threads before it runs any code, and ends by SIGABRT without a word where it may not. RLIMIT_NPROC does not hold
 *   for root. That a user has more running is not seen here: `vringd doctor` counts.
 */
function makeExecutable(path) {
  const status = `while read -r key value; do case $key$value in SigIgn:*[13579bdf]) export VRINGD_SIGHUP_IGNORED=1;; Uid:0[!0-9]*) root=root;; esac; done`;
  const limits = `while read -r a b limit rest; do case $a$b in Maxprocesses) most=$limit;; esac; done`;
  const sentence = `only $most processes and threads are allowed, and Node alone takes 11: raise the limit (ulimit -u, LimitNPROC=)`;
  const check = `case $root$most in [0-9]|10) name=\${0##*/}; echo "\${name%.mjs}: ${sentence}" >&2; exit 1;; esac`;
  const looks = `root=; most=; { ${status}; } 2>/dev/null </proc/self/status; { ${limits}; } 2>/dev/null </proc/self/limits`;
  const header = `#!/bin/sh\n":" //; ${looks}; ${check}; exec node "$0" "$@"\n`;
  writeFileSync(
    path,
    readFileSync(path, "utf8").replace(/^#!.*\n/, () => header),
  );
  chmodSync(path, 0o755);
  // The header has a line more.
  const map = JSON.parse(readFileSync(`${path}.map`, "utf8"));
  writeFileSync(`${path}.map`, JSON.stringify({ ...map, mappings: `;${map.mappings}` }));
}

/** Test files get node:test with limits; the module that sets them, and the runner, get it as it is. */
function boundTests() {
  const bounded = resolve("tests/support/bounded-test.ts");
  return {
    name: "bound-tests",
    setup({ onResolve }) {
      onResolve({ filter: /^node:test$/ }, ({ importer }) =>
        importer === bounded || importer === resolve("tests/run.ts")
          ? { path: "node:test", external: true }
          : { path: bounded },
      );
    },
  };
}

async function bundle(outdir, entryPoints) {
  const { metafile } = await build({
    entryPoints,
    outdir,
    outExtension: { ".js": ".mjs" },
    chunkNames: "[name]-[hash]",
    bundle: true,
    // What is imported lazily is loaded lazily: `--print-capabilities` must not wait for koffi.
    splitting: true,
    platform: "node",
    target: "node20",
    format: "esm",
    // Our own name: tests and examples use the package as its users do.
    external: ["koffi", "vringd"],
    plugins: [boundTests()],
    // Programs are published without their maps, so they don't point at them.
    sourcemap: outdir === "build" ? "external" : "linked",
    metafile: true,
    // commander and pino are CommonJS.
    banner: {
      js: 'import { createRequire as _cr } from "node:module"; const require = _cr(import.meta.url);',
    },
    logLevel: "warning",
  });
  // A chunk's name changes with its content; a test may go.
  for (const name of readdirSync(outdir)) {
    const path = join(outdir, name);
    if (/\.mjs(\.map)?$/.test(name) && !name.startsWith("core-loader") && !(path in metafile.outputs))
      rmSync(path);
  }
  return metafile;
}
