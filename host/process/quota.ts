// So much in a period of time, and no more: whoever has had it waits for the next one.
import { setTimeout as sleep } from "node:timers/promises";

export class Quota {
  private left = 0;
  private periodEnd = 0;

  constructor(
    private readonly amount: number,
    private readonly periodMs: number,
  ) {}

  /** How much there may be now, once that is more than nothing. Periods in which nobody asks don't add up. */
  async next(stopping: AbortSignal): Promise<number> {
    for (;;) {
      const now = performance.now();
      if (now >= this.periodEnd) {
        this.left = this.amount;
        const next = this.periodEnd + this.periodMs;
        // Whoever has been away for longer begins a period now.
        this.periodEnd = next > now ? next : now + this.periodMs;
      }
      if (this.left > 0) return this.left;
      await sleep(this.periodEnd - now, undefined, { signal: stopping });
    }
  }

  spend(amount: number): void {
    this.left -= amount;
  }
}
