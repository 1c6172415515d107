// A disk that is an object, whose store several processes reach, and which knows no locks: whoever moves a guest sees to it that one at a
// time writes.
import type { BlockDisk } from "../engines/block-disk.ts";
import type { Handover } from "./storage.ts";

export class ObjectHandover implements Handover {
  readonly hasLock = false;
  /** Nobody is waited for. */
  readonly patienceMs = 0;
  /** To ask for it would take one more connection, while the former process still has its own. */
  readonly mayChangeSize = false;

  constructor(
    private readonly object: BlockDisk,
    readonly isOurs: boolean,
    /** It is this process's now. */
    private readonly taken: () => void,
  ) {}

  async tryTake(): Promise<boolean> {
    this.taken();
    return true;
  }

  async describeHolder(): Promise<string> {
    return "held by another";
  }

  /** Copies that would be written again after a loss of the server go, too: others write there from here on. */
  async flush(): Promise<void> {
    await this.object.flush?.();
  }

  async letGo(): Promise<void> {}
}
