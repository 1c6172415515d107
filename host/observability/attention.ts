// Whether requests are timed: only while somebody looks, since the clock has its price.
import type { Activity } from "../backend/activity.ts";

/** Longer than the interval between two looks of any monitoring system that keeps its series alive (Prometheus: 5 min). */
const LOOK_MS = 5 * 60_000;

export class Attention {
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly activity: Pick<Activity, "isTimed">) {}

  /** Somebody looks: requests are timed from now on, and for 5 minutes after the last look. */
  look(): void {
    this.activity.isTimed = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.end(), LOOK_MS).unref();
  }

  end(): void {
    clearTimeout(this.timer);
    this.activity.isTimed = false;
  }
}
