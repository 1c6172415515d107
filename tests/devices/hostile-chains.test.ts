// Hostile drivers for every queue of every device: after each of them the daemon is the same, and serves the next one.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { VIRTIO_F_VERSION_1, VIRTQ_DESC_F_INDIRECT } from "../../assembly/spec/virtqueue.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { Memory } from "../../host/front-end/memory.ts";
import { signalEventfd } from "../../host/linux/eventfd.ts";
import { featureMask } from "../../host/protocol/feature-bits.ts";
import { VHOST_USER_F_PROTOCOL_FEATURES } from "../../host/protocol/messages.ts";
import { ChainDriver } from "../support/chain-driver.ts";
import { DEVICE_TYPES, likelyFor } from "../support/device-programs.ts";
import {
  allocatePlaces,
  type Bare,
  BREAKING_CHAINS,
  breakingRings,
  HOSTILE_LAYOUT,
  OVERLAPPING_CHAINS,
  offerRaw,
  type Places,
  STRANGE_CHAINS,
} from "../support/hostile-chains.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { type RawPackedRing, type RawSplitRing, rawRing } from "../support/raw-ring.ts";
import { RingTorment } from "../support/ring-torment.ts";
import { until } from "../support/until.ts";
import { HEADER, ROOM, Victim } from "../support/victim.ts";

/** The largest that front-ends have. */
const LARGE = 1024;
const SMALL = 16;
/** Stores of one round: about as long as the daemon takes for what was published. */
const STORES = 1500;
const ROUNDS = Number(process.env.VRINGD_TEST_RUNS ?? 6);
const KICKS = 3000;
/** For a queue of which nobody can tell whether the chain was taken. */
const LOOK_MS = 3;

const INDIRECT = VIRTQ_DESC_F_INDIRECT;

type Fate = "breaks the ring" | "comes back" | "anything";
type AnyRing = RawSplitRing | RawPackedRing;
type Write = (ring: AnyRing, places: Places, frontEnd: FrontEnd) => void;

