// A data-plane worker in the caller's own thread, for a disk that lives there. To its handle it looks like a thread.
import { EventEmitter } from "node:events";
import { WORKER_STRIDE, WORKERS_PTR } from "../../assembly/abi/layout.ts";
import { instantiateCore } from "../core/core.ts";
import type { BlockDisk } from "../engines/block-disk.ts";
import type { OnDiskFailure } from "../engines/disk-failure.ts";
import { DiskEngine } from "../engines/objects.ts";
import type { Report, WorkerSetup } from "./commands.ts";
import { Worker } from "./worker.ts";

/** What a handle needs of a thread: "error" once when the worker fails, "exit" once when it has ended. */
export type Thread = Pick<EventEmitter, "on" | "once">;

/** Runs the worker through the event loop. It keeps the process alive until it is told to quit. */
export function startHere(
  setup: WorkerSetup,
  disk: BlockDisk,
  blockSize: number,
  onDiskFailure: OnDiskFailure,
): Thread {
  const events = new EventEmitter();
  run(setup, disk, blockSize, onDiskFailure).then(
    () => events.emit("exit", 0),
    (error) => events.emit("error", error),
  );
  return events;
}

async function run(setup: WorkerSetup, disk: BlockDisk, blockSize: number, onDiskFailure: OnDiskFailure) {
  const { memory, memoryHostAddress } = setup;
  const workerPtr = WORKERS_PTR + setup.index * WORKER_STRIDE;
  const engine = new DiskEngine({ memory, memoryHostAddress, workerPtr, blockSize }, disk, onDiskFailure);
  const worker = new Worker(setup, await instantiateCore(setup.core, memory), engine);
  setup.port.postMessage({ type: "ready", engine: engine.name, whyNotUring: undefined } satisfies Report);
  await worker.run();
}
