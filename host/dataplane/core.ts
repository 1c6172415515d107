// The core: one instance a worker, all over the same memory.
import { readFile } from "node:fs/promises";
import { instantiate } from "../../build/core.js";

/** The core's exports, as the compiler describes them. */
export type Core = Awaited<ReturnType<typeof instantiate>>;

/** The compiled core, to be shared with the workers. It lies beside the bundle. */
export async function compileCore(): Promise<WebAssembly.Module> {
  return WebAssembly.compile(await readFile(new URL("core.wasm", import.meta.url)));
}

export function instantiateCore(module: WebAssembly.Module, memory: WebAssembly.Memory): Promise<Core> {
  return instantiate(module, { env: { memory } });
}
