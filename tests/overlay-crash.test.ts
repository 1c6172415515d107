// An overlay stopped before every single write and sync of a run: nothing that was flushed is lost when the machine dies,
// nothing that was completed when only the process does.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { BlockDisk } from "../host/disk/block-disk.ts";
import { encodeHeader, layoutOf } from "../host/disk/overlay/format.ts";
import { OverlayDisk } from "../host/disk/overlay/overlay-disk.ts";
import { CrashStorage } from "./support/crash-storage.ts";
import { Random, tellSeed } from "./support/random.ts";
import { History } from "./support/sector-history.ts";

const SECTOR = 512;
/** The last block is a short one. */
const SECTORS = 5 * 8 + 3;
const BASE = 1_000_000;
const REQUESTS = 60;
const CLIENTS = 6;
const RUNS = 3;
const byteLength = BigInt(SECTORS * SECTOR);

/** Every sector of the base has a number of its own. */
const base: BlockDisk = {
  byteLength,
  readOnly: true,
  read: async (offset, buffers) => {
    // As slow as the storage may be, so that others come between.
    for (let turns = 0; turns < 12; turns++) await undefined;
    let at = Number(offset);
    for (const buffer of buffers) {
      for (let i = 0; i < buffer.length; i++, at++) buffer[i] = byteOf(BASE + Math.floor(at / SECTOR), at);
    }
  },
};

function byteOf(value: number, at: number): number {
  return (value >>> (8 * (at % 4))) & 0xff;
}

/** One life of an overlay on storage that may die under it. */
class Life {
  readonly history = new History(SECTORS, (sector) => BASE + sector);
  isOver = false;
  private lastValue = 0;

  constructor(
    readonly storage: CrashStorage,
    private readonly random: Random,
  ) {}

  /** Clients beside each other, until all have done their part, or the storage has died. */
  async run(): Promise<void> {
    let failure: unknown;
    this.live().catch((error) => {
      failure = error;
    });
    // All of it happens in microtasks.
    await new Promise((resolve) => setImmediate(resolve));
    if (failure) throw failure;
    assert.ok(this.isOver || this.storage.isDead);
  }

  private async live(): Promise<void> {
    const disk = await openOver(this.storage, "first");
    const client = async () => {
      for (let i = 0; i < REQUESTS / CLIENTS; i++) await this.request(disk);
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
    await this.flush(disk);
    await disk.close();
    this.isOver = true;
  }

  private async request(disk: OverlayDisk): Promise<void> {
    const { random, history } = this;
    if (random.below(5) === 0) return this.flush(disk);
    const first = random.below(SECTORS);
    const count = Math.min(1 + random.below(random.below(4) === 0 ? 20 : 3), SECTORS - first);
    const end = history.begin(first, count);
    if (end === undefined) return;
    await this.change(disk, first, count);
    end();
  }

  private async change(disk: OverlayDisk, first: number, count: number): Promise<void> {
    const { random, history } = this;
    const offset = BigInt(first * SECTOR);
    const bytes = new Uint8Array(count * SECTOR);
    const kind = random.below(8);
    if (kind === 0) {
      history.addToEach(first, count, () => [0]);
      await disk.writeZeroes(offset, BigInt(bytes.length));
    } else if (kind === 1) {
      history.addToEach(first, count, (before) => [0, ...before]);
      await disk.discard(offset, BigInt(bytes.length));
    } else {
      const value = ++this.lastValue;
      history.addToEach(first, count, () => [value]);
      for (let i = 0; i < bytes.length; i++) bytes[i] = byteOf(value, i);
      const cut = random.below(bytes.length);
      await disk.write(offset, [bytes.subarray(0, cut), bytes.subarray(cut)]);
    }
  }

  private async flush(disk: OverlayDisk): Promise<void> {
    const end = this.history.beginFlush();
    await disk.flush();
    end();
  }
}

function emptyOverlay(): Uint8Array {
  const contents = new Uint8Array(layoutOf(byteLength).fileBytes);
  contents.set(encodeHeader({ byteLength, baseChangedNs: 0n }));
  return contents;
}

function openOver(storage: CrashStorage, bootId: string): Promise<OverlayDisk> {
  return OverlayDisk.over({ base, storage, bootId, readOnly: false });
}

async function live(seed: number, lastStep?: number): Promise<Life> {
  const random = new Random(seed);
  const life = new Life(new CrashStorage(emptyOverlay(), random, lastStep), random);
  await life.run();
  return life;
}

/** The number that each sector holds as a whole. */
async function readAll(disk: OverlayDisk): Promise<number[]> {
  const bytes = new Uint8Array(SECTORS * SECTOR);
  await disk.read(0n, [bytes]);
  const words = new Uint32Array(bytes.buffer);
  return Array.from({ length: SECTORS }, (_, sector) => {
    const at = (sector * SECTOR) / 4;
    const value = words[at]!;
    assert.ok(
      words.subarray(at, at + SECTOR / 4).every((word) => word === value),
      `sector ${sector} is a mixture`,
    );
    return value;
  });
}

/** Reads all, then changes one sector and finds no other changed. */
async function checkState(state: Uint8Array, bootId: string, allowed: readonly number[][]): Promise<void> {
  const random = new Random(state.length);
  const disk = await openOver(new CrashStorage(state, random), bootId);
  const found = await readAll(disk);
  found.forEach((value, sector) => {
    assert.ok(
      allowed[sector]!.includes(value),
      `sector ${sector} holds ${value}, not one of ${allowed[sector]}`,
    );
  });
  const sector = 1 + (found.reduce((sum, value) => sum + value, 0) % (SECTORS - 2));
  await disk.write(BigInt(sector * SECTOR), [new Uint8Array(SECTOR)]);
  assert.deepEqual(await readAll(disk), found.with(sector, 0));
}

describe("an overlay", () => {
  test("survives a death before any step of a run", { timeout: 120_000 }, async (t) => {
    const random = tellSeed(t);
    let deaths = 0;
    let states = 0;
    for (let run = 0; run < RUNS; run++) {
      const seed = 1 + random.below(1_000_000);
      const whole = await live(seed);
      assert.ok(whole.isOver);
      for (let step = 1; step <= whole.storage.steps; step++, deaths++) {
        const { storage, history } = await live(seed, step);
        assert.ok(storage.isDead);
        for (const state of storage.statesOfKill()) {
          await checkState(state, "first", history.sinceCompletion());
          states++;
        }
        for (const state of storage.statesOfPowerLoss()) {
          await checkState(state, "second", history.sinceFlush());
          states++;
        }
      }
    }
    t.diagnostic(`${deaths} deaths, ${states} states of the storage after them`);
    assert.ok(deaths > 100);
  });
});
