// Notices that a cluster does not answer, and that it does again: requests wait meanwhile, however long that takes.
import type { RbdTraffic } from "../../engines/rbd.ts";
import type { Log } from "../../process/log.ts";

/** Ticks of a timer, so that a time in which we were stopped ourselves counts as one. */
const TICK_MS = 1000;
const SILENT_TICKS = 10;

export class TrafficWatch {
  private readonly timer: NodeJS.Timeout;
  private completed = 0;
  private ticks = 0;

  constructor(
    private readonly traffic: RbdTraffic,
    private readonly file: string,
    private readonly log: Log,
  ) {
    this.timer = setInterval(() => this.tick(), TICK_MS).unref();
  }

  /** For how long requests have waited while none was answered. */
  get silentSeconds(): number {
    return (this.ticks * TICK_MS) / 1000;
  }

  end(): void {
    clearInterval(this.timer);
  }

  private tick(): void {
    const { inFlight, completed } = this.traffic;
    if (inFlight > 0 && completed === this.completed) {
      if (++this.ticks === SILENT_TICKS)
        this.log.warn(
          { file: this.file, requests: inFlight },
          "the Ceph cluster does not answer; requests wait for it",
        );
      return;
    }
    if (this.ticks >= SILENT_TICKS)
      this.log.info({ file: this.file, afterSeconds: this.silentSeconds }, "the Ceph cluster answers again");
    this.ticks = 0;
    this.completed = completed;
  }
}
