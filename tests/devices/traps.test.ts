// What front-ends do to any device, each in its own way: config space, ring sizes, queues that never start, bits that nobody offered.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { VIRTQ_SIZE_MAX } from "../../assembly/spec/virtqueue.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { encodeU64 } from "../../host/protocol/codec.ts";
import * as m from "../../host/protocol/messages.ts";
import { ChainDriver } from "../support/chain-driver.ts";
import { DEVICE_TYPES, summaryOf } from "../support/device-programs.ts";
import { until } from "../support/until.ts";
import { bitsOf, HEADER, ROOM, Victim } from "../support/victim.ts";

/** QEMU's: input has 4 in one release and 1,024 in another. The last is the specification's largest. */
const SIZES = [4, 8, 16, 64, 128, 256, 512, 1024, VIRTQ_SIZE_MAX];
const ODD_SIZES = [5, 7, 100, 1000];
const CONFIG_MAX = 256;

const { VHOST_USER_PROTOCOL_F_CONFIG: CONFIG } = m;

for (const type of DEVICE_TYPES) {
  const { configBytes, isConfigWritable } = await summaryOf(type);
  describe(`a device of ${type}`, { timeout: 900_000 }, () => {
    let victim: Victim;
    before(async () => {
      victim = await Victim.start(type);
    });
    after(() => victim[Symbol.asyncDispose]());

    test("offers CONFIG if it has a config space, and else not", async () => {
      await using frontEnd = await victim.connect(false);
      assert.equal(bitsOf(frontEnd.offeredProtocolFeatures!).includes(CONFIG), configBytes !== undefined);
    });

    if (configBytes === undefined) {
      test("refuses requests about a config space that it has not", async () => {
        await using frontEnd = await victim.connect(false);
        assert.equal(await frontEnd.getConfig(0, 4), undefined);
        assert.notEqual(await frontEnd.setConfig({ offset: 0, flags: 0, bytes: Buffer.alloc(4) }), 0n);
        await victim.isHonestTo(frontEnd);
      });
    } else {
      testConfig(() => victim, configBytes, isConfigWritable);
    }

    for (const packed of [false, true]) {
      const format = packed ? "packed" : "split";
      const sizes = packed ? [...SIZES, ...ODD_SIZES] : SIZES;

      test(`serves ${format} rings of every size, up to the last entry`, async () => {
        for (const queueSize of sizes) {
          await using frontEnd = await victim.connect(packed, { queueSize });
          for (let index = 0; index < victim.queueCount; index++) {
            const driver = new ChainDriver(frontEnd, index);
            const count = Math.min(queueSize, 64);
            const posted = Array.from({ length: count }, () =>
              driver.post([HEADER], ROOM, { indirect: true }),
            );
            if (victim.takesAll(index)) for (const each of posted) await driver.used(each);
          }
          frontEnd.close();
          await victim.serves(packed, { queueSize });
        }
      });

      test(`serves whichever ${format} ring is started, though no other ever is`, async () => {
        for (let started = 0; started < victim.queueCount; started++) {
          await using frontEnd = await victim.connect(packed, { queues: 0 });
          for (let index = 0; index < victim.queueCount; index++) frontEnd.makeQueue(16);
          await frontEnd.startQueue(started);
          const driver = new ChainDriver(frontEnd, started);
          const posted = driver.post([HEADER], ROOM);
          if (victim.takesAll(started)) await driver.used(posted);
          assert.ok(!frontEnd.queues[started]!.takeError());
          // Of rings that never ran too, front-ends ask where they are.
          for (let index = 0; index < victim.queueCount; index++) await frontEnd.stopQueue(index);
        }
        await victim.isUnharmed(packed);
      });

      test(`answers every chain of ${format} rings that are full of them`, async () => {
        await using frontEnd = await victim.connect(packed, { queueSize: 4 });
        for (let index = 0; index < victim.queueCount; index++) {
          if (!victim.takesAll(index)) continue;
          const driver = new ChainDriver(frontEnd, index);
          for (let lap = 0; lap < 5; lap++) {
            const posted = Array.from({ length: 4 }, () => driver.post([HEADER], [], { indirect: true }));
            for (const each of posted) await driver.used(each);
          }
          // Longer than the ring.
          const { length } = await driver.used(
            driver.post(Array(6).fill(Buffer.of(0)), Array(6).fill(8), { indirect: true }),
          );
          assert.ok(length <= 48);
        }
      });
    }

    test("refuses rings of sizes that no ring has", async () => {
      await using frontEnd = await victim.connect(false, { queues: 0 });
      for (const size of [0, 1, 3, 5, 33, VIRTQ_SIZE_MAX + 1, 0xffff_ffff]) {
        for (let index = 0; index < victim.queueCount; index++)
          assert.notEqual(await frontEnd.setVringNum(index, size), 0n, `${size} entries`);
      }
      frontEnd.close();
      await victim.isUnharmed(false);
    });

    test("takes bits that it ignores, and refuses all others that it has not offered, with a sentence", async () => {
      await using frontEnd = await victim.connect(false);
      const { backendFeatures: offered, features } = frontEnd;
      const { ignoredFeatures } = victim.summary;
      for (const bit of bitsOf((2n ** 64n - 1n) & ~offered)) {
        const mask = 1n << BigInt(bit);
        const isIgnored = (ignoredFeatures & mask) !== 0n;
        const linesBefore = victim.daemon.linesLike(/request refused/).length;
        const answer = await frontEnd.setFeatures(features | mask);
        assert.equal(answer === 0n, isIgnored, `bit ${bit}`);
        if (isIgnored) continue;
        const lines = () => victim.daemon.linesLike(/request refused/);
        await until(() => lines().length > linesBefore, "a log line");
        assert.match(lines().at(-1)!, new RegExp(`bits 0x${mask.toString(16)} were not offered`));
      }
      assert.equal(await frontEnd.setFeatures(features), 0n);
      await victim.isHonestTo(frontEnd);
    });

    test("refuses protocol features that it has not offered", async () => {
      for (const bit of [...Array(64).keys()]) {
        await using frontEnd = await FrontEnd.open(victim.daemon.socketPath);
        const offered = await frontEnd.getProtocolFeatures();
        if ((offered >> BigInt(bit)) & 1n) continue;
        await frontEnd.raw(m.VHOST_USER_SET_PROTOCOL_FEATURES, encodeU64(offered | (1n << BigInt(bit))));
        // There is no acknowledgement before REPLY_ACK is agreed on: the connection ends.
        assert.equal(await frontEnd.receive(), undefined, `bit ${bit}`);
      }
      await victim.isUnharmed(false);
    });
  });
}

