// An overlay that dies at every point of a run, in every order of what it asks of its storage: nothing that was flushed is
// lost when the machine dies, nothing that was completed when only the process does.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { BlockDisk } from "../../host/engines/block-disk.ts";
import { layoutOf } from "../../host/storage/overlay/format.ts";
import { encodeHeader } from "../../host/storage/overlay/header.ts";
import { OverlayDisk } from "../../host/storage/overlay/overlay-disk.ts";
import { CrashStorage } from "../support/crash-storage.ts";
import { OverlayExplorer, type Request, type Scenario, sampleOf } from "../support/overlay-explorer.ts";
import { Random, tellSeed } from "../support/random.ts";
import { History } from "../support/sector-history.ts";

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

const write = (first: number, count: number): Request => ({ kind: "write", first, count });
const zeroes = (first: number, count: number): Request => ({ kind: "zeroes", first, count });
const discard = (first: number, count: number): Request => ({ kind: "discard", first, count });
const flush: Request = { kind: "flush" };

/** Blocks have eight sectors each; the third and last has three. */
const SCENARIOS: readonly Scenario[] = [
  { name: "two writes to one block", clients: [[write(1, 1)], [write(6, 1)]] },
  { name: "two writes to one sector", clients: [[write(1, 2)], [write(2, 2)]] },
  { name: "one behind the other in a block", clients: [[write(1, 1), write(3, 1)], [write(5, 1)]] },
  {
    name: "two writes to one block, each flushed",
    clients: [
      [write(1, 1), flush],
      [write(6, 1), flush],
    ],
  },
  {
    name: "three writes to one block, and a flush",
    clients: [[write(0, 1), flush], [write(3, 1)], [write(7, 1)]],
  },
  { name: "neighbouring blocks", clients: [[write(7, 1), flush], [write(8, 1), flush], [write(18, 1)]] },
  { name: "writes over a border of blocks", clients: [[write(6, 4), flush], [write(9, 1)], [write(4, 2)]] },
  {
    name: "a write that is cut by another's block",
    clients: [[write(2, 14)], [write(12, 6)], [flush]],
    own: [1],
  },
  { name: "four writes", clients: [[write(1, 1)], [write(2, 1)], [write(9, 1)], [write(16, 3)]] },
  {
    name: "writes to what it has",
    clients: [
      [write(1, 1), flush],
      [write(2, 1), flush],
    ],
    own: [0],
  },
  {
    name: "a slow base",
    clients: [[write(1, 1)], [write(6, 1)], [flush]],
    hasSlowBase: true,
  },
  {
    name: "zeroes beside a write",
    clients: [
      [zeroes(0, 16), flush],
      [write(17, 1), flush],
    ],
  },
  { name: "zeroes under a write", clients: [[zeroes(0, 8)], [write(2, 1)], [flush]] },
  { name: "zeroes over borders, and a write", clients: [[zeroes(4, 14), flush], [write(2, 1)]], own: [1] },
  {
    name: "a discard beside writes",
    clients: [[discard(0, 8), flush], [write(9, 1)], [write(10, 1)]],
    own: [0],
  },
  {
    name: "a discard of what is being written",
    clients: [[write(1, 2), flush], [discard(0, 8)], [flush]],
    own: [1],
  },
  {
    name: "a discard, and written anew",
    clients: [[discard(0, 19), write(3, 1), flush], [write(12, 1)]],
    own: [0, 2],
  },
  {
    name: "under a new kernel",
    clients: [[write(1, 1), flush], [write(9, 1)]],
    own: [0],
    isFormerKernel: true,
  },
  { name: "a failure below one of two writes", clients: [[write(1, 1)], [write(6, 1)]], hasFailure: true },
  {
    name: "a failure, and then more",
    clients: [
      [write(1, 1), write(3, 1), flush],
      [write(9, 1), flush],
    ],
    hasFailure: true,
  },
  {
    name: "a failure below a flush",
    clients: [[write(1, 1), flush, flush], [write(6, 1)]],
    hasFailure: true,
  },
  {
    name: "a failure below zeroes",
    clients: [[zeroes(0, 8), write(1, 1), flush], [write(9, 1)]],
    hasFailure: true,
  },
];

describe("an overlay", () => {
  test("survives a death at any point, whatever order its storage completes things in", {
    timeout: 120_000,
  }, async (t) => {
    const explorer = new OverlayExplorer();
    for (const scenario of SCENARIOS) await explorer.run(scenario);
    const { orders, deaths, states } = explorer.totals;
    t.diagnostic(`${orders} orders, ${deaths} deaths, ${states} states of the storage after them`);
    assert.ok(orders > 1000);
  });

  test("survives a death before any step of a run", { timeout: 120_000 }, async (t) => {
    const random = tellSeed(t);
    let deaths = 0;
    const states = new Set<string>();
    const check = async (state: Uint8Array, bootId: string, allowed: readonly number[][]) => {
      // Many deaths leave the same.
      const { size } = states;
      const key = `${bootId} ${sampleOf(state)} ${allowed.join(" ")}`;
      if (states.add(key).size > size) await checkState(state, bootId, allowed);
    };
    for (let run = 0; run < RUNS; run++) {
      const seed = 1 + random.below(1_000_000);
      const whole = await live(seed);
      assert.ok(whole.isOver);
      for (let step = 1; step <= whole.storage.steps; step++, deaths++) {
        const { storage, history } = await live(seed, step);
        assert.ok(storage.isDead);
        for (const state of storage.statesOfKill()) {
          await check(state, "first", history.sinceCompletion());
        }
        for (const state of storage.statesOfPowerLoss()) {
          await check(state, "second", history.sinceFlush());
        }
      }
    }
    t.diagnostic(`${deaths} deaths, ${states.size} states of the storage after them`);
    assert.ok(deaths > 100);
  });
});
