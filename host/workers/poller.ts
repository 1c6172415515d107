// How long a worker looks at its rings before it sleeps: as long as that has paid lately, and not at all when idle.
import { NEWS_ENTER, NEWS_NONE } from "../../assembly/abi/step.ts";
import type { Core } from "../core/core.ts";

/** The first try, once a sleep was short enough that looking would have been quicker. */
const FIRST_BUDGET_US = 4;

/** Looks between two looks at the clock, which costs ten times as much. */
const LOOKS = 16;

/**
 * Adapts as QEMU's event loop does: a sleep shorter than `maxUs` doubles the budget, a longer one takes it away. So an
 * idle queue costs one fruitless look, and then nothing.
 */
export class Poller {
  private budgetUs = 0;
  private spentUs = 0;

  /** `maxUs` 0: never. */
  constructor(
    private readonly core: Core,
    private readonly maxUs: number,
  ) {}

  /** Whether to look before the next sleep. */
  get isOn(): boolean {
    return this.budgetUs > 0 && this.spentUs === 0;
  }

  /** Looks until there is news, or the budget is spent. */
  look(): "step" | "enter" | "nothing" {
    const start = performance.now();
    const end = start + this.budgetUs / 1000;
    do {
      for (let i = 0; i < LOOKS; i++) {
        const news = this.core.news();
        if (news !== NEWS_NONE) return news === NEWS_ENTER ? "enter" : "step";
      }
    } while (performance.now() < end);
    this.spentUs = this.budgetUs;
    return "nothing";
  }

  /** Sleeps by calling `sleep`, and learns from how long that took. */
  timed<T>(sleep: () => T): T {
    const start = performance.now();
    const result = sleep();
    const waitedUs = this.spentUs + (performance.now() - start) * 1000;
    this.spentUs = 0;
    if (waitedUs > this.maxUs) this.budgetUs = 0;
    else if (waitedUs > this.budgetUs)
      this.budgetUs = Math.min(this.maxUs, Math.max(FIRST_BUDGET_US, this.budgetUs * 2));
    return result;
  }
}
