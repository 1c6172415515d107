// Which process has the disk, of two between which its guest moves: it is taken before the first ring starts, and let go when a
// migration's source has stopped its rings.
import { setTimeout as sleep } from "node:timers/promises";
import { reasonOf, StartError } from "../../errors.ts";
import type { Log } from "../../process/log.ts";
import { Turns } from "../../process/turns.ts";
import type { Handover } from "../../storage/storage.ts";
import { type Activation, NotActivated } from "../device.ts";

/** "none": nothing keeps others away. */
export type LockState = "held" | "released" | "waits" | "none";

/** What of the disk must follow. */
export interface ActivationTarget {
  /** Another may have changed the disk: it is measured. Throws RangeError, whose message is a sentence, if it can't be served. */
  taken(): Promise<void>;
  /** Another may take it, and change it: nothing may read it any more. */
  leaving(): Promise<void>;
  /** Whether the driver was told that a flush has failed. */
  haveFlushesFailed(): boolean;
  /** Flushes fail from here on. */
  failFlushes(): void;
}

/** The first time. The I/O of a process that was killed ends soon. */
const RETRY_MS = 1;
const RETRY_MS_MAX = 25;

export class DiskActivation implements Activation {
  private isOurs: boolean;
  private isWaiting = false;
  private readonly turns = new Turns();
  private target: ActivationTarget | undefined;
  private log: Log | undefined;
  /** Changes of the disk that are under way beside its rings. */
  private readonly changes = new Set<Promise<unknown>>();

  constructor(
    private readonly handover: Handover,
    private readonly file: string,
  ) {
    this.isOurs = handover.isOurs;
  }

  attach(target: ActivationTarget, log: Log): void {
    this.target = target;
    this.log = log;
  }

  get isActive(): boolean {
    return this.isOurs;
  }

  get lock(): LockState {
    if (!this.handover.hasLock) return "none";
    if (this.isOurs) return "held";
    return this.isWaiting ? "waits" : "released";
  }

  /** Changes the disk, which is not let go before that has ended. Rejects with a RangeError while another may have it. */
  change<T>(action: () => Promise<T>): Promise<T> {
    if (!this.isOurs) return Promise.reject(new RangeError(`${this.file} ${NOT_OURS}`));
    const changing = action().finally(() => this.changes.delete(changing));
    this.changes.add(changing);
    return changing;
  }

  activate(): Promise<boolean> {
    return this.turns.run(async () => {
      if (!this.isOurs) this.isOurs = await this.take();
      return this.isOurs;
    });
  }

  async untilActive(signal: AbortSignal): Promise<void> {
    const { patienceMs } = this.handover;
    const deadlineMs = performance.now() + patienceMs;
    this.isWaiting = true;
    try {
      for (let retryMs = RETRY_MS; !(await this.activate()); retryMs = Math.min(retryMs * 2, RETRY_MS_MAX)) {
        if (performance.now() >= deadlineMs) throw await this.refusal();
        if (retryMs === RETRY_MS) this.log!.info({ file: this.file, forSeconds: patienceMs / 1000 }, WAITING);
        // Two that try at the same time must not go on colliding.
        await sleep(retryMs * (1 + Math.random()), undefined, { signal });
      }
    } finally {
      this.isWaiting = false;
    }
  }

  inactivate(): Promise<void> {
    if (!this.isOurs) return this.turns.run(() => {});
    // Whoever asks from here on has to take it again.
    this.isOurs = false;
    return this.turns.run(async () => {
      await this.target!.leaving();
      await Promise.allSettled(this.changes);
      this.isOurs = !(await this.isFlushed()) || !(await this.isLetGo());
    });
  }

  /**
   * Once a flush has failed, nobody can tell what of the disk is lost (docs/errors.md); and whoever takes it can't know what the driver
   * was told.
   */
  private async isFlushed(): Promise<boolean> {
    if (this.target!.haveFlushesFailed()) {
      this.log!.error({ file: this.file }, KEPT_BEFORE);
      return false;
    }
    try {
      await this.handover.flush();
      return true;
    } catch (error) {
      this.target!.failFlushes();
      this.log!.error({ file: this.file, reason: reasonOf(error) }, KEPT);
      return false;
    }
  }

  private async isLetGo(): Promise<boolean> {
    try {
      await this.handover.letGo();
      this.log!.info({ file: this.file }, RELEASED);
      return true;
    } catch (error) {
      if (!isOfTheFile(error)) throw error;
      this.log!.error({ file: this.file, reason: reasonOf(error) }, STUCK);
      return false;
    }
  }

  private async take(): Promise<boolean> {
    try {
      if (!(await this.handover.tryTake())) return false;
      await this.measure();
    } catch (error) {
      if (!isOfTheFile(error)) throw error;
      const reason = error instanceof StartError ? error.message : reasonOf(error);
      throw new NotActivated(`${this.file} can't be taken over: ${reason}`);
    }
    this.log!.info({ file: this.file }, TAKEN);
    return true;
  }

  private async measure(): Promise<void> {
    try {
      await this.target!.taken();
    } catch (error) {
      await this.handover.letGo();
      throw error;
    }
  }

  private async refusal(): Promise<NotActivated> {
    const who = await this.handover.describeHolder();
    return new NotActivated(
      `${this.file} is ${who}, which has not let it go; its rings can start when that has ended, or its guest has been moved here`,
    );
  }
}

const NOT_OURS = "is not this process's: its guest has been moved away, or has not come yet";
const WAITING = "waiting for the disk, which another process has";
const TAKEN = "the disk is taken over";
const RELEASED = "the disk is let go";
const KEPT = "the disk could not be flushed, so data may be lost: it is not let go";
const STUCK = "the disk could not be let go";
const KEPT_BEFORE = "a flush of the disk has failed before, so it is not let go";

/** What the kernel says of it, or we do; anything else is a bug. */
function isOfTheFile(error: unknown): boolean {
  if (error instanceof RangeError || error instanceof StartError) return true;
  return typeof (error as NodeJS.ErrnoException).errno === "number";
}
