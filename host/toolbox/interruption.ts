// What would end the program at once, so that it can end in good order.
import { constants } from "node:os";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Listens until it is disposed of. */
export class Interruption implements Disposable {
  private readonly controller = new AbortController();
  private seen: NodeJS.Signals | undefined;
  private readonly note = (signal: NodeJS.Signals) => {
    this.seen ??= signal;
    this.controller.abort();
  };

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.note);
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** As shells have it. Undefined: nothing came. */
  get status(): number | undefined {
    return this.seen && 128 + constants.signals[this.seen];
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.note);
  }
}
