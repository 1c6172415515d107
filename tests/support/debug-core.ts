// The core's debug build, which asserts what only a fault of the core or of its engine can break.
import { fileURLToPath } from "node:url";
import { compileInstrumentedCore } from "../../host/demo/instrumented-core.ts";

const DEBUG_CORE = fileURLToPath(new URL("../debug/core.wasm", import.meta.url));

/** With a hook before each store. */
export function compileDebugCore(): Promise<WebAssembly.Module> {
  return compileInstrumentedCore(DEBUG_CORE);
}
