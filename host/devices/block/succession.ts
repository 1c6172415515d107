// How a disk goes on in the next process: a file by its open descriptors, whose lock never lapses; what is no file is opened anew, and
// handed over as between two hosts.
import type { Inheritance } from "../../storage/storage.ts";
import { NotActivated, type Succession } from "../device.ts";
import type { DiskActivation } from "./activation.ts";
import type { DiskBackup } from "./backup.ts";
import type { CacheMode, CacheState } from "./cache-mode.ts";
import type { LimitValues } from "./limits.ts";

interface DiskState {
  readonly limits: LimitValues;
  readonly cache: CacheState;
  readonly byteLength: bigint;
  /** Of limits: until when what was done is paid for. */
  readonly paidUntil: readonly bigint[];
  readonly haveFlushesFailed: boolean;
}

/** What of the disk goes along. */
export interface DiskParts {
  limits: LimitValues;
  byteLength: bigint;
  paidUntil: readonly bigint[];
  readonly haveFlushesFailed: boolean;
  failFlushes(): void;
  leave(): Promise<void>;
}

export class DiskSuccession implements Succession {
  constructor(
    private readonly inheritance: Inheritance,
    private readonly activation: DiskActivation | undefined,
    private readonly cache: CacheMode,
    private readonly parts: DiskParts,
    private readonly name: string,
    private readonly backup: Pick<DiskBackup, "isRunning">,
  ) {}

  get obstacle(): string | undefined {
    const { inheritance, activation, name } = this;
    if (inheritance.kind === "none") return `${name} ${inheritance.why}`;
    if (this.backup.isRunning) return `a backup of ${name} is being made, which only this process can end`;
    if (activation?.isActive ?? true) return undefined;
    return `${name} is not this process's now: its guest has been moved away, or has not come yet`;
  }

  offer(): unknown {
    return this.inheritance.kind === "descriptors" ? this.inheritance.offer() : undefined;
  }

  async give(): Promise<DiskState> {
    const { limits, byteLength, paidUntil, haveFlushesFailed } = this.parts;
    if (this.isOpenedAnew) {
      await this.activation!.inactivate();
      if (this.activation!.isActive)
        throw new RangeError(`${this.name} could not be flushed, and is not let go`);
    }
    return { limits, cache: this.cache.save(), byteLength, paidUntil, haveFlushesFailed };
  }

  async takeBack(): Promise<void> {
    if (this.isOpenedAnew) await this.activation!.untilActive(new AbortController().signal);
  }

  leave(): Promise<void> {
    return this.parts.leave();
  }

  async take(given: unknown): Promise<void> {
    const { limits, cache, byteLength, paidUntil, haveFlushesFailed } = given as DiskState;
    if (this.isOpenedAnew && !(await this.activation!.activate()))
      throw new NotActivated(`${this.name} could not be taken over: another process has it`);
    this.parts.byteLength = byteLength;
    this.parts.limits = limits;
    this.parts.paidUntil = paidUntil;
    this.cache.restore(cache);
    if (haveFlushesFailed) this.parts.failFlushes();
  }

  private get isOpenedAnew(): boolean {
    return this.inheritance.kind === "anew" && this.activation !== undefined;
  }
}
