// Storage that loses what a dying machine may lose: a run ends before any chosen step, and leaves every state it may leave.
import { lengthOf } from "../../host/storage/buffers.ts";
import type { ByteStore } from "../../host/storage/file/disk-file.ts";
import type { Random } from "./random.ts";

/** What reaches the medium as a whole. */
const SECTOR = 512;

/** A write or a hole that no sync has made stable yet. */
interface Change {
  position: number;
  bytes: Uint8Array;
}

export class CrashStorage implements ByteStore {
  /** Writes, holes and syncs that began. */
  steps = 0;
  isDead = false;
  /** What the medium surely has. */
  private readonly stable: Uint8Array;
  /** What readers see: all that has completed. */
  private readonly visible: Uint8Array;
  private completed: Change[] = [];
  private readonly begun = new Set<Change>();

  /** Dies instead of taking step `lastStep`: from then on nothing happens, and nothing settles. */
  constructor(
    contents: Uint8Array,
    private readonly random: Random,
    private readonly lastStep = Number.POSITIVE_INFINITY,
  ) {
    this.stable = contents.slice();
    this.visible = contents.slice();
  }

  async read(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    await this.delay();
    let at = position;
    for (const buffer of buffers) {
      buffer.set(this.visible.subarray(at, at + buffer.length));
      at += buffer.length;
    }
  }

  write(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    const bytes = new Uint8Array(lengthOf(buffers));
    let at = 0;
    for (const buffer of buffers) {
      bytes.set(buffer, at);
      at += buffer.length;
    }
    return this.change({ position, bytes });
  }

  punch(position: number, byteLength: number): Promise<void> {
    return this.change({ position, bytes: new Uint8Array(byteLength) });
  }

  async sync(): Promise<void> {
    await this.takeStep();
    const covered = this.completed;
    await this.delay();
    for (const change of covered) apply(this.stable, change);
    this.completed = this.completed.filter((change) => !covered.includes(change));
  }

  async close(): Promise<void> {}

  /** After the process alone has died: all that completed, and of what had begun all, nothing, or one part. */
  *statesOfKill(): Generator<Uint8Array> {
    for (const changes of subsets([...this.begun], this.random)) yield stateOf(this.visible, changes);
  }

  /** After the machine has died: of what no sync covers all, nothing, each one kept or lost alone, and parts. */
  *statesOfPowerLoss(): Generator<Uint8Array> {
    const loose = [...this.completed, ...this.begun];
    for (const changes of subsets(loose, this.random)) yield stateOf(this.stable, changes);
  }

  private async change(change: Change): Promise<void> {
    await this.takeStep();
    this.begun.add(change);
    await this.delay();
    this.begun.delete(change);
    apply(this.visible, change);
    this.completed = [...this.completed, change];
  }

  private async takeStep(): Promise<void> {
    if (++this.steps >= this.lastStep) this.isDead = true;
    await this.delay();
  }

  /** Some turns of the microtask queue, so that operations overtake each other, the same way at each run. */
  private async delay(): Promise<void> {
    for (let turns = this.random.below(6); turns >= 0; turns--) {
      await undefined;
      if (this.isDead) await new Promise(() => {});
    }
  }
}

/** Changes that may have reached the medium, in the order that they were made: others overtook none of their sectors. */
function* subsets(changes: readonly Change[], random: Random): Generator<Change[]> {
  yield [];
  yield [...changes];
  if (changes.length === 0) return;
  for (let i = 0; i < changes.length; i++) {
    yield [changes[i]!];
    yield changes.filter((_, other) => other !== i);
  }
  for (let i = 0; i < 8; i++) {
    yield changes.filter(() => random.below(2) === 0);
    yield changes.flatMap((change) => torn(change, random));
  }
}

/** Some sectors of a change. */
function torn({ position, bytes }: Change, random: Random): Change[] {
  const parts: Change[] = [];
  for (let at = 0; at < bytes.length; at += SECTOR) {
    if (random.below(2) === 0)
      parts.push({ position: position + at, bytes: bytes.subarray(at, at + SECTOR) });
  }
  return parts;
}

function stateOf(before: Uint8Array, changes: readonly Change[]): Uint8Array {
  const state = before.slice();
  for (const change of changes) apply(state, change);
  return state;
}

function apply(contents: Uint8Array, { position, bytes }: Change): void {
  contents.set(bytes, position);
}
