// A line of the host's as a guest uses it: direction, value and interrupt. What one guest has made of it is undone before the next one's
// turn, also where the host hung just then.
import { EDGES_OF, Interrupt, type Listener, type Trigger } from "./interrupt.ts";
import type { Pin } from "./pin.ts";

export type Direction = "none" | "in" | "out";

/** One piece of work after the other, each answered in time. */
export interface Turns {
  take<T>(work: () => Promise<T>): Promise<T>;
}

/** What is asked of it is done in the order in which it comes; it rejects as turns and pins do. */
export class Line<L extends Listener> {
  private direction: Direction = "none";
  private value = 0;
  /** Whether a guest may have told another process what is not known here. */
  private isInherited = false;
  private readonly interrupt: Interrupt<L>;
  /** Another one after each reset. */
  private life = 0;

  constructor(
    private readonly pin: Pin,
    private readonly turns: Turns,
  ) {
    const look = (tell: (level: number) => void) => this.background(async () => tell(await pin.get()));
    this.interrupt = new Interrupt(look);
    pin.onEdge = (isRising) => this.interrupt.sense(isRising);
  }

  /** For people, in words. Empty: there is nothing to say. */
  get shown(): string {
    const { trigger, isMasked } = this.interrupt;
    const parts = [
      this.direction === "none" ? undefined : this.direction,
      this.direction === "out" ? this.value : this.pin.level,
      trigger === "none" ? undefined : `(${trigger}, ${isMasked ? "masked" : "armed"})`,
    ];
    return parts.filter((part) => part !== undefined).join(" ");
  }

  /** As the guest has set it, or else as the host has it. */
  getDirection(): Promise<"in" | "out"> {
    return this.inTurn(async () => {
      if (this.direction !== "none") return this.direction;
      return (await this.pin.isOutput()) ? "out" : "in";
    });
  }

  /** False for an output whose interrupt is enabled. */
  setDirection(direction: Direction): Promise<boolean> {
    return this.inTurn(async () => {
      if (direction === "out" && this.interrupt.trigger !== "none") return false;
      await this.turnTo(direction);
      return true;
    });
  }

  getValue(): Promise<number> {
    return this.inTurn(() => this.pin.get());
  }

  /** It counts as soon as the line is an output. */
  setValue(value: number): Promise<void> {
    return this.inTurn(async () => {
      this.value = value;
      if (this.direction === "out") await this.pin.set(value);
      // A guest may have made it one before.
      else if (this.isInherited && (await this.pin.isOutput())) await this.turnTo("out");
    });
  }

  /**
   * False for an output. An interrupt that the host can't have is enabled all the same: Linux unmasks it then, and does so again as
   * often as it hears that it is not enabled.
   */
  setTrigger(trigger: Trigger): Promise<boolean> {
    return this.inTurn(async () => {
      if (trigger !== "none" && this.direction === "out") return false;
      this.isInherited = false;
      // First, since edges may come before the host has answered.
      this.interrupt.set(trigger);
      if (this.direction === "none" && trigger === "none") await this.pin.release();
      else if (this.direction !== "out") await this.pin.input(EDGES_OF[trigger]);
      return true;
    });
  }

  /** False: the interrupt is not enabled, or is not masked. */
  unmask(listener: L): boolean {
    const { interrupt } = this;
    if (this.isInherited && interrupt.trigger === "none") {
      // It was enabled, for edges that another process knew of.
      interrupt.set("both");
      this.background(() => this.pin.input("both"));
    }
    if (!interrupt.isMasked || interrupt.trigger === "none") return false;
    interrupt.unmask(listener);
    return true;
  }

  /** Edges are latched from here on. Whoever listened is told nothing. */
  mask(): L | undefined {
    return this.interrupt.mask();
  }

  /** A guest that was served by another process goes on. */
  inherit(): void {
    this.isInherited = this.direction === "none" && this.interrupt.trigger === "none";
  }

  /** Another guest comes. Resolves when the host has its line back, or does not answer. */
  async reset(): Promise<void> {
    this.life++;
    this.forget();
    await this.inTurn(() => this.pin.release()).catch(() => {});
  }

  private async turnTo(direction: Direction): Promise<void> {
    const before = this.direction;
    this.isInherited = false;
    if (direction === "none") this.forget();
    this.direction = direction;
    try {
      if (direction === "none") await this.pin.release();
      else if (direction === "out") await this.pin.output(this.value);
      else if (before !== "in") await this.pin.input(EDGES_OF[this.interrupt.trigger]);
    } catch (error) {
      // Unless there was a reset meanwhile.
      if (this.direction === direction) this.direction = before;
      throw error;
    }
  }

  private forget(): void {
    this.direction = "none";
    this.value = 0;
    this.isInherited = false;
    this.interrupt.set("none");
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.turns.take(async () => {
      const { life } = this;
      try {
        return await work();
      } finally {
        if (life !== this.life) await this.pin.release();
      }
    });
  }

  /** What nobody waits for: if it fails, nothing comes of it. */
  private background(work: () => Promise<void>): void {
    this.inTurn(work).catch(() => {});
  }
}
