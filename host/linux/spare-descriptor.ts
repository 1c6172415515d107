// A descriptor kept for the moment when none can be had: closed, it makes room for one that ends a wait.
import { closeSync, openSync } from "node:fs";

export class SpareDescriptor {
  private fd = open();

  /** Runs `use` with room for one descriptor more, which it must have closed again. False if there is none to lend. */
  lend(use: () => void): boolean {
    if (this.fd === undefined) this.fd = open();
    if (this.fd === undefined) return false;
    this.close();
    try {
      use();
      return true;
    } catch {
      return false;
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
