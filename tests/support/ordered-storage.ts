// Storage whose operations complete one by one, in whatever order the test wants, and what deaths in between leave of it.
import type { ByteStore } from "../../host/storage/file/disk-file.ts";

/** What reaches the medium as a whole. */
export const SECTOR = 512;

export interface Change {
  position: number;
  bytes: Uint8Array;
}

/** A write, hole, sync or read that has begun and not ended. */
export interface Operation {
  name: string;
  change?: Change;
  end(error?: Error): void;
}

/** Storage that does all at once. */
export class InstantStorage implements ByteStore {
  constructor(readonly contents: Uint8Array) {}

  async read(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    let at = position;
    for (const buffer of buffers) {
      buffer.set(this.contents.subarray(at, at + buffer.length));
      at += buffer.length;
    }
  }

  async write(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    apply(this.contents, { position, bytes: Buffer.concat(buffers) });
  }

  async punch(position: number, byteLength: number): Promise<void> {
    apply(this.contents, { position, bytes: new Uint8Array(byteLength) });
  }

  async sync(): Promise<void> {}

  async close(): Promise<void> {}
}

export class OrderedStorage implements ByteStore {
  readonly pending: Operation[] = [];
  /** What the medium surely has. */
  private readonly stable: Uint8Array;
  /** What readers see: all that has completed. */
  private readonly visible: Uint8Array;
  private unsynced: Change[] = [];
  private readonly done: string[] = [];

  constructor(
    contents: Uint8Array,
    private readonly nameOf: (position: number) => string,
  ) {
    this.stable = contents.slice();
    this.visible = contents.slice();
  }

  read(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    return new InstantStorage(this.visible).read(position, buffers);
  }

  write(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    return this.begin(`write of ${this.nameOf(position)}`, { position, bytes: Buffer.concat(buffers) });
  }

  punch(position: number, byteLength: number): Promise<void> {
    return this.begin(`hole in ${this.nameOf(position)}`, { position, bytes: new Uint8Array(byteLength) });
  }

  async sync(): Promise<void> {
    const covered = this.unsynced;
    await this.begin("sync");
    for (const change of covered) apply(this.stable, change);
    this.unsynced = this.unsynced.filter((change) => !covered.includes(change));
  }

  async close(): Promise<void> {}

  /** For what isn't ours but must come in some order too, as reads of a base. */
  begin(name: string, change?: Change): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (error?: Error) => (error ? reject(error) : resolve());
      this.pending.push({ name, ...(change && { change }), end });
    });
  }

  complete(index: number): void {
    const [operation] = this.pending.splice(index, 1);
    this.make(operation!);
    operation!.end();
  }

  /** `isDone`: it fails all the same. */
  fail(index: number, isDone: boolean): void {
    const [operation] = this.pending.splice(index, 1);
    if (isDone) this.make(operation!);
    operation!.end(Object.assign(new Error("EIO: the test's"), { code: "EIO", errno: -5 }));
  }

  /** Storages with the same name have the same contents, the same under way, and have done the same. */
  name(sampleOf: (bytes: Uint8Array) => string): string {
    const list = (changes: readonly Change[]) =>
      changes.map(({ position, bytes }) => `${position}:${sampleOf(bytes)}`).join();
    const pending = this.pending.map(({ name, change }) => name + list(change ? [change] : [])).sort();
    const contents = [this.visible, this.stable].map(sampleOf);
    return [...pending, list(this.unsynced), ...contents, ...[...this.done].sort()].join(";");
  }

  /** After the process alone has died: all that completed, and of what had begun any part. */
  *statesOfKill(): Generator<Uint8Array> {
    const begun = this.pending.flatMap(({ change }) => (change ? [change] : []));
    for (const changes of subsets(begun)) yield stateOf(this.visible, changes);
  }

  /** After the machine has died: any part of what no sync covers. */
  *statesOfPowerLoss(): Generator<Uint8Array> {
    const begun = this.pending.flatMap(({ change }) => (change ? [change] : []));
    for (const changes of subsets([...this.unsynced, ...begun])) yield stateOf(this.stable, changes);
  }

  private make({ name, change }: Operation): void {
    this.done.push(name);
    if (change === undefined) return;
    apply(this.visible, change);
    this.unsynced = [...this.unsynced, change];
  }
}

/** Every choice of whole changes; and each that is longer than a sector once more with half of it, without and with all others. */
function* subsets(changes: readonly Change[]): Generator<Change[]> {
  for (let chosen = 0; chosen < 1 << changes.length; chosen++) {
    yield changes.filter((_, i) => (chosen & (1 << i)) !== 0);
  }
  for (const change of changes) {
    if (change.bytes.length <= SECTOR) continue;
    for (const half of halvesOf(change)) {
      yield [half];
      yield changes.map((other) => (other === change ? half : other));
    }
  }
}

/** Of one that is longer than a sector. */
export function halvesOf({ position, bytes }: Change): Change[] {
  const middle = Math.ceil(bytes.length / SECTOR / 2) * SECTOR;
  return [
    { position, bytes: bytes.subarray(0, middle) },
    { position: position + middle, bytes: bytes.subarray(middle) },
  ];
}

function stateOf(before: Uint8Array, changes: readonly Change[]): Uint8Array {
  const state = before.slice();
  for (const change of changes) apply(state, change);
  return state;
}

export function apply(contents: Uint8Array, { position, bytes }: Change): void {
  contents.set(bytes, position);
}