/** Of a device that has a config space. */
function testConfig(victimNow: () => Victim, configBytes: number, isConfigWritable: boolean): void {
  test("shows its config space by bytes as it shows it whole", async () => {
    await using frontEnd = await victimNow().connect(false);
    const whole = (await frontEnd.getConfig(0, CONFIG_MAX))!;
    for (let offset = 0; offset < CONFIG_MAX; offset += offset > configBytes ? 31 : 1)
      assert.deepEqual(await frontEnd.getConfig(offset, 1), whole.subarray(offset, offset + 1), `${offset}`);
    assert.deepEqual(whole.subarray(configBytes), Buffer.alloc(CONFIG_MAX - configBytes));
  });

  test("takes its config space back whole, as it was read, or says that a driver may write none of it", async () => {
    await using frontEnd = await victimNow().connect(false);
    const whole = (await frontEnd.getConfig(0, configBytes))!;
    const answer = await frontEnd.setConfig({ offset: 0, flags: 0, bytes: whole });
    assert.equal(answer === 0n, isConfigWritable);
    assert.deepEqual(await frontEnd.getConfig(0, configBytes), whole);
    await victimNow().isHonestTo(frontEnd);
  });

  test("may be told any byte of its config space, and beyond it", async () => {
    await using frontEnd = await victimNow().connect(false);
    for (let offset = 0; offset <= configBytes; offset++) {
      for (const value of [0, 0x41]) {
        const answer = await frontEnd.setConfig({ offset, flags: 0, bytes: Buffer.of(value) });
        if (offset === configBytes) assert.notEqual(answer, 0n, "past the end");
      }
    }
    await victimNow().isHonestTo(frontEnd);
    frontEnd.close();
    await victimNow().isUnharmed(false);
  });
}
