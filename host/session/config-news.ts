// When the front-end is told that the config space has changed: between its requests, and again once rings run.
//
// It answers with a request on the main channel. QEMU 6 and 7 read the back-end's channel even while they wait for a reply, and
// take that reply for the other's. So nothing is told while a request is served, nor within a burst of them, as at a start. QEMU
// also ignores what it is told while its device is stopped.

/** A front-end that starts its rings leaves less between two requests. */
const QUIET_MS = 20;
/** One that always has something to ask is told all the same. */
const PATIENCE_MS = 1000;

export class ConfigNews {
  private isDue = false;
  private dueSinceMs = 0;
  private lastRequestMs = Number.NEGATIVE_INFINITY;
  private timer: NodeJS.Timeout | undefined;
  /** Since the last change the front-end has not asked for the config space, after it was told. */
  private isUnread = false;

  constructor(
    private readonly tell: () => void,
    private readonly isServing: () => boolean,
  ) {}

  /** The config space has changed. */
  changed(): void {
    this.isUnread = true;
    this.becomeDue();
  }

  /** The front-end has read the config space. */
  read(): void {
    if (!this.isDue) this.isUnread = false;
  }

  /** A ring was started. */
  ringStarted(): void {
    if (this.isUnread) this.becomeDue();
  }

  /** A request of the front-end's has been served, or what was done in place of one. */
  served(): void {
    this.lastRequestMs = performance.now();
    if (this.isDue) this.wait();
  }

  save(): { isDue: boolean; isUnread: boolean } {
    const { isDue, isUnread } = this;
    return { isDue, isUnread };
  }

  restore({ isDue, isUnread }: { readonly isDue: boolean; readonly isUnread: boolean }): void {
    this.isUnread = isUnread;
    if (isDue) this.becomeDue();
  }

  /** Nothing is told any more. */
  end(): void {
    clearTimeout(this.timer);
    this.isDue = false;
  }

  private becomeDue(): void {
    if (!this.isDue) this.dueSinceMs = performance.now();
    this.isDue = true;
    this.wait();
  }

  private wait(): void {
    clearTimeout(this.timer);
    // served() comes here again.
    if (this.isServing()) return;
    const nowMs = performance.now();
    const quietMs = this.lastRequestMs + QUIET_MS - nowMs;
    const patienceMs = this.dueSinceMs + PATIENCE_MS - nowMs;
    const waitMs = Math.min(quietMs, patienceMs);
    if (waitMs > 0) this.timer = setTimeout(() => this.wait(), Math.ceil(waitMs));
    else {
      this.isDue = false;
      this.tell();
    }
  }
}
