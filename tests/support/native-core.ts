// tests/runtimes/native: the core by wasm2c, with an embedder in C that takes its numbers from assembly/ABI.md.
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { withoutThreads } from "../fuzz/rewrite.ts";
import { abiHeader } from "./abi-document.ts";

const SOURCES = resolve("tests/runtimes/native");
/** wasm2c's runtime, as Debian's wabt has it. */
const WASM2C_HEADERS = "/usr/share/wabt/wasm2c";

/** Compiles `program`.c with the embedder. Returns the program's path. */
export async function buildNative(wasm2c: string, compiler: string, program: string): Promise<string> {
  const directory = resolve("build/native");
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "core.wasm"), await withoutThreads(resolve("build/core.plain.wasm")));
  writeFileSync(join(directory, "abi.h"), abiHeader());
  runTool(directory, wasm2c, ["core.wasm", "-n", "core", "-o", "core.c"]);
  const flags = ["-std=gnu11", "-O2", `-I${directory}`, `-I${WASM2C_HEADERS}`];
  const strict = ["-Wall", "-Wextra", "-Werror", "-Wno-sign-compare"];
  const units = ["embedder.c", "guest.c", "chain-stage.c", `${program}.c`].map((name) => join(SOURCES, name));
  runTool(directory, compiler, [...flags, "-c", "core.c"]);
  runTool(directory, compiler, [...flags, ...strict, "-c", ...units]);
  const objects = ["core.o", "embedder.o", "guest.o", "chain-stage.o", `${program}.o`];
  runTool(directory, compiler, [...objects, "-lwasm-rt-impl", "-lm", "-o", program]);
  return join(directory, program);
}

function runTool(directory: string, tool: string, args: readonly string[]): void {
  const { status, stdout, stderr, error } = spawnSync(tool, args, { cwd: directory, encoding: "utf8" });
  if (error || status !== 0)
    throw new Error(`${tool} ${args.join(" ")}:\n${error?.message ?? stdout + stderr}`);
}
