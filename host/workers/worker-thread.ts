// A data-plane thread: a worker with an engine for files. Entry of worker.mjs.
import { workerData } from "node:worker_threads";
import { WORKER_STRIDE, WORKERS_PTR } from "../../assembly/abi/layout.ts";
import { instantiateCore } from "../core/core.ts";
import type { Engine } from "../engines/engine.ts";
import { ThreadsEngine } from "../engines/threads.ts";
import { UringEngine } from "../engines/uring.ts";
import { startPool } from "../linux/file-io.ts";
import type { Report, WorkerSetup } from "./commands.ts";
import { Worker } from "./worker.ts";

function openEngine(setup: WorkerSetup): { engine: Engine; whyNotUring?: string } {
  const workerPtr = WORKERS_PTR + setup.index * WORKER_STRIDE;
  const openThreads = (): ThreadsEngine => new ThreadsEngine(setup.memory, workerPtr, setup.imageFds);
  if (setup.engine === "threads") return { engine: openThreads() };
  try {
    return { engine: UringEngine.open(setup.memory, setup.memoryHostAddress, workerPtr, openThreads) };
  } catch (error) {
    if (setup.engine === "io_uring") throw error;
    return { engine: openThreads(), whyNotUring: (error as Error).message };
  }
}

// Now, while there can be: the engine to fall back to needs the pool when no more threads can be made.
await startPool();
const setup = workerData as WorkerSetup;
const core = await instantiateCore(setup.core, setup.memory);
const { engine, whyNotUring } = openEngine(setup);
const worker = new Worker(setup, core, engine);
setup.port.postMessage({ type: "ready", engine: engine.name, whyNotUring } satisfies Report);
await worker.run();
