// Upgrades under load of whatever can lie behind a disk, with each engine, and of other devices.
import assert from "node:assert/strict";
import { test } from "node:test";
import { limitTests } from "../support/bounded-test.ts";
import { ChainDriver, connectDevice } from "../support/chain-driver.ts";
import { startDevice } from "../support/device-programs.ts";
import { NbdServer, nbdUnavailable } from "../support/nbd-server.ts";
import { Random } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";
import { UpgradedDaemon, type UpgradedOptions, UpgradeRun } from "../support/upgraded.ts";

/** A process starts for each upgrade, which takes its time on a busy machine. */
limitTests(600_000);

const UPGRADES = 2;

async function upgrades(options: UpgradedOptions): Promise<void> {
  await using run = await UpgradeRun.start(options, new Random());
  await run.under(async () => {
    for (let i = 0; i < UPGRADES; i++) {
      await run.upgraded.upgrade();
      await run.progress();
    }
  });
  await run.upgraded.stop();
}

const DISKS: Record<string, UpgradedOptions> = {
  "a file, by threads": { args: ["--engine=threads"], queues: 2 },
  "a file, past the page cache": { args: ["--direct"], onDisk: true, queues: 2, packed: true },
  "a file that is limited": { args: ["--iops-total=400", "--iops-total-max=800"] },
  "an overlay": { overlay: true, image: false },
};

for (const [what, options] of Object.entries(DISKS)) {
  test(`a disk is upgraded that is ${what}`, () => upgrades(options));
}

test("a disk is upgraded that is an NBD export", { skip: skipWithout(nbdUnavailable()) }, async () => {
  await using server = await NbdServer.start({ args: () => ["memory", "8M"] });
  await upgrades({ blkFile: server.uri(), image: false, queues: 2 });
});

test("random numbers go on, and a request that waits for them does", async () => {
  const controlSocket = `@vringd-test-rng-${process.pid}`;
  await using daemon = await startDevice("rng", [`--control-socket=${controlSocket}`]);
  const upgraded = UpgradedDaemon.of(daemon, controlSocket);
  await using frontEnd = await connectDevice(daemon.socketPath, { queueSize: 16 });
  const driver = new ChainDriver(frontEnd, 0);
  for (let i = 0; i < UPGRADES; i++) {
    const before = driver.post([], [64]);
    await upgraded.upgrade();
    assert.equal((await driver.used(before)).bytes.length, 64);
    assert.equal((await driver.exchange([], [64])).length, 64);
  }
  await upgraded.stop();
});