for (const type of DEVICE_TYPES) {
  describe(`a hostile driver of ${type}`, { timeout: 900_000 }, () => {
    let victim: Victim;
    before(async () => {
      victim = await Victim.start(type);
    });
    after(() => victim[Symbol.asyncDispose]());

    const tormentsOf = (frontEnd: FrontEnd, random: Random) => tormentsFor(type, frontEnd, random);

    /** The same for each queue: a ring that nobody has used, what is written to it, and what must become of that. */
    async function strikeAll(frontEnd: FrontEnd, fate: Fate, write: Write): Promise<void> {
      for (let index = 0; index < victim.queueCount; index++) {
        const queue = frontEnd.queues[index]!;
        write(rawRing(queue), allocatePlaces(frontEnd, index, HEADER), frontEnd);
        queue.kick(true);
        const name = victim.summary.queues[index]!.name;
        if (!victim.takesAll(index) || fate === "anything") await sleep(LOOK_MS);
        else if (fate === "comes back") await until(() => queue.hasUsed(), `${name}: the chain comes back`);
        else await until(() => queue.takeError(), `${name}: the ring is broken`);
        if (fate === "comes back") assert.ok(!queue.takeError(), `${name}: the ring is broken`);
        await frontEnd.renewQueue(index);
      }
    }

    for (const packed of [false, true]) {
      const format = packed ? "packed" : "split";
      const connect = (queueSize: number) => victim.connect(packed, { queueSize, memory: HOSTILE_LAYOUT });

      async function strikeWithChain(
        fate: Fate,
        chain: (places: Places) => Bare[],
        directMax: number = LARGE,
      ): Promise<void> {
        await using frontEnd = await connect(LARGE);
        const offer =
          (isIndirect: boolean): Write =>
          (ring, places) =>
            offerRaw(frontEnd, ring, places, chain(places), isIndirect);
        const sample = chain(allocatePlaces(frontEnd, 0, HEADER));
        if (sample.length <= directMax) await strikeAll(frontEnd, fate, offer(false));
        if (sample.every(({ flags }) => (flags & INDIRECT) === 0))
          await strikeAll(frontEnd, fate, offer(true));
        frontEnd.close();
        await victim.isUnharmed(packed);
      }

      for (const [name, chain] of BREAKING_CHAINS) {
        test(`breaks its ${format} rings alone with ${name}`, () =>
          strikeWithChain("breaks the ring", chain));
      }

      for (const [name, chain] of STRANGE_CHAINS) {
        test(`gets back, by ${format} rings, ${name}`, () => strikeWithChain("comes back", chain));
      }

      for (const [name, chain] of OVERLAPPING_CHAINS) {
        test(`harms its own ${format} ring at most with ${name}`, () => strikeWithChain("anything", chain));
      }

      test(`breaks its ${format} rings alone with links that no chain has`, async () => {
        await using frontEnd = await connect(SMALL);
        const places = allocatePlaces(frontEnd, 0, HEADER);
        for (const [i] of breakingRings(rawRing(frontEnd.queues[0]!), places).entries())
          await strikeAll(frontEnd, "breaks the ring", (ring, at) => breakingRings(ring, at)[i]![1]());
        frontEnd.close();
        await victim.isUnharmed(packed);
      });

      for (const peer of ["nobody", "somebody who reads", "somebody who never reads"]) {
        test(`may write anything into its ${format} rings, with ${peer} at the host side`, async (t) => {
          const random = tellSeed(t);
          if (peer !== "nobody") victim.bringPeer(peer === "somebody who reads");
          await using frontEnd = await connect(SMALL);
          const torments = tormentsOf(frontEnd, random);
          for (let round = 0; round < ROUNDS; round++) for (const each of torments) await each.attack();
          frontEnd.close();
          await victim.isUnharmed(packed);
        });
      }

      test(`may change its ${format} rings and its requests while they are served`, async (t) => {
        const random = tellSeed(t);
        await using frontEnd = await connect(SMALL);
        for (const [index, torment] of tormentsOf(frontEnd, random).entries()) {
          for (let round = 0; round < ROUNDS; round++) {
            torment.spoil();
            frontEnd.queues[index]!.kick(true);
            scribble(rawRing(frontEnd.queues[index]!), random);
            torment.changeArena(STORES);
            await nextTurn();
            await frontEnd.renewQueue(index);
          }
        }
        frontEnd.close();
        await victim.isUnharmed(packed);
      });

      test(`may kick its ${format} rings for nothing, while it is served by them`, async () => {
        await using frontEnd = await connect(SMALL);
        for (let i = 0; i < KICKS; i++) for (const { kickFd } of frontEnd.queues) signalEventfd(kickFd);
        await victim.isHonestTo(frontEnd);
        frontEnd.close();
        await victim.isUnharmed(packed);
      });

      test(`may stop its ${format} rings amid their work, and start them again where they were`, async (t) => {
        const random = tellSeed(t);
        victim.bringPeer(false);
        await using frontEnd = await connect(SMALL);
        const torments = tormentsOf(frontEnd, random);
        for (let round = 0; round < ROUNDS; round++) {
          for (const [index, queue] of frontEnd.queues.entries()) {
            torments[index]!.spoil();
            queue.kick(true);
            if (random.below(2) === 0) await sleep(random.below(3));
            const base = await frontEnd.stopQueue(index);
            if (random.below(4) === 0) await frontEnd.renewQueue(index);
            else await frontEnd.startQueue(index, base);
          }
        }
        frontEnd.close();
        await victim.isUnharmed(packed);
      });

      test(`may leave amid the work of its ${format} rings`, async (t) => {
        const random = tellSeed(t);
        for (let round = 0; round < ROUNDS; round++) {
          if (round % 4 === 0) victim.bringPeer(false);
          await using frontEnd = await connect(SMALL);
          for (const each of tormentsOf(frontEnd, random)) each.spoil();
          for (const queue of frontEnd.queues) queue.kick(true);
          if (random.below(2) === 0) await sleep(random.below(3));
        }
        await victim.isUnharmed(packed);
      });

      test(`may take memory away amid the work of its ${format} rings`, async (t) => {
        const random = tellSeed(t);
        for (let round = 0; round < ROUNDS; round++) {
          victim.bringPeer(false);
          await using frontEnd = await connect(SMALL);
          for (const each of tormentsOf(frontEnd, random)) each.spoil();
          for (const queue of frontEnd.queues) queue.kick(true);
          // Last, that of the rings.
          for (const region of [...frontEnd.memory.regions].reverse())
            await frontEnd.remMemReg(region.description);
          const [region] = frontEnd.memory.regions;
          await frontEnd.addMemReg(region!.description, region!.fd);
          for (const queue of frontEnd.queues) queue.kick(true);
        }
        await victim.isUnharmed(packed);
      });
    }

    test("may start its queues before it has agreed on any feature", async () => {
      await using frontEnd = await FrontEnd.open(victim.daemon.socketPath);
      await frontEnd.setProtocolFeatures(await frontEnd.getProtocolFeatures());
      await frontEnd.shareMemory(new Memory(HOSTILE_LAYOUT));
      for (let index = 0; index < victim.queueCount; index++) {
        frontEnd.makeQueue(SMALL);
        await frontEnd.startQueue(index);
        assert.equal(await frontEnd.setVringEnable(index, true), 0n);
      }
      const drivers = frontEnd.queues.map((_, index) => new ChainDriver(frontEnd, index));
      const posted = drivers.map((driver) => driver.post([HEADER], ROOM));
      const own = victim.summary.features | featureMask([VHOST_USER_F_PROTOCOL_FEATURES, VIRTIO_F_VERSION_1]);
      for (const features of [own, 0n, own]) assert.equal(await frontEnd.setFeatures(features), 0n);
      for (const [index, driver] of drivers.entries())
        if (victim.takesAll(index)) await driver.used(posted[index]!);
      frontEnd.close();
      await victim.isUnharmed(false);
    });
  });

  test(`whatever a driver of ${type} does, it takes a few lines of the log`, async (t) => {
    const random = tellSeed(t);
    await using victim = await Victim.start(type, []);
    const start = performance.now();
    await using frontEnd = await victim.connect(false, { queueSize: SMALL, memory: HOSTILE_LAYOUT });
    victim.bringPeer(false);
    for (const torment of tormentsFor(type, frontEnd, random)) {
      for (let i = 0; i < 10 * ROUNDS; i++) await torment.attack();
    }
    frontEnd.close();
    await victim.daemon.stop();
    // Ten of a kind at once, and then one in ten seconds; the last of those left out comes at the end.
    const most = 12 + (performance.now() - start) / 10_000;
    const kinds = new Map<string, number>();
    for (const line of victim.daemon.log) {
      const sentence = line.replace(/^\S+ \S+ \w+ +/, "").replace(/ {2}.*$/, "");
      kinds.set(sentence, (kinds.get(sentence) ?? 0) + 1);
    }
    t.diagnostic([...kinds].map(([kind, count]) => `${count} ${kind}`).join("; "));
    for (const [kind, count] of kinds) assert.ok(count <= most, `${count} lines: ${kind}`);
    assert.ok(kinds.size < 20, `${kinds.size} kinds of lines`);
  });
}

function tormentsFor(type: string, frontEnd: FrontEnd, random: Random): RingTorment[] {
  const likely = likelyFor(type);
  return frontEnd.queues.map((_, index) => new RingTorment(frontEnd, index, random, undefined, likely));
}

/** Descriptors change places, whole and by halves. */
function scribble({ descriptors }: AnyRing, random: Random): void {
  const words = new BigUint64Array(descriptors.buffer, descriptors.byteOffset, descriptors.byteLength / 8);
  for (let i = 0; i < STORES; i++)
    Atomics.store(words, random.below(words.length), words[random.below(words.length)]!);
}
