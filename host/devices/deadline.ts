// Work at a resource of the host's that may hang, such as a line or a bus: one piece after the other, and each answered in time, since
// a guest's driver gives up. It knows no queue and no chain.

/** The resource has not answered in time, or has not answered yet what it was asked before. */
export class HostTooSlow extends Error {
  /** Of the class. */
  override readonly name = "HostTooSlow";
}

export class Turns {
  /** Settles when all that was asked so far has been answered. */
  private answered: Promise<unknown> = Promise.resolve();
  private isBusy = false;

  /** How long each piece may take, in milliseconds. */
  constructor(private readonly mostMs: number) {}

  /**
   * Does the work once all that came before has been answered, and answers in the same order. Work that takes too long goes on, and
   * its answer is dropped; until it has ended, other work is refused at once. Throws HostTooSlow for both.
   */
  take<T>(work: () => T | Promise<T>): Promise<T> {
    const answer = this.answered.then(() => this.begin(work));
    this.answered = answer.catch(() => {});
    return answer;
  }

  private begin<T>(work: () => T | Promise<T>): Promise<T> {
    if (this.isBusy) throw new HostTooSlow("it has not answered what it was asked before");
    this.isBusy = true;
    const result = (async () => work())();
    const end = () => {
      this.isBusy = false;
    };
    result.then(end, end);
    return this.inTime(result);
  }

  private inTime<T>(result: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const sentence = `it has not answered within ${this.mostMs} ms`;
      // What came while this thread was kept from running is only seen behind the timer.
      const late = () => setImmediate(() => setImmediate(() => reject(new HostTooSlow(sentence))));
      const timer = setTimeout(late, this.mostMs);
      result.then(resolve, reject).finally(() => clearTimeout(timer));
    });
  }
}
