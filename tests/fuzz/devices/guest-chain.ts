// A chain of a fuzzed device: its buffers lie in memory with guards between them, and it comes back once.
import assert from "node:assert/strict";
import type { ChainBuffers } from "../../../host/chains/chain.ts";
import type { Random } from "../../support/random.ts";
import type { likelyBytes } from "../../support/ring-torment.ts";

const GUARD = 0xa5;
const GUARD_BYTES = 16;
const BUFFERS_MAX = 6;
/** The core leaves buffers of no length out. */
const LENGTHS = [1, 2, 3, 4, 8, 12, 16, 24, 64, 500, 4096];
const LARGE = 300 << 10;

export class GuestChain {
  readonly buffers: ChainBuffers;
  /** As it was before the device had it. */
  private readonly before: Uint8Array;
  private readonly memory: Uint8Array;
  private readonly readableParts: Uint8Array[] = [];
  private readonly writableParts: Uint8Array[] = [];
  private isChanged = false;
  /** How often the device has had it. */
  arrivals = 0;
  answers = 0;

  /** `name`: for whoever reads of a failure. */
  constructor(
    readonly name: string,
    readable: Uint8Array,
    readableCuts: readonly number[],
    writableCuts: readonly number[],
  ) {
    const cuts = [...readableCuts, ...writableCuts];
    const total = cuts.reduce((sum, length) => sum + length + GUARD_BYTES, GUARD_BYTES);
    this.memory = new Uint8Array(total).fill(GUARD);
    let at = GUARD_BYTES;
    for (const [i, length] of cuts.entries()) {
      const part = this.memory.subarray(at, at + length);
      (i < readableCuts.length ? this.readableParts : this.writableParts).push(part);
      at += length + GUARD_BYTES;
    }
    let from = 0;
    for (const part of this.readableParts) {
      part.set(readable.subarray(from, from + part.length));
      from += part.length;
    }
    this.before = this.memory.slice();
    this.buffers = { readable: this.readableParts, writable: this.writableParts };
  }

  static honest(name: string): GuestChain {
    return new GuestChain(name, new Uint8Array(16), [16], [512, 1]);
  }

  static random(name: string, random: Random, likely: typeof likelyBytes): GuestChain {
    const readableCuts = cutsOf(random);
    const byteLength = readableCuts.reduce((sum, length) => sum + length, 0);
    return new GuestChain(name, likely(random, byteLength), readableCuts, cutsOf(random));
  }

  get room(): number {
    return this.writableParts.reduce((sum, { length }) => sum + length, 0);
  }

  get isHeld(): boolean {
    return this.arrivals > this.answers;
  }

  /** As a guest may at any time. */
  change(random: Random): void {
    this.isChanged = true;
    for (const part of [...this.readableParts, ...this.writableParts])
      part[random.below(part.length)] = random.below(256);
  }

  /** Throws where the device has written what was not its to write. */
  check(usedBytes: number): void {
    assert.ok(usedBytes <= this.room, `${this.name}: used with ${usedBytes} of ${this.room} bytes`);
    const isWritable = new Uint8Array(this.memory.length);
    for (const { byteOffset, length } of this.writableParts)
      isWritable.fill(1, byteOffset, byteOffset + length);
    for (const { byteOffset, length } of this.isChanged ? this.readableParts : [])
      isWritable.fill(1, byteOffset, byteOffset + length);
    const at = this.memory.findIndex((byte, i) => isWritable[i] === 0 && byte !== this.before[i]);
    assert.equal(at, -1, `${this.name}: byte ${at} was written, and is not writable`);
  }
}

function cutsOf(random: Random): number[] {
  if (random.below(60) === 0) return [LARGE];
  return Array.from({ length: random.below(BUFFERS_MAX + 1) }, () => random.pick(LENGTHS));
}
