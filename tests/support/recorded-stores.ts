// Stores of bytes that note what they are asked, in order, and what a death after any part of that may leave of them.
import type { ByteStore } from "../../host/storage/file/disk-file.ts";
import { apply, type Change, halvesOf, InstantStorage, SECTOR } from "./ordered-storage.ts";

interface Step {
  store: string;
  /** Left out: a sync. */
  change?: Change;
}

export type Contents = Readonly<Record<string, Uint8Array>>;

export class RecordedStores {
  readonly steps: Step[] = [];
  private readonly visible: Contents;

  /** By name. */
  constructor(private readonly initial: Contents) {
    this.visible = copyOf(initial);
  }

  store(name: string): ByteStore {
    const visible = new InstantStorage(this.visible[name]!);
    return {
      read: (position, buffers) => visible.read(position, buffers),
      write: async (position, buffers) => this.change(name, { position, bytes: Buffer.concat(buffers) }),
      punch: async (position, byteLength) =>
        this.change(name, { position, bytes: new Uint8Array(byteLength) }),
      sync: async () => {
        this.steps.push({ store: name });
      },
      close: async () => {},
    };
  }

  contents(): Contents {
    return copyOf(this.visible);
  }

  /** After the process alone has died: the first `count` steps, and any part of the next. */
  *statesOfKill(count: number): Generator<Contents> {
    const done = this.steps.slice(0, count);
    for (const begun of variants(this.steps.slice(count, count + 1))) {
      yield this.stateOf([...done, ...begun]);
    }
  }

  /** After the machine has died: what was synced, and any part of the rest, of each store by itself. */
  *statesOfPowerLoss(count: number): Generator<Contents> {
    const begun = this.steps.slice(0, count + 1);
    let states: Step[][] = [[]];
    for (const store of Object.keys(this.initial)) {
      const own = begun.filter((step) => step.store === store);
      const synced = begun.slice(0, count).findLastIndex((step) => step.store === store && !step.change);
      const stable = begun.slice(0, synced + 1).filter((step) => step.store === store);
      const loose = own.slice(stable.length);
      states = states.flatMap((before) =>
        [...variants(loose)].map((after) => [...before, ...stable, ...after]),
      );
    }
    for (const changes of states) yield this.stateOf(changes);
  }

  private change(store: string, change: Change): void {
    this.steps.push({ store, change });
    apply(this.visible[store]!, change);
  }

  private stateOf(changes: readonly Step[]): Contents {
    const state = copyOf(this.initial);
    for (const { store, change } of changes) if (change) apply(state[store]!, change);
    return state;
  }
}

/** None, all, each alone, all but each; and each that is longer than a sector with half of it, alone and with all others. */
function* variants(steps: readonly Step[]): Generator<Step[]> {
  const changes = steps.filter(({ change }) => change !== undefined);
  yield [];
  if (changes.length === 0) return;
  yield changes;
  if (changes.length > 1) {
    for (const one of changes) {
      yield [one];
      yield changes.filter((other) => other !== one);
    }
  }
  for (const { store, change } of changes) {
    if (change!.bytes.length <= SECTOR) continue;
    for (const half of halvesOf(change!)) {
      yield [{ store, change: half }];
      yield changes.map((other) => (other.change === change ? { store, change: half } : other));
    }
  }
}

function copyOf(contents: Contents): Contents {
  return Object.fromEntries(Object.entries(contents).map(([name, bytes]) => [name, bytes.slice()]));
}
