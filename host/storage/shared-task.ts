// Work that many wait for and that needs to be done but once for all who asked before it began.

export class SharedTask {
  private running: Promise<void> = Promise.resolve();
  private isRunning = false;
  private next: Promise<void> | undefined;

  /** `startsAtOnce`: where nothing runs it begins within the call, and not for all who ask in the same turn. */
  constructor(
    private readonly task: () => Promise<void>,
    private readonly startsAtOnce = false,
  ) {}

  /** Resolves, or fails, with the first run of the task that begins after this was called. No two run at a time. */
  run(): Promise<void> {
    if (this.startsAtOnce && !this.isRunning && this.next === undefined) return this.start();
    this.next ??= this.running
      .catch(() => {})
      .then(() => {
        this.next = undefined;
        return this.start();
      });
    return this.next;
  }

  private start(): Promise<void> {
    this.isRunning = true;
    this.running = this.task().finally(() => {
      this.isRunning = false;
    });
    return this.running;
  }
}
