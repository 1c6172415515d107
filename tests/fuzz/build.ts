// From the core's source to a fuzzer: asc, rewrite.ts, wasm2c, clang.
import { spawnSync } from "node:child_process";
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { numbersHeader } from "./numbers.ts";
import { rewrite } from "./rewrite.ts";

export const SOURCES = resolve("tests/fuzz");
export const BUILD = resolve("build/fuzz");

/** Knows the core's globals, so it is compiled anew for each core. */
const CORE_UNIT = "core";
const UNITS = [
  "report",
  "memory",
  "guest",
  CORE_UNIT,
  "device",
  "model",
  "limits",
  "dirty-log",
  "engine",
  "oracle",
  "driver",
  "harness",
];

/** A change to the core's source: the text must be there, and once. */
export interface Patch {
  file: string;
  from: string;
  to: string;
}

export interface Variant {
  directory: string;
  /** Of asconfig.json: with the core's assertions, or without. */
  target: "debug" | "plain";
  /** As in the artefacts, or not at all, so that each function of the source is one. */
  optimize: boolean;
  /** Compiler flags for the core, for what is around it, and for the program. */
  coreFlags: readonly string[];
  harnessFlags: readonly string[];
  linkFlags: readonly string[];
  patch?: Patch;
  /** Where the harness is compiled already, but for the part that knows the core's globals. */
  harness?: string;
}

/** The core's accesses have a hook that checks each, so this finds what the core does wrong. */
export const FUZZER: Variant = {
  directory: BUILD,
  target: "debug",
  optimize: true,
  coreFlags: ["-fsanitize=fuzzer-no-link"],
  harnessFlags: [],
  linkFlags: ["-fsanitize=fuzzer"],
};

/** Three times slower: finds what C makes of the core, and the harness, do wrong. */
export const CHECKED_FUZZER: Variant = {
  directory: join(BUILD, "checked"),
  target: "debug",
  optimize: true,
  coreFlags: ["-fsanitize=address,fuzzer-no-link"],
  harnessFlags: ["-fsanitize=address"],
  linkFlags: ["-fsanitize=address,fuzzer"],
};

const TOOLS = ["wasm2c", "clang-14", "clang++-14", "llvm-profdata-14", "llvm-cov-14"];
const PACKAGES = "wabt, clang-14, libclang-rt-14-dev and llvm-14";

/** A tool is missing, or the fuzzer is asked for what it can't do. The message is one sentence. */
export class FuzzError extends Error {}

export function checkTools(): void {
  const missing = TOOLS.filter((tool) => spawnSync(tool, ["--version"]).error !== undefined);
  if (missing.length === 0) return;
  throw new FuzzError(`${missing.join(", ")} can't be run: install Debian's packages ${PACKAGES}.`);
}

/** Runs a tool in the directory of a variant. */
export function runTool(directory: string, tool: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(tool, args, {
    cwd: directory,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  if (error !== undefined || status !== 0) {
    throw new FuzzError(`${tool} failed in ${directory}:\n${error?.message ?? stdout + stderr}`);
  }
  return stdout;
}

/** Returns the fuzzer's path. */
export async function buildFuzzer(variant: Variant): Promise<string> {
  const { directory } = variant;
  await mkdir(directory, { recursive: true });
  await compileCore(variant);
  await writeFile(join(directory, "rewritten.wasm"), await rewrite(join(directory, "core.wasm")));
  runTool(directory, "wasm2c", ["rewritten.wasm", "-n", "core", "-o", "core.wasm.c"]);
  await writeFile(
    join(directory, "numbers.h"),
    await numbersHeader([resolve("assembly/spec"), resolve("assembly/abi")]),
  );
  compileHarness(variant);
  return join(directory, "fuzzer");
}

async function compileCore(variant: Variant): Promise<void> {
  const { directory, patch, target } = variant;
  const source = patch === undefined ? resolve("assembly") : await patchedSource(directory, patch);
  const config = join(directory, "asconfig.json");
  await writeFile(config, await configFor(variant));
  const args = ["--config", config, "--target", target, "-o", join(directory, "core.wasm")];
  runTool(resolve("."), resolve("node_modules/.bin/asc"), [
    join(source, "index.ts"),
    join(source, "debug.ts"),
    ...args,
  ]);
}

/** The core's own options, but for its entry; where its functions are to be told apart, with their names. */
async function configFor({ optimize }: Variant): Promise<string> {
  const { targets, options } = JSON.parse(await readFile("asconfig.json", "utf8"));
  const level = optimize ? {} : { optimizeLevel: 0, converge: false, debug: true };
  return JSON.stringify({ targets, options: { ...options, ...level } });
}

async function patchedSource(directory: string, { file, from, to }: Patch): Promise<string> {
  const copy = join(directory, "assembly");
  await cp(resolve("assembly"), copy, { recursive: true });
  const path = join(copy, file);
  const parts = (await readFile(path, "utf8")).split(from);
  if (parts.length !== 2) throw new FuzzError(`${file} holds ${parts.length - 1} times, not once: ${from}`);
  await writeFile(path, parts.join(to));
  return copy;
}

/** The harness is not instrumented: what leads the fuzzer on is the core. */
function compileHarness({ directory, coreFlags, harnessFlags, linkFlags, harness }: Variant): void {
  const common = ["-g", "-O2", `-I${directory}`, `-I${SOURCES}`];
  runTool(directory, "clang-14", [...common, ...coreFlags, "-c", "core.wasm.c", "-o", "core.wasm.o"]);
  const cxxFlags = ["-std=c++17", "-Wall", "-Wextra", "-Wno-sign-compare", ...harnessFlags];
  const own = harness === undefined ? UNITS : [CORE_UNIT];
  const units = own.map((name) => join(SOURCES, `${name}.cc`));
  runTool(directory, "clang++-14", [...common, ...cxxFlags, "-c", ...units]);
  const objects = UNITS.map((name) => join(own.includes(name) ? directory : harness!, `${name}.o`));
  runTool(directory, "clang++-14", [...linkFlags, "core.wasm.o", ...objects, "-o", "fuzzer"]);
}
