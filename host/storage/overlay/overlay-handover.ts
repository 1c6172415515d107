// An overlay that goes from one process to another: its file's lock, and the map, which the former process may have changed.
import type { Handover } from "../storage.ts";

/** What of the disk follows its file. */
export interface HandedOver {
  flush(): Promise<void>;
  /** Takes what the file says of itself. */
  reload(): Promise<void>;
}

export class OverlayHandover implements Handover {
  /** An overlay is as large as its base. */
  readonly mayChangeSize = false;

  constructor(
    private readonly file: Handover,
    private readonly disk: HandedOver,
  ) {}

  get isOurs(): boolean {
    return this.file.isOurs;
  }

  get hasLock(): boolean {
    return this.file.hasLock;
  }

  get patienceMs(): number {
    return this.file.patienceMs;
  }

  async tryTake(): Promise<boolean> {
    if (!(await this.file.tryTake())) return false;
    try {
      await this.disk.reload();
      return true;
    } catch (error) {
      await this.file.letGo();
      throw error;
    }
  }

  describeHolder(): Promise<string> {
    return this.file.describeHolder();
  }

  /** With it goes the durable map, which is all that counts under another kernel. */
  flush(): Promise<void> {
    return this.disk.flush();
  }

  letGo(): Promise<void> {
    return this.file.letGo();
  }
}
