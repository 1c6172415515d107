// The io_uring engine: the kernel takes SQEs from the core's own memory and puts CQEs there.
import { REQUESTS_MAX, WORKER_RINGS, WORKER_SQES } from "../../assembly/spec/layout.ts";
import { enterRing, enterRingBriefly, type RingOffsets, setupRing } from "../linux/io-uring.ts";
import { close as closeFd, SystemError } from "../linux/libc.ts";
import type { Core } from "./core.ts";
import { BRIEF_WAIT_US, type Engine, type Patience } from "./engine.ts";

/** Before about Linux 6.10 ring memory had to be physically contiguous: one page holds the smaller ring. */
const RING_SIZES = [REQUESTS_MAX, 64];

const EINTR = 4;
const EAGAIN = 11;
const EBUSY = 16;
const ENOMEM = 12;
const EINVAL = 22;
const ETIME = 62;

export class UringEngine implements Engine {
  readonly name = "io_uring";
  readonly canPoll = true;
  readonly requestCount: number;

  private constructor(
    private readonly workerPtr: number,
    private readonly fd: number,
    private readonly offsets: RingOffsets,
  ) {
    // Half: kicks, calls and cancellations complete in the same queue.
    this.requestCount = offsets.cqEntries / 2;
  }

  /** Only the calling thread may use it. Throws SystemError where the kernel has no such ring. */
  static open(memoryHostAddress: number, workerPtr: number): UringEngine {
    const worker = memoryHostAddress + workerPtr;
    let failure: unknown;
    for (const size of RING_SIZES) {
      try {
        const { fd, offsets } = setupRing(size, worker + WORKER_SQES, worker + WORKER_RINGS);
        return new UringEngine(workerPtr, fd, offsets);
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
    const result =
      patience === "wait-briefly"
        ? enterRingBriefly(this.fd, count, BRIEF_WAIT_US)
        : enterRing(this.fd, count, patience === "wait");
    // What was not taken stays in the ring for the next turn: a signal, completions to reap first, no time left.
    if (result >= 0 || [EINTR, EAGAIN, EBUSY, ETIME].includes(-result)) return;
    throw new SystemError("io_uring_enter", -result);
  }

  close(): void {
    closeFd(this.fd);
  }
}
