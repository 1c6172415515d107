// Notices that another client has taken the image, and the cluster takes nothing from us any more, while there is no request that
// would tell.
import type { RbdTraffic } from "../../engines/rbd.ts";
import { ESHUTDOWN } from "../../linux/errno.ts";
import type { RbdImage } from "../../linux/librbd.ts";

/** One small request of the cluster in that time. */
const LOOK_MS = 5000;

export class FenceWatch {
  private readonly timer: NodeJS.Timeout;
  private completed = 0;
  private looking: Promise<void> | undefined;

  constructor(
    private readonly image: Pick<RbdImage, "isLockOwner">,
    private readonly traffic: RbdTraffic,
    /** Only who has it can lose it. */
    private readonly isHeld: () => boolean,
    private readonly fenced: () => void,
  ) {
    this.timer = setInterval(() => this.tick(), LOOK_MS).unref();
  }

  /** Resolves when nothing is asked any more. */
  async end(): Promise<void> {
    clearInterval(this.timer);
    await this.looking;
  }

  private tick(): void {
    const { inFlight, completed, isFenced } = this.traffic;
    const isIdle = inFlight === 0 && completed === this.completed;
    this.completed = completed;
    // Of a cluster that doesn't answer one question is enough: it holds a thread of the pool.
    if (!isIdle || isFenced || !this.isHeld() || this.looking !== undefined) return;
    this.looking = this.look().finally(() => {
      this.looking = undefined;
    });
  }

  private async look(): Promise<void> {
    const answer = await this.image.isLockOwner();
    if (answer === -ESHUTDOWN && this.isHeld()) this.fenced();
  }
}
