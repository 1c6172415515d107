// The core with a hook before each of its stores, and a bound on how long it may run: for the page, which shows each, and for tests that stop it anywhere.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { DEVICE_FLUSHED } from "../../assembly/abi/device-block.ts";
import { DEVICE_PTR } from "../../assembly/abi/memory.ts";

/** Binaryen comes with the compiler of the core. Too large to bundle, so its path is kept from the bundler. */
const BINARYEN = new URL("../../node_modules/binaryen/index.js", import.meta.url).href;

/** For memory that isn't shared: a test has it for itself. */
const CORE = fileURLToPath(new URL("../core.plain.wasm", import.meta.url));

/** Exports that begin so are globals of the core: with linear memory, all that an instance knows. */
export const STATE_PREFIX = "state ";

const HOOK_IMPORTS = `
  (import "hook" "beforeStore" (func $beforeStore (param i32)))
  (import "hook" "outOfFuel" (func $outOfFuel))`;

const BURN_FUEL = `
    (if (i32.eqz (global.get $fuel)) (then (call $outOfFuel)))
    (global.set $fuel (i32.sub (global.get $fuel) (i32.const 1)))`;

/**
 * What instrument-memory calls. A store's address is announced before its value is known, and the value may take stores
 * of its own, so addresses wait in a short stack. Stores to private memory stay within Wasm: they are most of all. So do
 * those to the one word of the device block that the core writes: it dies with the process, too.
 */
const HOOKS = `
  (global $fuel (export "fuel") (mut i32) (i32.const 0))
  (global $privateStart (export "privateStart") (mut i32) (i32.const 0))
  (global $privateLength (export "privateLength") (mut i32) (i32.const 0))
  (global $top (mut i32) (i32.const 0))
  (global $second (mut i32) (i32.const 0))
  (global $third (mut i32) (i32.const 0))
  (func $announce (local $address i32)
    (local.set $address (global.get $top))
    (global.set $top (global.get $second))
    (global.set $second (global.get $third))${BURN_FUEL}
    (if (i32.and
          (i32.ge_u (i32.sub (local.get $address) (global.get $privateStart)) (global.get $privateLength))
          (i32.ne (local.get $address) (i32.const ${DEVICE_PTR + DEVICE_FLUSHED})))
      (then (call $beforeStore (local.get $address)))))
  (func $load_ptr (param i32 i32 i32 i32) (result i32)${BURN_FUEL}
    (local.get 3))
  (func $store_ptr (param i32 i32 i32 i32) (result i32)
    (global.set $third (global.get $second))
    (global.set $second (global.get $top))
    (global.set $top (i32.add (local.get 2) (local.get 3)))
    (local.get 3))
  ${["i32", "i64", "f32", "f64"].map(valueHooks).join("")}`;

function valueHooks(type: string): string {
  return `
  (func $load_val_${type} (param i32 ${type}) (result ${type}) (local.get 1))
  (func $store_val_${type} (param i32 ${type}) (result ${type}) (call $announce) (local.get 1))`;
}

/** `core`: another build of it. */
export async function compileInstrumentedCore(core?: string): Promise<WebAssembly.Module> {
  return await WebAssembly.compile(await instrumentCore(core));
}

/** The same, as it would lie in a file: for what runs elsewhere. */
export async function instrumentCore(path = CORE): Promise<Uint8Array<ArrayBuffer>> {
  const { default: binaryen } = (await import(BINARYEN)) as typeof import("binaryen");
  const core = binaryen.readBinary(await readFile(path));
  core.setFeatures(
    binaryen.Features.Atomics | binaryen.Features.BulkMemory | binaryen.Features.MutableGlobals,
  );
  core.runPasses(["instrument-memory"]);
  const instrumented = binaryen.parseText(withHooks(core.emitText()));
  instrumented.setFeatures(binaryen.Features.All);
  const binary = instrumented.emitBinary();
  core.dispose();
  instrumented.dispose();
  return new Uint8Array(binary);
}

/** Puts functions in the place of the imports that instrument-memory made, and exports all that an instance keeps. */
function withHooks(text: string): string {
  const isHookImport = /^ \(import "env" "(load|store)_\w+" .*\n/gm;
  const without = text.replace(isHookImport, "");
  const firstImport = without.indexOf(" (import ");
  const end = without.lastIndexOf(")");
  const globals = [...text.matchAll(/^ \(global (\$\S+) \(mut /gm)].map(([, name]) => name!);
  const exports = globals.map((name) => `\n  (export "${STATE_PREFIX}${name}" (global ${name}))`).join("");
  return `${without.slice(0, firstImport)}${HOOK_IMPORTS}\n${without.slice(firstImport, end)}${HOOKS}${exports})`;
}
