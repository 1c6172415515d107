// The core in Node.
import { readFile } from "node:fs/promises";
import type { Core } from "./embedder.ts";
import { MEMORY_PAGES, play } from "./scenario.ts";

const [path = "build/core.plain.wasm"] = process.argv.slice(2);
const module = new WebAssembly.Module(await readFile(path));
const memory = new WebAssembly.Memory({ initial: MEMORY_PAGES });
const instantiate = () => new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Core;
console.log(play(instantiate, memory).join("\n"));
