// Whether writes are stable when they complete: told to the cores, which look at it with each write, and to the log.
import {
  DEVICE_FLUSHED,
  DEVICE_PTR,
  DEVICE_SIZE,
  DEVICE_WRITE_THROUGH,
  WRITE_THROUGH_OFF,
  WRITE_THROUGH_UNTIL_FLUSH,
} from "../../../assembly/abi/layout.ts";
import type { LinearMemory } from "../../memory/linear-memory.ts";
import type { Log } from "../../process/log.ts";

export class CacheMode {
  private readonly words: Int32Array;
  private runningRings = 0;
  private mode: number = WRITE_THROUGH_OFF;
  private toldMode: number = WRITE_THROUGH_OFF;

  constructor(
    { wasm }: LinearMemory,
    private readonly log: Log,
  ) {
    this.words = new Int32Array(wasm.buffer, DEVICE_PTR, DEVICE_SIZE / 4);
  }

  /** WRITE_THROUGH_*, at any time, also while requests run. Takes effect with the next write. */
  set(mode: number): void {
    this.store(DEVICE_WRITE_THROUGH, mode);
    this.mode = mode;
    this.tell();
  }

  /** WRITE_THROUGH_UNTIL_FLUSH waits for a FLUSH from now on. */
  forgetFlush(): void {
    this.store(DEVICE_FLUSHED, 0);
  }

  ringStarted(): void {
    this.runningRings++;
    this.tell();
  }

  ringStopped(): void {
    this.runningRings--;
  }

  /** Not while nothing can be written: the mode goes back and forth as features are negotiated. */
  private tell(): void {
    const { mode } = this;
    if (this.runningRings === 0 || mode === this.toldMode) return;
    this.toldMode = mode;
    const until = mode === WRITE_THROUGH_UNTIL_FLUSH ? { until: "the driver's first flush" } : {};
    this.log.info(until, mode === WRITE_THROUGH_OFF ? "write-through is off" : "write-through is on");
  }

  private store(field: number, value: number): void {
    Atomics.store(this.words, field / 4, value);
  }
}
