// What the sectors of a disk may hold after a crash: what must have survived, and all that came later.

interface SectorHistory {
  /** Of each change, oldest first, the values that it may leave. */
  changes: number[][];
  /** The last change that completed, and the last that a completed flush covers. */
  completed: number;
  flushed: number;
  isBusy: boolean;
}

export class History {
  private readonly sectors: SectorHistory[];

  constructor(count: number, initial: (sector: number) => number) {
    this.sectors = Array.from({ length: count }, (_, sector) => ({
      changes: [[initial(sector)]],
      completed: 0,
      flushed: 0,
      isBusy: false,
    }));
  }

  /** Before a change; what it returns is called when that has completed. Undefined if one of the sectors is changing. */
  begin(first: number, count: number): (() => void) | undefined {
    const sectors = this.sectors.slice(first, first + count);
    if (sectors.some(({ isBusy }) => isBusy)) return undefined;
    for (const sector of sectors) sector.isBusy = true;
    return () => {
      for (const sector of sectors) {
        sector.completed = sector.changes.length - 1;
        sector.isBusy = false;
      }
    };
  }

  /** What each sector may hold by a change that begins, given what it may hold by the one before. */
  addToEach(first: number, count: number, values: (before: readonly number[]) => number[]): void {
    for (const { changes } of this.sectors.slice(first, first + count)) changes.push(values(changes.at(-1)!));
  }

  /** Before a flush; what it returns is called when that has completed. */
  beginFlush(): () => void {
    const covered = this.sectors.map(({ completed }) => completed);
    return () => {
      this.sectors.forEach((sector, i) => {
        sector.flushed = Math.max(sector.flushed, covered[i]!);
      });
    };
  }

  /** The values that each sector may hold if only the process died. */
  sinceCompletion(): number[][] {
    return this.sectors.map(({ changes, completed }) => changes.slice(completed).flat());
  }

  /** The same if the machine died. */
  sinceFlush(): number[][] {
    return this.sectors.map(({ changes, flushed }) => changes.slice(flushed).flat());
  }
}
