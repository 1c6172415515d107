// Fuzzes a device of each type for a while: another object each time, with somebody at its host side or without.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { hasPeer, likelyFor, openDevice, peerOf } from "../../support/device-programs.ts";
import { Random } from "../../support/random.ts";
import { DeviceFuzz, type FuzzTotals, type StepName } from "./device-fuzz.ts";

const STEPS = 400;
/** Steps of one kind that a guest may do without end. */
const FLOODS: readonly [step: StepName, times: number][] = [
  ["offer", 4000],
  ["writeConfig", 80_000],
  ["writeWholeConfig", 80_000],
  ["negotiate", 40_000],
  ["message", 2000],
];
/** What is bounded is full after some floods, and then one of them leaves less than this. */
const GROWTH_MAX = 1 << 20;
const ROUNDS_MAX = 5;

type Peer = "nobody" | "reads" | "never reads";
const PEERS: readonly Peer[] = ["nobody", "reads", "never reads"];

/** One life of a device. `seed` says all of it. */
export async function fuzzDevice(type: string, seed: number): Promise<FuzzTotals> {
  const random = new Random(seed);
  return withDevice(type, random, random.pick(PEERS), async (fuzz, dismissPeer) => {
    await fuzz.play(STEPS);
    dismissPeer();
    await fuzz.isStillHonest();
    return fuzz.totals;
  });
}

/** Throws where a device keeps something of what a guest can do without end. Resolves with what each kind of step has left. */
export async function floodDevice(type: string, seed: number): Promise<string[]> {
  const left: string[] = [];
  for (const peer of hasPeer(type) ? PEERS : (["nobody"] as const)) {
    for (const [step, times] of FLOODS) {
      const grown = await withDevice(type, new Random(seed), peer, (fuzz) => growth(fuzz, step, times));
      left.push(`${step} (peer: ${peer}) ${Math.round(grown / 1024)} KiB`);
      if (grown > GROWTH_MAX)
        throw new Error(`${type} keeps what it is told: ${left.at(-1)} after ${times} times`);
    }
  }
  return left;
}

/** How many bytes the last of some floods has left behind. */
async function growth(fuzz: DeviceFuzz, step: StepName, times: number): Promise<number> {
  await fuzz.flood(step, times / 10);
  let grown = 0;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const before = await heldBytes();
    await fuzz.flood(step, times);
    grown = (await heldBytes()) - before;
    if (grown <= GROWTH_MAX) break;
  }
  return grown;
}

async function withDevice<T>(
  type: string,
  random: Random,
  peerKind: Peer,
  act: (fuzz: DeviceFuzz, dismissPeer: () => void) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "vringd-fuzz-"));
  const device = await openDevice(type, directory);
  const peer = peerKind === "nobody" ? undefined : peerOf(type, directory, peerKind === "reads");
  const dismissPeer = () => peer?.close();
  const fuzz = new DeviceFuzz(device, random, likelyFor(type));
  try {
    return await act(fuzz, dismissPeer);
  } finally {
    fuzz.close();
    dismissPeer();
    await device.close?.();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What is in use once all garbage is gone. */
async function heldBytes(): Promise<number> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let i = 0; i < 3; i++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
