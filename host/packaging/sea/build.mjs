// `npm run sea`: all programs as one executable that needs no Node and no packages, build/sea/vringd-blk, and a link to it for
// each of the others. It is this Node with our code inside ("Single executable applications" in Node's documentation).
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { PROGRAMS, WORKER } from "../entries.mjs";
import { writeNotices } from "../third-party.mjs";
import { standIns } from "./stand-ins.mjs";

const OUT = "build/sea";
const EXECUTABLE = "vringd-blk";
const PROGRAM = `${OUT}/${EXECUTABLE}`;
const DRAFT = `${OUT}/draft`;
const NATIVE_PACKAGE = `node_modules/@koromix/koffi-linux-${process.arch}`;

/** What lies beside the programs, and is not bundled into them. */
const BESIDES = /\.(wasm|html)$/;

/** What looks for a file beside our code without host/process/own-files.ts is told a path that says what is wrong. */
const NOWHERE = { "import.meta.url": '"file:///within-the-executable/"' };

/** What Node looks for, to know that there is something inside. */
const FUSE = "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2";

if (!readFileSync(process.execPath).includes(FUSE)) {
  console.error(
    `sea: ${process.execPath} can't hold an application, as it loads Node from a library; use a Node of nodejs.org`,
  );
  process.exit(1);
}
rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });
await bundlePrograms();
copyNodeLicence();
writeBlob();
copyFileSync(process.execPath, DRAFT);
chmodSync(DRAFT, 0o755);
// It warns of sections that it leaves alone: what it says matters only when it fails, and is part of the error then.
run("node_modules/postject/dist/cli.js", DRAFT, "NODE_SEA_BLOB", `${OUT}/blob`, "--sentinel-fuse", FUSE);
renameSync(DRAFT, PROGRAM);
for (const name of PROGRAMS) if (name !== EXECUTABLE) symlinkSync(EXECUTABLE, `${OUT}/${name}`);
for (const file of ["main.cjs", "worker.mjs", "config.json", "blob"]) rmSync(`${OUT}/${file}`);

/** The main script of such an executable must be CommonJS. */
async function bundlePrograms() {
  const options = {
    bundle: true,
    platform: "node",
    target: "node20",
    metafile: true,
    logLevel: "warning",
    plugins: [standIns],
    // koffi asks for a place to look for its native code in, which there is not.
    define: { ...NOWHERE, __filename: "process.execPath", __dirname: "process.execPath" },
  };
  const main = await build({
    ...options,
    entryPoints: ["host/packaging/sea/main.ts"],
    outfile: `${OUT}/main.cjs`,
    format: "cjs",
  });
  await build({
    ...options,
    entryPoints: [WORKER],
    outfile: `${OUT}/worker.mjs`,
    format: "esm",
    banner: {
      js: 'import { createRequire as _cr } from "node:module"; const require = _cr(process.execPath);',
    },
  });
  writeNotices(`${OUT}/THIRD-PARTY.txt`, main.metafile);
}

/** Node's own, and those of all that it contains, lie beside it. */
function copyNodeLicence() {
  const prefix = dirname(dirname(realpathSync(process.execPath)));
  const path = ["LICENSE", "share/doc/nodejs/LICENSE"].map((name) => join(prefix, name)).find(existsSync);
  if (path) copyFileSync(path, `${OUT}/NODE-LICENSE.txt`);
  else console.warn(`sea: there is no licence of Node's in ${prefix}; pass it on with the executable`);
}

function writeBlob() {
  const besides = readdirSync("build").filter((name) => BESIDES.test(name));
  const config = {
    main: `${OUT}/main.cjs`,
    output: `${OUT}/blob`,
    disableExperimentalSEAWarning: true,
    assets: {
      "worker.mjs": `${OUT}/worker.mjs`,
      ...Object.fromEntries(besides.map((name) => [name, `build/${name}`])),
      "koffi.node": `${NATIVE_PACKAGE}/linux_${process.arch}/koffi.node`,
    },
  };
  writeFileSync(`${OUT}/config.json`, JSON.stringify(config));
  run("--experimental-sea-config", `${OUT}/config.json`);
}

function run(...args) {
  execFileSync(process.execPath, args, { stdio: "pipe" });
}
