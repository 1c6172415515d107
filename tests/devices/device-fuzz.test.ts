// Each device object among random guests, front-ends and host sides: each chain comes back once, rings stop, nothing is kept, and
// no exception gets out. `npm run fuzz -- --devices` does it for longer. VRINGD_TEST_SEED plays one life again.
import { test } from "node:test";
import { floodDevice, fuzzDevice } from "../fuzz/devices/run.ts";
import { limitTests } from "../support/bounded-test.ts";
import { DEVICE_TYPES } from "../support/device-programs.ts";
import { tellSeed } from "../support/random.ts";

/** Some seconds of work, on a machine that may have much else to do. */
limitTests(600_000);

const LIVES = Number(process.env.VRINGD_TEST_RUNS ?? 20);

for (const type of DEVICE_TYPES) {
  test(`${type} does what a device may, whatever it is told`, async (t) => {
    const { seed } = tellSeed(t);
    let chains = 0;
    for (let i = 0; i < LIVES; i++) chains += (await fuzzDevice(type, seed + i)).chains;
    t.diagnostic(`${LIVES} lives, ${chains} chains`);
  });

  test(`${type} keeps nothing of what it is told without end`, async (t) => {
    const { seed } = tellSeed(t);
    t.diagnostic((await floodDevice(type, seed)).join(", "));
  });
}
