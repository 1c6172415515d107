// A data-plane thread: a worker with an engine for files. Entry of worker.mjs.
import { workerData } from "node:worker_threads";
import { instantiateCore } from "../core/core.ts";
import { openFileEngine } from "../engines/files.ts";
import { startPool } from "../linux/file-io.ts";
import { workerPtrOf } from "../memory/worker-part.ts";
import type { Report, ThreadSetup } from "./commands.ts";
import { Worker } from "./worker.ts";

// Now, while there can be: the engine to fall back to needs the pool when no more threads can be made.
await startPool();
const setup = workerData as ThreadSetup;
const core = await instantiateCore(setup.core, setup.memory);
const { engine, whyNotUring } = openFileEngine(setup.recipe, {
  memory: setup.memory,
  memoryHostAddress: setup.memoryHostAddress,
  workerPtr: workerPtrOf(setup.index),
});
const worker = new Worker(setup, core, engine);
setup.port.postMessage({ type: "ready", engine: engine.name, whyNotUring } satisfies Report);
await worker.run();
