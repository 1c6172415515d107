// What each runtime's program does with the core, once it has read the file in its own way.
import type { Core } from "./embedder.ts";
import { MEMORY_PAGES, play } from "./scenario.ts";
import { measureSpeed, SPEED_PAGES } from "./speed.ts";

/** `kind`: "shared" for the artefact that wants shared memory, "speed" for requests a second instead of the story. */
export async function run(bytes: Uint8Array | ArrayBuffer, kind: string | undefined): Promise<string> {
  const module = await WebAssembly.compile(bytes as Uint8Array);
  const limits = kind === "shared" ? { maximum: 65536, shared: true } : {};
  const memory = new WebAssembly.Memory({ initial: Math.max(MEMORY_PAGES, SPEED_PAGES), ...limits });
  const instantiate = () => new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Core;
  if (kind === "speed") return `${Math.round(measureSpeed(instantiate(), memory.buffer))}`;
  return play(instantiate, memory).join("\n");
}
