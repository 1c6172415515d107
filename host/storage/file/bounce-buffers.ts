// Memory that O_DIRECT takes, as a file too, so that an engine copies between it and a guest by reading and writing.
import { BOUNCE_TOTAL, WORKER_BOUNCE } from "../../../assembly/abi/worker.ts";
import { close } from "../../linux/libc.ts";
import { allocateAt, mapSharedAt } from "../../linux/mapping.ts";
import { createMemfd } from "../../linux/memfd.ts";
import { neverWaitsIfInMemory } from "../../linux/status-flags.ts";
import type { LinearMemory } from "../../memory/linear-memory.ts";
import { workerPtrOf } from "../../memory/worker-part.ts";

export class BounceBuffers {
  private constructor(
    private readonly memory: LinearMemory,
    private readonly workerCount: number,
    readonly fd: number,
  ) {}

  /** Before any worker starts. */
  static open(memory: LinearMemory, workerCount: number): BounceBuffers {
    const fd = createMemfd("vringd-bounce", workerCount * BOUNCE_TOTAL);
    const buffers = new BounceBuffers(memory, workerCount, fd);
    try {
      neverWaitsIfInMemory(fd);
      for (let worker = 0; worker < workerCount; worker++) {
        const offset = BigInt(worker * BOUNCE_TOTAL);
        mapSharedAt(buffers.addressOf(worker), fd, offset, BOUNCE_TOTAL);
      }
    } catch (error) {
      close(fd);
      throw error;
    }
    return buffers;
  }

  /** After the last worker has ended. */
  close(): void {
    for (let worker = 0; worker < this.workerCount; worker++) {
      allocateAt(this.addressOf(worker), BOUNCE_TOTAL);
    }
    close(this.fd);
  }

  private addressOf(worker: number): number {
    return this.memory.hostAddress + workerPtrOf(worker) + WORKER_BOUNCE;
  }
}
