// The interrupt of a line: what triggers it, and whom it is told while it is not masked. It knows neither queues nor how anybody is told.
import type { Edges } from "../linux/gpio-chip.ts";

export type Trigger = "none" | "rising" | "falling" | "both" | "high" | "low";

/** What must be watched of a line. */
export const EDGES_OF: Readonly<Record<Trigger, Edges>> = {
  none: "none",
  rising: "rising",
  falling: "falling",
  both: "both",
  high: "rising",
  low: "falling",
};

export interface Listener {
  /** Once, which masks it: an interrupt; or that there will be none. */
  hear(isInterrupt: boolean): void;
}

/** Edges for somebody who is still at the one before. */
const LATCHED_MAX = 1024;

export class Interrupt<L extends Listener> {
  private current: Trigger = "none";
  private latched = 0;
  private listener: L | undefined;

  /** `look`: at the level, which it tells. What can't be told is not. */
  constructor(private readonly look: (tell: (level: number) => void) => void) {}

  get trigger(): Trigger {
    return this.current;
  }

  get isMasked(): boolean {
    return this.listener === undefined;
  }

  /** What was latched was for another one, or for somebody who is gone. */
  set(trigger: Trigger): void {
    this.current = trigger;
    this.latched = 0;
    if (trigger === "none") this.tell(false);
    else this.deliver();
  }

  unmask(listener: L): void {
    this.listener = listener;
    this.deliver();
  }

  /** Who is told nothing any more. */
  mask(): L | undefined {
    const { listener } = this;
    this.listener = undefined;
    return listener;
  }

  /** An edge has come. It is latched while the interrupt is masked, and a level is not. */
  sense(isRising: boolean): void {
    const { current } = this;
    if (current === (isRising ? "high" : "low")) this.tell(true);
    if (current !== "both" && current !== (isRising ? "rising" : "falling")) return;
    this.latched = Math.min(this.latched + 1, LATCHED_MAX);
    this.deliver();
  }

  private deliver(): void {
    if (this.isMasked) return;
    if (this.latched > 0) {
      this.latched--;
      this.tell(true);
    } else if (this.current === "high" || this.current === "low") {
      this.look((level) => this.current === (level === 1 ? "high" : "low") && this.tell(true));
    }
  }

  private tell(isInterrupt: boolean): void {
    this.mask()?.hear(isInterrupt);
  }
}
