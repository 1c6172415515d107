// The core: one instance a worker, all over the same memory.
import { instantiate } from "../../build/core.js";
import { readOwnFile } from "../process/own-files.ts";

/** The core's exports, as the compiler describes them. */
export type Core = Awaited<ReturnType<typeof instantiate>>;

/** The compiled core, to be shared with the workers. */
export async function compileCore(): Promise<WebAssembly.Module> {
  return WebAssembly.compile(await readOwnFile("core.wasm"));
}

export function instantiateCore(module: WebAssembly.Module, memory: WebAssembly.Memory): Promise<Core> {
  return instantiate(module, { env: { memory } });
}
