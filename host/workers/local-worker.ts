// A data-plane worker in the caller's own thread, for what lives there. To its handle it looks like a thread.
import { EventEmitter } from "node:events";
import { instantiateCore } from "../core/core.ts";
import type { OpenEngine } from "../engines/engine.ts";
import { workerPtrOf } from "../memory/worker-part.ts";
import type { Report, WorkerSetup } from "./commands.ts";
import { Worker } from "./worker.ts";

/** What a handle needs of a thread: "error" once when the worker fails, "exit" once when it has ended. */
export type Thread = Pick<EventEmitter, "on" | "once">;

/** Runs the worker through the event loop. It keeps the process alive until it is told to quit. */
export function startHere(setup: WorkerSetup, openEngine: OpenEngine): Thread {
  const events = new EventEmitter();
  run(setup, openEngine).then(
    () => events.emit("exit", 0),
    (error) => events.emit("error", error),
  );
  return events;
}

async function run(setup: WorkerSetup, openEngine: OpenEngine): Promise<void> {
  const { memory, memoryHostAddress, index } = setup;
  const core = await instantiateCore(setup.core, memory);
  const engine = openEngine({ memory, memoryHostAddress, workerPtr: workerPtrOf(index) });
  const worker = new Worker(setup, core, engine);
  setup.port.postMessage({ type: "ready", engine: engine.name, whyNotUring: undefined } satisfies Report);
  await worker.run();
}
