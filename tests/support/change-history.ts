// What the sectors of a disk may hold after a crash, whatever changes of them overlapped in time.

interface Change {
  /** Else what the sector held before may stay. */
  isSure: boolean;
  value: number;
  /** Times by the history's own clock. */
  begun: number;
  ended?: number;
  /** It ended, and not by an error. */
  isDone: boolean;
}

interface Flush {
  begun: number;
  isDone: boolean;
}

export class ChangeHistory {
  private readonly sectors: Change[][];
  private readonly flushes: Flush[] = [];
  private clock = 0;

  constructor(initial: readonly number[]) {
    this.sectors = initial.map((value) => [{ isSure: true, value, begun: 0, ended: 0, isDone: true }]);
  }

  /** What it returns is called when the change has ended. A change that isn't sure may leave what was there. */
  begin(first: number, values: readonly number[], isSure: boolean): (isDone: boolean) => void {
    const begun = ++this.clock;
    const changes = values.map((value): Change => ({ isSure, value, begun, isDone: false }));
    changes.forEach((change, i) => {
      this.sectors[first + i]!.push(change);
    });
    return (isDone) => {
      const ended = ++this.clock;
      for (const change of changes) Object.assign(change, { ended, isDone });
    };
  }

  beginFlush(): (isDone: boolean) => void {
    const flush = { begun: ++this.clock, isDone: false };
    this.flushes.push(flush);
    return (isDone) => {
      flush.isDone = isDone;
    };
  }

  /** Histories with the same name allow the same now, and will after the same. */
  name(): string {
    const { flushes } = this;
    const after = (ended = Number.POSITIVE_INFINITY, others: readonly { begun: number }[] = []) =>
      others.map(({ begun }) => (begun > ended ? 1 : 0)).join("");
    const nameOf = ({ value, isDone, ended }: Change, changes: readonly Change[]) =>
      `${value}${isDone}${ended === undefined}${after(ended, changes)}${after(ended, flushes)}`;
    const sectors = this.sectors.map((changes) => changes.map((change) => nameOf(change, changes)));
    return `${sectors.join(";")} ${flushes.map(({ isDone }) => isDone)}`;
  }

  /** The values that each sector may hold if only the process died. */
  sinceCompletion(): number[][] {
    return this.sectors.map((changes) => allowed(changes, ({ isDone }) => isDone));
  }

  /** The same if the machine died. */
  sinceFlush(): number[][] {
    const flushed = Math.max(0, ...this.flushes.map(({ begun, isDone }) => (isDone ? begun : 0)));
    const isKept = ({ ended, isDone }: Change) => isDone && (ended! < flushed || ended === 0);
    return this.sectors.map((changes) => allowed(changes, isKept));
  }
}

/** The values of all but those that a kept change has surely replaced: one that began after they had ended. */
function allowed(changes: readonly Change[], isKept: (change: Change) => boolean): number[] {
  const replacing = changes.filter((change) => change.isSure && isKept(change));
  return changes
    .filter(({ ended }) => ended === undefined || !replacing.some(({ begun }) => begun > ended))
    .map(({ value }) => value);
}
