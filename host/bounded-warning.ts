// Warnings whose cause may come again and again: the first at once, then one a minute with what was left out.
import type { Log } from "./log.ts";

const PERIOD_MS = 60_000;

export class BoundedWarning {
  private saidMs = Number.NEGATIVE_INFINITY;
  private leftOut = 0;

  constructor(
    private readonly log: Log,
    private readonly now: () => number = () => performance.now(),
  ) {}

  warn(fields: object, sentence: string): void {
    const nowMs = this.now();
    if (nowMs - this.saidMs < PERIOD_MS) {
      this.leftOut++;
      return;
    }
    this.log.warn(this.leftOut > 0 ? { ...fields, leftOut: this.leftOut } : fields, sentence);
    this.saidMs = nowMs;
    this.leftOut = 0;
  }
}
