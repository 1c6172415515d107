// What every sector of a disk must hold: the write that was the last to complete, or one that has not completed yet.
import { closeSync, openSync, readSync } from "node:fs";
import { SECTOR_SIZE } from "../../assembly/spec/virtio-blk.ts";

/** Every write has its own number, from 1. */
export const ZEROES = 0;
const NOTHING = -1;

const WORDS = SECTOR_SIZE / 4;

export class SectorModel {
  /** Numbers of writes, by sector. */
  private readonly settled: Int32Array;
  private readonly pending: Int32Array;
  private readonly busy: Uint8Array;
  private lastWrite = ZEROES;

  constructor(readonly sectors: number) {
    this.settled = new Int32Array(sectors);
    this.pending = new Int32Array(sectors).fill(NOTHING);
    this.busy = new Uint8Array(sectors);
  }

  nextWrite(): number {
    return ++this.lastWrite;
  }

  /** Requests in flight at a time have no order, so no two may touch a sector. False if another has some of these. */
  claim(sector: number, sectors: number): boolean {
    const end = sector + sectors;
    if (this.busy.subarray(sector, end).includes(1)) return false;
    this.busy.fill(1, sector, end);
    return true;
  }

  release(sector: number, sectors: number): void {
    this.busy.fill(0, sector, sector + sectors);
  }

  /** From now on the sectors may hold this write, or still what was before. */
  expect(sector: number, sectors: number, write: number): void {
    this.pending.fill(write, sector, sector + sectors);
  }

  /** From now on they hold it. */
  settle(sector: number, sectors: number): void {
    for (let at = sector; at < sector + sectors; at++) {
      this.settled[at] = this.pending[at]!;
      this.pending[at] = NOTHING;
    }
  }

  /** Throws if a sector of these words, which were read from `first` on, isn't whole or isn't what it must be. */
  check(words: Uint32Array, first: number, where: string): void {
    for (let i = 0; i < words.length / WORDS; i++) {
      const sector = first + i;
      const settled = this.settled[sector]!;
      const pending = this.pending[sector]!;
      if (holds(words, i * WORDS, sector, settled)) continue;
      if (pending !== NOTHING && holds(words, i * WORDS, sector, pending)) continue;
      const found = describe(words, i * WORDS, sector);
      const wanted = pending === NOTHING ? `write ${settled}` : `write ${settled} or ${pending}`;
      throw new Error(`${where}: sector ${sector} holds ${found} instead of ${wanted}`);
    }
  }

  /** What a disk holds from its start. */
  checkBytes(bytes: Uint8Array, where = "the image"): void {
    // A copy, since words must be aligned.
    this.check(new Uint32Array(Uint8Array.from(bytes).buffer), 0, where);
  }

  /** The whole image file, as it lies there now. */
  checkImage(path: string): void {
    const bytes = new Uint8Array(this.sectors * SECTOR_SIZE);
    const fd = openSync(path, "r");
    try {
      readSync(fd, bytes, 0, bytes.length, 0);
    } finally {
      closeSync(fd);
    }
    this.check(new Uint32Array(bytes.buffer), 0, "the image");
  }
}

/** Makes every sector unlike every other sector of any write. */
export function fillSectors(words: Uint32Array, sector: number, write: number): void {
  for (let i = 0; i < words.length / WORDS; i++) fillSector(words, i * WORDS, sector + i, write);
}

function fillSector(words: Uint32Array, at: number, sector: number, write: number): void {
  words[at] = write;
  words[at + 1] = sector;
  let word = seedOf(sector, write);
  for (let i = 2; i < WORDS; i++) {
    word = (word + 0x6d2b79f5) | 0;
    words[at + i] = word;
  }
}

function holds(words: Uint32Array, at: number, sector: number, write: number): boolean {
  if (write === ZEROES) return isZeroed(words, at);
  if (words[at] !== write || words[at + 1] !== sector) return false;
  let word = seedOf(sector, write);
  for (let i = 2; i < WORDS; i++) {
    word = (word + 0x6d2b79f5) | 0;
    if (words[at + i] !== word >>> 0) return false;
  }
  return true;
}

function isZeroed(words: Uint32Array, at: number): boolean {
  for (let i = 0; i < WORDS; i++) if (words[at + i] !== 0) return false;
  return true;
}

function seedOf(sector: number, write: number): number {
  return Math.imul(write, 0x9e3779b1) ^ Math.imul(sector, 0x85ebca77);
}

function describe(words: Uint32Array, at: number, sector: number): string {
  if (isZeroed(words, at)) return "zeroes";
  const write = words[at]!;
  if (holds(words, at, words[at + 1]!, write)) {
    return words[at + 1] === sector ? `write ${write}` : `write ${write} to sector ${words[at + 1]}`;
  }
  return "a mixture";
}
