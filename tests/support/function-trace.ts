// The core as its source has it, function by function, with a hook at the beginning of each: what a run of it enters can be told.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { compileInstrumentedCore } from "../../host/demo/instrumented-core.ts";

/** Binaryen comes with the compiler of the core. Too large to bundle, so its path is kept from the bundler. */
const BINARYEN = new URL("../../node_modules/binaryen/index.js", import.meta.url).href;

const ASC = resolve("node_modules/assemblyscript/bin/asc.js");

/** Without optimisation, which makes of many functions one. */
const OPTIONS = ["--target", "plain", "--optimizeLevel", "0", "--debug"];

export interface FunctionTrace {
  module: WebAssembly.Module;
  /** By what hook.enter is called with: the path of a file below assembly/, without its ending, and the function in it. */
  functions: readonly (readonly [file: string, name: string])[];
}

export async function compileWithTrace(): Promise<FunctionTrace> {
  const directory = mkdtempSync(join(tmpdir(), "function-trace-"));
  try {
    const path = join(directory, "core.wasm");
    execFileSync(process.execPath, [ASC, "assembly/index.ts", ...OPTIONS, "-o", path]);
    const { binary, names } = await withHooks(readFileSync(path));
    writeFileSync(path, binary);
    return { module: await compileInstrumentedCore(path), functions: names.map(split) };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** "assembly/io/uring/pushSqe", "assembly/virtqueue/state/Virtqueue#get:isPacked". */
function split(name: string): [file: string, name: string] {
  const [, file, own] = /^assembly\/(.+)\/([^/]+)$/.exec(name)!;
  return [file!, own!];
}

async function withHooks(core: Uint8Array): Promise<{ binary: Uint8Array; names: string[] }> {
  const { default: binaryen } = (await import(BINARYEN)) as typeof import("binaryen");
  // Keeps the names of functions.
  binaryen.setDebugInfo(true);
  const module = binaryen.readBinary(core);
  module.setFeatures(binaryen.Features.All);
  // An empty table, where nothing was optimised.
  module.runPasses(["remove-unused-module-elements"]);
  module.addFunctionImport("enter", "hook", "enter", binaryen.i32, binaryen.none);
  const functions = Array.from({ length: module.getNumFunctions() }, (_, i) =>
    binaryen.getFunctionInfo(module.getFunctionByIndex(i)),
  ).filter(({ name }) => name.startsWith("assembly/"));
  for (const [id, { name, params, results, vars, body }] of functions.entries()) {
    const call = module.call("enter", [module.i32.const(id)], binaryen.none);
    module.removeFunction(name);
    module.addFunction(name, params, results, vars, module.block(null, [call, body], results));
  }
  const binary = module.emitBinary();
  module.dispose();
  return { binary, names: functions.map(({ name }) => name) };
}
