// A commit and a rebase that die at every point, with the process or with the machine: the overlay shows what it showed, a base
// that is half committed is known as such, and to do it again ends the work.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkBase, standingOf } from "../../host/storage/overlay/base.ts";
import { commit } from "../../host/storage/overlay/commit.ts";
import { rebase } from "../../host/storage/overlay/rebase.ts";
import type { Work } from "../../host/storage/work.ts";
import {
  BLOCK_SECTORS,
  BOOT,
  baseContents,
  NEXT_BOOT,
  OverlayWorld,
  overlayContents,
  SECTOR,
  SECTORS,
  sectorsOf,
  shownBy,
  valuesOf,
} from "../support/overlay-world.ts";
import type { Contents } from "../support/recorded-stores.ts";

/** Of a commit that has died, so many are done again, and die. */
const SECOND_LIVES = 3;
const NAMES = { overlay: "the overlay", base: "the base" };
const work: Work = { progress() {}, signal: new AbortController().signal };

const FIRST = Array.from({ length: SECTORS }, (_, sector) => 1_000_000 + sector);
/** Differs in a block that the overlay has, in two that it has not, and in the last, which is short. */
const OTHER = FIRST.map((value, sector) => ([0, 1, 4, 5].includes(sector >>> 3) ? value + 1_000_000 : value));

const blockOf = (values: readonly number[], block: number) =>
  values.slice(block * BLOCK_SECTORS, (block + 1) * BLOCK_SECTORS);

/** Of data, of zeroes, of both, and the last one. */
const OWN = new Map([0, 2, 3, 5].map((block) => [block, blockOf(FIRST, block).map(ownValue(block))]));

function ownValue(block: number): (value: number, sector: number) => number {
  if (block === 2) return () => 0;
  return (_, sector) => (block === 3 && sector < 4 ? 0 : 100 * (block + 1) + sector);
}

const SHOWN = FIRST.map((value, sector) => OWN.get(sector >>> 3)?.[sector & 7] ?? value);

function beginning(): Contents {
  const first = baseContents(FIRST, 1000);
  return {
    overlay: overlayContents(first, "/first", OWN),
    first,
    other: baseContents(OTHER, 9000),
  };
}

type Check = (world: OverlayWorld) => Promise<void>;

/** All that a death of either kind may leave of what `world` has done, each once. Resolves with how many those are. */
async function dieEverywhere({ stores }: OverlayWorld, check: Check): Promise<number> {
  const seen = new Set<string>();
  for (let count = 0; count <= stores.steps.length; count++) {
    for (const [bootId, states] of [
      [BOOT, stores.statesOfKill(count)],
      [NEXT_BOOT, stores.statesOfPowerLoss(count)],
    ] as const) {
      for (const state of states) {
        const key = `${bootId} ${Object.values(state).map((bytes) => Buffer.from(bytes).toString("latin1"))}`;
        if (seen.has(key)) continue;
        seen.add(key);
        await check(new OverlayWorld(state, bootId)).catch((error) => {
          throw new Error(`${error.message}\nif, of ${bootId} kernel, ${count} steps are done`, {
            cause: error,
          });
        });
      }
    }
  }
  return seen.size;
}

async function commitAll(world: OverlayWorld): Promise<void> {
  const header = await world.header();
  checkBase(header, world.facts("first"), NAMES);
  const disk = await world.disk("first");
  const parts = { disk, storage: world.overlay, header, baseName: "/first", target: world.target("first") };
  await commit(parts, work);
}

/** A guest changes a sector of each block, so that every other block becomes the overlay's. Returns what is shown then. */
async function writeEverywhere(world: OverlayWorld, base: string): Promise<number[]> {
  const shown = [...SHOWN];
  const disk = await world.disk(base);
  for (let sector = 1; sector < SECTORS; sector += BLOCK_SECTORS) {
    shown[sector] = 7_000_000 + sector;
    await disk.write(BigInt(sector * SECTOR), [sectorsOf([shown[sector]!])]);
  }
  await disk.flush();
  return shown;
}

async function rebaseAll(world: OverlayWorld): Promise<void> {
  checkBase(await world.header(), world.facts("first"), NAMES);
  const identity = { baseChangedNs: world.facts("other").changedNs, baseName: "/other" };
  const disk = await world.disk("first");
  await rebase({ disk, storage: world.overlay, newBase: world.base("other"), identity }, work);
}

