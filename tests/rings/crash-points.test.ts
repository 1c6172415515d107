// A core that is stopped before any of its stores to shared memory: its successor loses no request and repeats none.
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { CrashExplorer, type Scenario } from "../support/crash-explorer.ts";
import { compileDebugCore } from "../support/debug-core.ts";
import {
  CHAIN_KINDS,
  INDIRECT_READ,
  INDIRECT_WRITE,
  KINDS,
  READ,
  WRITE,
} from "../support/scripted-requests.ts";

const core = await compileDebugCore();

/** One descriptor each: a ring full of them is the largest batch there is. */
const SINGLES = [INDIRECT_WRITE, INDIRECT_READ];

/** Nothing that ends by itself, and with it the batch. */
const CHAINS = [WRITE, INDIRECT_READ, READ];

/** Both indices of a split ring wrap around within the script. */
const LATE_START = 65530;

const FORMATS: [name: string, isPacked: boolean, hasEventIdx: boolean][] = [
  ["a split ring", false, false],
  ["a split ring with event indices", false, true],
  ["a packed ring", true, false],
  ["a packed ring with event indices", true, true],
];

for (const [name, isPacked, hasEventIdx] of FORMATS) {
  describe(`a core that is stopped before any store, with ${name},`, { timeout: 120_000 }, () => {
    const sizes = isPacked ? [3, 5, 8] : [4, 8];

    const scenario = (size: number, batch: number, rest: Partial<Scenario>): Scenario => ({
      name: `size ${size}, batches of ${batch}`,
      shape: { size, isPacked, hasEventIdx },
      batch,
      kinds: KINDS,
      // Three laps, and in any case all kinds of requests.
      rounds: Math.max(12, Math.ceil((3 * size) / batch)),
      start: isPacked ? 0 : LATE_START,
      ...rest,
    });

    function explore(t: TestContext, scenarios: Scenario[]): void {
      const explorer = new CrashExplorer(core);
      for (const each of scenarios) explorer.run(each);
      const { scenarios: scripts, requests, stores, recoveries, nested } = explorer.totals;
      assert.ok(stores > requests && recoveries > nested, "crashes");
      t.diagnostic(`${scripts} scripts of ${requests} requests, crashes before ${stores} stores`);
      t.diagnostic(`${recoveries} recoveries, ${nested} of them from a crash in a recovery`);
    }

    for (const size of sizes) {
      const batches = Array.from({ length: size }, (_, i) => i + 1);

      test(`loses and repeats nothing in batches of 1 to ${size}`, (t) => {
        explore(
          t,
          batches.map((batch) =>
            scenario(size, batch, { kinds: SINGLES, rounds: Math.ceil((3 * size) / batch) + 2 }),
          ),
        );
      });

      test(`loses and repeats nothing of chains of up to three in a ring of ${size}`, (t) => {
        explore(
          t,
          batches.slice(0, 3).map((batch) => scenario(size, batch, { kinds: CHAINS })),
        );
      });

      test(`loses and repeats nothing of all kinds of requests in a ring of ${size}`, (t) => {
        explore(
          t,
          batches.slice(0, 3).map((batch) => scenario(size, batch, {})),
        );
      });
    }

    test("loses and repeats nothing with a region for a larger ring", (t) => {
      explore(t, [scenario(4, 2, { entries: 8 })]);
    });

    test("loses and repeats nothing when the region was not in use before", (t) => {
      explore(t, [scenario(4, 2, { untrackedRounds: 5 }), scenario(4, 2, { hasUninitializedRegion: true })]);
    });

    test("loses and repeats nothing when its successors are stopped before any store too", (t) => {
      explore(t, [scenario(4, 2, { isThorough: true, rounds: 6 })]);
    });

    test("leaves to its successor what it doesn't complete when it is suspended", (t) => {
      explore(t, [scenario(isPacked ? 7 : 8, 3, { suspends: true, kinds: SINGLES, rounds: 6 })]);
    });

    test("makes the calls that its predecessor didn't come to", (t) => {
      explore(t, [scenario(4, 2, { checksCalls: true })]);
    });

    for (const chains of ["repeat", "fail", "forget"] as const) {
      const size = isPacked ? 5 : 4;
      const device = { chains, kinds: CHAIN_KINDS };

      test(`loses nothing of a device of chains whose leftovers it is to ${chains}`, (t) => {
        explore(
          t,
          [1, 2, size].map((batch) => scenario(size, batch, device)),
        );
      });

      test(`brings what was parked again, where leftovers are to ${chains}`, (t) => {
        explore(
          t,
          [1, 3].map((batch) => scenario(size, batch, { ...device, parks: true })),
        );
      });

      test(`leaves to its successor what is cancelled or parked, where leftovers are to ${chains}`, (t) => {
        explore(t, [
          scenario(size, 2, { ...device, suspends: true }),
          scenario(size, 3, { ...device, suspends: true, parks: true }),
        ]);
      });
    }

    test("loses nothing of a device of chains when its successors are stopped before any store too", (t) => {
      explore(t, [
        scenario(4, 2, { chains: "fail", kinds: CHAIN_KINDS, parks: true, isThorough: true, rounds: 6 }),
      ]);
    });

    test("logs all that it and its predecessors have written", (t) => {
      explore(t, [
        scenario(4, 1, { isLogged: true }),
        scenario(4, 2, { isLogged: true, isThorough: true, rounds: 6 }),
        scenario(4, 2, { isLogged: true, chains: "repeat", kinds: CHAIN_KINDS }),
      ]);
    });

    // A packed ring's own indices lie in the region alone, so that one is believed.
    if (!isPacked) {
      test("begins anew with the region of a guest that was reset", (t) => {
        explore(t, [scenario(4, 2, { hasFormerLife: true, start: 0 })]);
      });
    }
  });
}
