// Makes of the core what wasm2c 1.0.32 can translate and a harness can watch: no threads, a hook at every access.
//
// Every access becomes a call of a small function that calls the hook and then does it. Atomic accesses become plain
// ones, which loses nothing on one thread, but still refuse what is misaligned. Each loop burns fuel.
import { readFile } from "node:fs/promises";

/** Binaryen comes with the compiler of the core. Too large to bundle, so its path is kept from the bundler. */
const BINARYEN = new URL("../../node_modules/binaryen/index.js", import.meta.url).href;

const HOOKS = `
  (import "hook" "beforeLoad" (func $beforeLoad (param i32 i32)))
  (import "hook" "beforeStore" (func $beforeStore (param i32 i32)))
  (import "hook" "copy" (func $copy (param i32 i32 i32)))
  (import "hook" "fill" (func $fill (param i32 i32 i32)))
  (import "hook" "burnFuel" (func $burnFuel))`;

/** Type, "atomic.", operation, width in bits, offset. */
const ACCESS = /\((i32|i64)\.(atomic\.)?(load|store)(\d*)(_[su])?( offset=(\d+))?( align=\d+)?(?=\s)/g;

/** Atomic operations that are more than an access, and their offset. */
const UPDATE = /\((i32|i64)\.atomic\.rmw\.(cmpxchg|add|sub|or)( offset=(\d+))?(?=\s)/g;

export async function rewrite(path: string): Promise<Uint8Array> {
  const binaryen = await loadBinaryen();
  // Keeps the names of functions, which coverage is told by.
  binaryen.setDebugInfo(true);
  const core = binaryen.readBinary(await readFile(path));
  core.setFeatures(binaryen.Features.All);
  // An empty table, where nothing was optimised.
  core.runPasses(["remove-unused-module-elements"]);
  const rewritten = binaryen.parseText(rewriteText(core.emitText()));
  rewritten.setFeatures(binaryen.Features.MVP | binaryen.Features.MutableGlobals);
  const binary = rewritten.emitBinary();
  core.dispose();
  rewritten.dispose();
  return binary;
}

/** The same without hooks, for a program that is all in one thread: atomic accesses become plain ones. */
export async function withoutThreads(path: string): Promise<Uint8Array> {
  const binaryen = await loadBinaryen();
  const core = binaryen.readBinary(await readFile(path));
  core.setFeatures(binaryen.Features.All);
  const text = splitUpdates(core.emitText()).replace(/\.atomic\.(load|store)/g, ".$1");
  const rewritten = binaryen.parseText(text);
  rewritten.setFeatures(binaryen.Features.All & ~binaryen.Features.Atomics);
  if (!rewritten.validate()) throw new Error(`${path} needs more than wasm2c has`);
  const binary = rewritten.emitBinary();
  core.dispose();
  rewritten.dispose();
  return binary;
}

async function loadBinaryen(): Promise<typeof import("binaryen").default> {
  const { default: binaryen } = (await import(BINARYEN)) as typeof import("binaryen");
  return binaryen;
}

/** Into a load and a store, which is the same on one thread. */
function splitUpdates(text: string): string {
  const functions = new Map<string, string>();
  const calls = text.replace(UPDATE, (_, type: string, operation: string, __, offset = "0") => {
    const name = `${operation}.${type}.${offset}`;
    functions.set(name, updateFunction(name, type, operation, offset));
    return `(call $${name}`;
  });
  return `${calls.slice(0, calls.lastIndexOf(")"))}${[...functions.values()].join("")})`;
}

function updateFunction(name: string, type: string, operation: string, offset: string): string {
  const expected = operation === "cmpxchg" ? `(param $expected ${type}) ` : "";
  const store = (value: string) => `(${type}.atomic.store offset=${offset} (local.get $ptr) ${value})`;
  const update =
    operation === "cmpxchg"
      ? `(if (${type}.eq (local.get $found) (local.get $expected)) (then ${store("(local.get $value)")}))`
      : store(`(${type}.${operation} (local.get $found) (local.get $value))`);
  return `
  (func $${name} (param $ptr i32) ${expected}(param $value ${type}) (result ${type}) (local $found ${type})
    (local.set $found (${type}.atomic.load offset=${offset} (local.get $ptr)))
    ${update}
    (local.get $found))`;
}

function rewriteText(text: string): string {
  const accesses = new Map<string, string>();
  const body = splitUpdates(text)
    .replace(ACCESS, (...match) => {
      const [name, definition] = accessFunction(match);
      accesses.set(name, definition);
      return `(call $${name}`;
    })
    .replace(/\(memory\.(copy|fill)(?=\s)/g, "(call $$$1")
    .replace(/\(loop (\$\S+)( \(result \w+\))?/g, "$&\n(call $$burnFuel)");
  const firstImport = body.indexOf(" (import ");
  const end = body.lastIndexOf(")");
  const functions = [...accesses.values()].join("");
  return `${body.slice(0, firstImport)}${HOOKS}\n${body.slice(firstImport, end)}${functions})`;
}

function accessFunction(match: string[]): [name: string, definition: string] {
  const [, type, atomic, operation, bits, sign = "", , offset = "0"] = match;
  const byteLength = bits ? Number(bits) / 8 : type === "i64" ? 8 : 4;
  const plain = `${type}.${operation}${bits}${sign}`;
  const name = `${atomic ? "atomic" : "plain"}.${plain}.${offset}`;
  const isLoad = operation === "load";
  const refusal = `(if (i32.and (local.get $at) (i32.const ${byteLength - 1})) (then (unreachable)))`;
  const definition = `
  (func $${name} (param $ptr i32) ${isLoad ? `(result ${type})` : `(param $value ${type})`} (local $at i32)
    (local.set $at (i32.add (local.get $ptr) (i32.const ${offset})))
    ${atomic ? refusal : ""}
    (call $before${isLoad ? "Load" : "Store"} (local.get $at) (i32.const ${byteLength}))
    (${plain} offset=${offset} align=1 (local.get $ptr)${isLoad ? "" : " (local.get $value)"}))`;
  return [name, definition];
}
