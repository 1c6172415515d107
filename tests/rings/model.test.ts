// Random drivers against plain models of a block device and of a queue of chains: what they see is the same. VRINGD_TEST_RUNS plays more scripts
// than usual; VRINGD_TEST_SEED and VRINGD_TEST_PATH, which a failure names, play one again.
import { describe, test } from "node:test";
import fc from "fast-check";
import { ChainRun } from "../support/chain-run.ts";
import { type ChainScript, chainScripts } from "../support/chain-script.ts";
import { compileDebugCore } from "../support/debug-core.ts";
import { CoreDevice, createCore } from "../support/model-core.ts";
import { DaemonDevice, startModelDaemon } from "../support/model-daemon.ts";
import { type Device, ModelRun } from "../support/model-run.ts";
import { type Script, type Setup, scripts } from "../support/model-script.ts";

const { VRINGD_TEST_RUNS, VRINGD_TEST_SEED, VRINGD_TEST_PATH } = process.env;

const RUNS = Number(VRINGD_TEST_RUNS ?? 1500);
const STEPS = 80;
const TIMEOUT_MS = 480_000;

function parameters<T = Script>(share: number): fc.Parameters<[T]> {
  return {
    numRuns: Math.ceil(RUNS * share),
    ...(VRINGD_TEST_SEED !== undefined && { seed: Number(VRINGD_TEST_SEED) }),
    ...(VRINGD_TEST_PATH !== undefined && { path: VRINGD_TEST_PATH }),
  };
}

type Open = (setup: Setup) => Promise<Device & { close(): void }>;

/** Returns how many requests were made in all. */
async function play(all: fc.Arbitrary<Script>, share: number, open: Open): Promise<number> {
  let requests = 0;
  const property = fc.asyncProperty(all, async ({ setup, steps }) => {
    const device = await open(setup);
    try {
      requests += await new ModelRun(device).play(steps);
    } finally {
      device.close();
    }
  });
  await fc.assert(property, parameters(share));
  return requests;
}

test("the core is to any driver what a block device must be", { timeout: TIMEOUT_MS }, async (t) => {
  const core = createCore(await compileDebugCore());
  const requests = await play(
    scripts(STEPS, { isLive: true }),
    1,
    async (setup) => new CoreDevice(core, setup),
  );
  t.diagnostic(`${requests} requests`);
});

test("the core brings each chain to its device, and back once", { timeout: TIMEOUT_MS }, async (t) => {
  const core = createCore(await compileDebugCore());
  let chains = 0;
  const property = fc.property(chainScripts(STEPS), ({ setup, steps }) => {
    const run = new ChainRun(core, setup);
    try {
      chains += run.play(steps);
    } finally {
      run.close();
    }
  });
  fc.assert(property, parameters<ChainScript>(2));
  t.diagnostic(`${chains} chains`);
});

for (const engine of ["io_uring", "threads"]) {
  describe(`a daemon of ${engine} is to any driver what a block device must be`, () => {
    for (const [name, crashes, share] of [
      ["from day to day", false, 1 / 30],
      ["through crashes", true, 1 / 300],
    ] as const) {
      test(name, { timeout: TIMEOUT_MS }, async (t) => {
        await using daemon = await startModelDaemon(engine);
        const requests = await play(scripts(STEPS, { crashes }), share, (setup) =>
          DaemonDevice.connect(daemon, setup),
        );
        t.diagnostic(`${requests} requests`);
      });
    }
  });
}
