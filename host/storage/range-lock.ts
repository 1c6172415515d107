// Keeps work on ranges that overlap from running at the same time.

interface Holder {
  first: number;
  last: number;
  released: Promise<void>;
}

export class RangeLock {
  private readonly holders = new Set<Holder>();

  /** Resolves with what releases the range, `first` to `last`, once nobody else has any of it. */
  async acquire(first: number, last: number): Promise<() => void> {
    for (;;) {
      const other = [...this.holders].find((holder) => first <= holder.last && holder.first <= last);
      if (other === undefined) break;
      await other.released;
    }
    let release!: () => void;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const holder = { first, last, released };
    this.holders.add(holder);
    return () => {
      this.holders.delete(holder);
      release();
    };
  }
}
