// The io_uring engine: the kernel takes SQEs from the core's own memory and puts CQEs there.

import { REQUESTS_MAX, WORKER_RINGS, WORKER_SQES } from "../../assembly/abi/worker.ts";
import { CQE_RES, CQE_SIZE, CQE_USER_DATA, SQE_SIZE } from "../../assembly/spec/io-uring.ts";
import type { Core } from "../core/core.ts";
import { EAGAIN, EBUSY, EINTR, EINVAL, ENOMEM, ETIME } from "../linux/errno.ts";
import {
  cancelEverything,
  enterRing,
  enterRingBriefly,
  type RingOffsets,
  setupRing,
} from "../linux/io-uring.ts";
import { close as closeFd, SystemError } from "../linux/libc.ts";
import { BRIEF_WAIT_US, type Engine, type Patience, waitUsOf } from "./engine.ts";
import type { SoftwareEngine } from "./software.ts";

/** Before about Linux 6.10 ring memory had to be physically contiguous: one page holds the smaller ring. */
const RING_SIZES = [REQUESTS_MAX, 64];

/** How long what is in flight may take to end before another engine takes over. */
const HAND_OVER_MS = 1000;

export class UringEngine implements Engine {
  readonly name = "io_uring";
  readonly canPoll = true;
  readonly requestCount: number;

  private constructor(
    private readonly memory: WebAssembly.Memory,
    private readonly workerPtr: number,
    private readonly openOther: (() => SoftwareEngine) | undefined,
    private readonly fd: number,
    private readonly offsets: RingOffsets,
  ) {
    // Half: kicks, calls and cancellations complete in the same queue.
    this.requestCount = offsets.cqEntries / 2;
  }

  /**
   * Only the calling thread may use it. Throws SystemError where the kernel has no such ring. `openOther` opens the engine
   * to fall back to, if there is one.
   */
  static open(
    memory: WebAssembly.Memory,
    memoryHostAddress: number,
    workerPtr: number,
    openOther?: () => SoftwareEngine,
  ): UringEngine {
    const worker = memoryHostAddress + workerPtr;
    let failure: unknown;
    for (const size of RING_SIZES) {
      try {
        const { fd, offsets } = setupRing(size, worker + WORKER_SQES, worker + WORKER_RINGS);
        return new UringEngine(memory, workerPtr, openOther, fd, offsets);
      } catch (error) {
        failure = error;
        const isTooLarge = error instanceof SystemError && (error.errno === EINVAL || error.errno === ENOMEM);
        if (!isTooLarge) break;
      }
    }
    throw failure;
  }

  attach(core: Core): void {
    const rings = this.workerPtr + WORKER_RINGS;
    const { sqHead, sqTail, sqFlags, sqEntries, cqHead, cqTail, cqEntries, cqes } = this.offsets;
    core.attachRings(
      rings + sqHead,
      rings + sqTail,
      rings + sqFlags,
      this.workerPtr + WORKER_SQES,
      sqEntries,
      rings + cqHead,
      rings + cqTail,
      rings + cqes,
      cqEntries,
    );
  }

  enter(count: number, patience: Patience): undefined {
    const waitUs = waitUsOf(patience);
    const result =
      waitUs === undefined
        ? enterRing(this.fd, count, patience === "wait")
        : enterRingBriefly(this.fd, count, waitUs);
    // What was not taken stays in the ring for the next turn: a signal, completions to reap first, no time left.
    if (result >= 0 || [EINTR, EAGAIN, EBUSY, ETIME].includes(-result)) return;
    throw new SystemError("io_uring_enter", -result);
  }

  /**
   * The kernel does what must wait in threads of its own, which count as the user's processes: at their limit, or a
   * cgroup's, nothing of that is possible any more. Threads that the process has already go on with it.
   */
  fallBack(core: Core): SoftwareEngine | undefined {
    if (this.openOther === undefined) return undefined;
    const words = new Int32Array(this.memory.buffer, this.workerPtr + WORKER_RINGS);
    const at = (offset: number) => Atomics.load(words, offset / 4);
    const { sqHead, sqTail, cqHead, cqTail } = this.offsets;
    const isBusy = () => ((at(sqHead) - at(cqTail)) | 0) !== 0;
    cancelEverything(this.fd, HAND_OVER_MS);
    for (const end = performance.now() + HAND_OVER_MS; isBusy() && performance.now() < end; ) {
      enterRingBriefly(this.fd, 0, BRIEF_WAIT_US);
    }
    if (isBusy()) return undefined;
    const entries = this.unsubmitted(at(sqHead), at(sqTail));
    const completions = this.unseen(at(cqHead), at(cqTail));
    this.close();
    const other = this.openOther();
    other.adopt(core, entries, completions);
    return other;
  }

  /** Entries that the core has published and the kernel has not taken. */
  private unsubmitted(head: number, tail: number): Uint8Array[] {
    const sqes = this.workerPtr + WORKER_SQES;
    return Array.from({ length: (tail - head) | 0 }, (_, i) => {
      const slot = ((head + i) >>> 0) % this.offsets.sqEntries;
      return new Uint8Array(this.memory.buffer, sqes + slot * SQE_SIZE, SQE_SIZE).slice();
    });
  }

  /** Completions that the core has not seen: user_data and result. */
  private unseen(head: number, tail: number): [userData: bigint, result: number][] {
    const view = new DataView(this.memory.buffer);
    const cqes = this.workerPtr + WORKER_RINGS + this.offsets.cqes;
    return Array.from({ length: (tail - head) | 0 }, (_, i) => {
      const cqe = cqes + (((head + i) >>> 0) % this.offsets.cqEntries) * CQE_SIZE;
      return [view.getBigUint64(cqe + CQE_USER_DATA, true), view.getInt32(cqe + CQE_RES, true)];
    });
  }

  close(): void {
    closeFd(this.fd);
  }
}
