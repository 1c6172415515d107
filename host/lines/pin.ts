// The host's side of a line: a chip's, or one that is only kept in mind here. One call at a time.
import type { GpioLine } from "../linux/gpio-chip.ts";

export type Pin = Pick<GpioLine, keyof GpioLine> & {
  /** Where it can be told without asking. */
  readonly level?: number;
};

/** Its level is what the guest drives, or else what the operator gives. */
export class EmulatedPin implements Pin {
  onEdge: Pin["onEdge"] = () => {};
  private given = 0;
  private driven: number | undefined;

  constructor(readonly name: string) {}

  get level(): number {
    return this.driven ?? this.given;
  }

  /** Throws RangeError while the guest drives it. */
  give(level: number): void {
    if (this.driven !== undefined) throw new RangeError(`${this.name} is an output: the guest sets it`);
    const isChange = level !== this.given;
    this.given = level;
    if (isChange) this.onEdge(level === 1);
  }

  async isOutput(): Promise<boolean> {
    return this.driven !== undefined;
  }

  async input(): Promise<void> {
    this.driven = undefined;
  }

  async output(value: number): Promise<void> {
    this.driven = value;
  }

  async set(value: number): Promise<void> {
    this.driven = value;
  }

  async get(): Promise<number> {
    return this.level;
  }

  async release(): Promise<void> {
    this.driven = undefined;
  }
}
