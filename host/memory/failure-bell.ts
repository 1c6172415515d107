// A worker's word in linear memory by which it says that the engine has failed operations: once, until somebody has looked.
import { WORKER_TOLD } from "../../assembly/abi/worker.ts";
import { workerPtrOf } from "./worker-part.ts";

export class FailureBell {
  private readonly told: Int32Array;

  constructor(memory: WebAssembly.Memory, worker: number) {
    this.told = new Int32Array(memory.buffer, workerPtrOf(worker) + WORKER_TOLD, 1);
  }

  /** By the worker. True if the main thread must be told. */
  ring(): boolean {
    return Atomics.exchange(this.told, 0, 1) === 0;
  }

  /** By the main thread, before it looks: what is counted from now on is told anew. */
  reset(): void {
    Atomics.store(this.told, 0, 0);
  }
}
