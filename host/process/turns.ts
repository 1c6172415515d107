// What must not happen at the same time, one thing after the other.

export class Turns {
  private last: Promise<unknown> = Promise.resolve();
  private waiting = 0;

  /** Whether something goes on, or waits for its turn. */
  get isTaken(): boolean {
    return this.waiting > 0;
  }

  /** Does it once all has ended that was asked for before. */
  async run<T>(task: () => T | Promise<T>): Promise<T> {
    this.waiting++;
    const turn = this.last.then(task);
    this.last = turn.catch(() => {});
    try {
      return await turn;
    } finally {
      this.waiting--;
    }
  }
}
