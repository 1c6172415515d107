// Work that many wait for and that needs to be done but once for all who asked before it began.

export class SharedTask {
  private running: Promise<void> = Promise.resolve();
  private next: Promise<void> | undefined;

  constructor(private readonly task: () => Promise<void>) {}

  /** Resolves, or fails, with the first run of the task that begins after this call. No two run at a time. */
  run(): Promise<void> {
    this.next ??= this.running
      .catch(() => {})
      .then(() => {
        this.next = undefined;
        this.running = this.task();
        return this.running;
      });
    return this.next;
  }
}
