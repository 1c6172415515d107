// Memory that O_DIRECT takes, as a file too, so that an engine copies between it and a guest by reading and writing.
import * as layout from "../../assembly/abi/layout.ts";
import { close } from "../linux/libc.ts";
import { allocateAt, mapSharedAt } from "../linux/mapping.ts";
import { createMemfd } from "../linux/memfd.ts";
import { neverWaitsIfInMemory } from "../linux/status-flags.ts";
import type { LinearMemory } from "../memory/linear-memory.ts";

export class BounceBuffers {
  private constructor(
    private readonly memory: LinearMemory,
    private readonly workerCount: number,
    readonly fd: number,
  ) {}

  /** Before any worker starts. */
  static open(memory: LinearMemory, workerCount: number): BounceBuffers {
    const fd = createMemfd("vringd-bounce", workerCount * layout.BOUNCE_TOTAL);
    const buffers = new BounceBuffers(memory, workerCount, fd);
    try {
      neverWaitsIfInMemory(fd);
      for (let worker = 0; worker < workerCount; worker++) {
        const offset = BigInt(worker * layout.BOUNCE_TOTAL);
        mapSharedAt(buffers.addressOf(worker), fd, offset, layout.BOUNCE_TOTAL);
      }
    } catch (error) {
      close(fd);
      throw error;
    }
    memory.view.setInt32(layout.DEVICE_PTR + layout.DEVICE_BOUNCE_FD, fd, true);
    return buffers;
  }

  /** After the last worker has ended. */
  close(): void {
    for (let worker = 0; worker < this.workerCount; worker++) {
      allocateAt(this.addressOf(worker), layout.BOUNCE_TOTAL);
    }
    this.memory.view.setInt32(layout.DEVICE_PTR + layout.DEVICE_BOUNCE_FD, 0, true);
    close(this.fd);
  }

  private addressOf(worker: number): number {
    const ptr = layout.WORKERS_PTR + worker * layout.WORKER_STRIDE + layout.WORKER_BOUNCE;
    return this.memory.hostAddress + ptr;
  }
}