describe("a commit", () => {
  const halfDone = async (world: OverlayWorld) => {
    const facts = world.facts("first");
    checkBase(await world.header(), facts, NAMES);
    assert.deepEqual(await shownBy(await world.disk("first")), SHOWN);
    const values = valuesOf(world.stores.contents().first!);
    const isWhole = [FIRST, SHOWN].some((whole) => whole.every((value, sector) => values[sector] === value));
    assert.ok(isWhole || facts.mark !== undefined, "the base is half committed, and could be served");
  };

  const isDone = async (world: OverlayWorld, shown: readonly number[]) => {
    const header = await world.header();
    assert.equal(header.commit, undefined);
    assert.equal(world.facts("first").mark, undefined);
    assert.equal(standingOf(header, world.facts("first")), "as-it-was");
    assert.deepEqual(valuesOf(world.stores.contents().first!), shown);
    const disk = await world.disk("first");
    assert.deepEqual([...disk.pieces(true, 4096)], []);
    assert.deepEqual(await shownBy(disk), shown);
  };

  test("may die anywhere, and done again it ends", async (t) => {
    const world = new OverlayWorld(beginning(), BOOT);
    await commitAll(world);
    await isDone(world, SHOWN);
    const states = await dieEverywhere(world, async (left) => {
      await halfDone(left);
      await commitAll(left);
      await isDone(left, SHOWN);
    });
    t.diagnostic(`${world.stores.steps.length} steps, ${states} states after deaths`);
    assert.ok(states > 50);
  });

  test("takes along what a guest has written after it died", async () => {
    const world = new OverlayWorld(beginning(), BOOT);
    await commitAll(world);
    await dieEverywhere(world, async (left) => {
      const shown = await writeEverywhere(left, "first");
      await commitAll(left);
      await isDone(left, shown);
    });
  });

  test("may die again when it is done again", async (t) => {
    const world = new OverlayWorld(beginning(), BOOT);
    await commitAll(world);
    const middle = Math.floor(world.stores.steps.length / 2);
    let states = 0;
    for (const state of [...world.stores.statesOfPowerLoss(middle)].slice(0, SECOND_LIVES)) {
      const again = new OverlayWorld(state, NEXT_BOOT);
      await commitAll(again);
      states += await dieEverywhere(again, halfDone);
    }
    t.diagnostic(`${states} states after second deaths`);
    assert.ok(states > 100);
  });

  test("that was stopped in good order notices what others do to its base", async () => {
    const world = new OverlayWorld(beginning(), BOOT);
    const stopping = new AbortController();
    const header = await world.header();
    const target = world.target("first");
    const parts = {
      disk: await world.disk("first"),
      storage: world.overlay,
      header,
      baseName: "/first",
      target,
    };
    const stopped = commit(parts, { progress: () => stopping.abort(), signal: stopping.signal });
    await assert.rejects(stopped, /Interrupted/);
    await halfDone(world);
    await world.target("first").write(1 * BLOCK_SECTORS * SECTOR, sectorsOf([1]));
    await assert.rejects(commitAll(world), /the base has changed .* restore it as it was/);
  });
});

describe("a rebase", () => {
  test("may die anywhere, and done again it ends", async (t) => {
    const world = new OverlayWorld(beginning(), BOOT);
    await rebaseAll(world);
    const isDone = async (done: OverlayWorld) => {
      const { baseName, baseChangedNs } = await done.header();
      assert.deepEqual([baseName, baseChangedNs], ["/other", 9000n]);
      assert.deepEqual(await shownBy(await done.disk("other")), SHOWN);
    };
    await isDone(world);
    const states = await dieEverywhere(world, async (left) => {
      const { baseName } = await left.header();
      if (baseName === "/other") return isDone(left);
      assert.equal(baseName, "/first");
      assert.deepEqual(await shownBy(await left.disk("first")), SHOWN);
      await rebaseAll(left);
      await isDone(left);
    });
    t.diagnostic(`${world.stores.steps.length} steps, ${states} states after deaths`);
    assert.ok(states > 30);
  });
});
