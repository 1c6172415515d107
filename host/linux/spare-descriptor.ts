// A descriptor kept for the moment when none can be had: closed, it makes room for one that ends a wait.
import { closeSync, openSync } from "node:fs";

export class SpareDescriptor {
  private fd = open();

  /**
   * What `use` returns, which has room for one descriptor more and must have closed it again. Undefined if there is none to lend, or
   * it did not help.
   */
  lend<T>(use: () => T): T | undefined {
    if (this.fd === undefined) this.fd = open();
    if (this.fd === undefined) return undefined;
    this.close();
    try {
      return use();
    } catch {
      return undefined;
    } finally {
      this.fd = open();
    }
  }

  close(): void {
    if (this.fd !== undefined) closeSync(this.fd);
    this.fd = undefined;
  }
}

/** Undefined when descriptors have run out already. */
function open(): number | undefined {
  try {
    return openSync("/dev/null", "r");
  } catch {
    return undefined;
  }
}
