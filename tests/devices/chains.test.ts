// Chains of real rings on their way through the core to a device and back: credit, parking, failures, and hostile drivers.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { serve } from "vringd";
import type { Chain, DeviceHost, DeviceQueue, QueueSpec, VirtioDevice } from "../../host/devices/device.ts";
import { ChainDriver, connectDevice } from "../support/chain-driver.ts";
import { tellSeed } from "../support/random.ts";
import { until } from "../support/until.ts";

const REQUESTS = 0;
const EVENTS = 1;

/** Answers each request with its bytes in reverse; tells of events when a test says so. */
class Mirror implements VirtioDevice {
  readonly type = "mirror";
  readonly virtioId = 63;
  readonly features = 0n;
  readonly inflight = true;
  readonly queues: readonly QueueSpec[] = [
    { name: "requestq", credit: "all", recover: "repeat" },
    { name: "eventq", credit: "asked", recover: "forget" },
  ];
  readonly running = new Map<number, DeviceQueue>();
  readonly held = new Set<Chain>();
  host!: DeviceHost;
  /** Whether requests are answered, or held. */
  isHolding = false;
  concurrency = 8;

  attach(host: DeviceHost): void {
    this.host = host;
  }

  start(queue: DeviceQueue): void {
    this.running.set(queue.index, queue);
    if (queue.index === REQUESTS)
      queue.serve((chain) => this.answer(chain), { concurrency: this.concurrency });
  }

  stop({ index }: DeviceQueue): void {
    this.running.delete(index);
    if (index !== REQUESTS) return;
    for (const chain of this.held) chain.park();
    this.held.clear();
  }

  answer(chain: Chain): void {
    if (this.isHolding) {
      this.held.add(chain);
      return;
    }
    chain.out.bytes(chain.in.bytes(chain.in.left).reverse());
    chain.use();
  }
}

const FORMATS = [
  { name: "split", packed: false },
  { name: "packed", packed: true },
];

async function rig(
  t: TestContext,
  { packed = false, queueSize = 16, inflight = false, device = new Mirror() } = {},
) {
  const directory = mkdtempSync(join(tmpdir(), "vringd-chains-"));
  const socketPath = join(directory, "socket");
  const lines: string[] = [];
  const keep = (fields: object | string, sentence?: string) => lines.push(sentence ?? String(fields));
  const log = { error: keep, warn: keep, info: () => {}, debug: () => {} };
  const server = await serve({ device, socketPath, packed, log });
  const frontEnd = await connectDevice(socketPath, { packed, queues: 2, queueSize, inflight });
  t.after(async () => {
    frontEnd.close();
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return {
    device,
    server,
    frontEnd,
    lines,
    requests: new ChainDriver(frontEnd, REQUESTS),
    events: new ChainDriver(frontEnd, EVENTS),
  };
}

for (const { name, packed } of FORMATS) {
  describe(`a ${name} ring`, () => {
    test("brings each chain to its device once, and its answer back", async (t) => {
      const { requests, server } = await rig(t, { packed });
      const random = tellSeed(t);
      const lengths: number[] = [];
      for (let i = 0; i < 500; i++) {
        const readable = Array.from({ length: random.below(4) }, () =>
          Buffer.from(random.bytes(1 + random.below(300))),
        );
        const bytes = Buffer.concat(readable);
        const room = bytes.length > 0 ? [bytes.length + random.below(3), 1] : [7];
        const indirect = random.below(2) === 1;
        assert.deepEqual(await requests.exchange(readable, room, { indirect }), Buffer.from(bytes).reverse());
        lengths.push(bytes.length);
      }
      const { chains, bytesIn, bytesOut, failures } = server.stats();
      const sum = lengths.reduce((a, b) => a + b, 0);
      assert.deepEqual(
        { chains, bytesIn, bytesOut, failures },
        { chains: 500, bytesIn: sum, bytesOut: sum, failures: 0 },
      );
    });

    test("keeps what its device has not asked for, and costs it nothing", async (t) => {
      const { device, requests, events, frontEnd } = await rig(t, { packed });
      const posted = Array.from({ length: 16 }, () => events.post([], [8]));
      // The other queue goes on, whatever the first one holds.
      for (let i = 0; i < 50; i++) await requests.exchange([Buffer.from("go on")], [5]);
      assert.equal(events.outstanding, 16);
      const queue = device.running.get(EVENTS)!;
      for (const [i, each] of posted.entries()) {
        const chain = await queue.take();
        chain.out.u32(i);
        chain.use();
        const { bytes } = await events.used(each);
        assert.deepEqual([bytes.length, bytes.readUInt32LE()], [4, i]);
        assert.equal(events.outstanding, 15 - i);
      }
      assert.equal(frontEnd.queues[EVENTS]!.takeError(), false);
    });

    test("tells its device when there is a chain that it has asked for", async (t) => {
      const { device, events } = await rig(t, { packed });
      const queue = device.running.get(EVENTS)!;
      let calls = 0;
      queue.onAvailable(() => calls++);
      assert.equal(queue.tryTake(), undefined);
      await sleep(20);
      assert.equal(calls, 0);
      const posted = events.post([], [8]);
      await until(() => calls === 1, "the device is told");
      queue.tryTake()!.use(0);
      assert.equal((await events.used(posted)).length, 0);
    });

    test("never has more chains at its device than that serves at a time", async (t) => {
      const { device, requests } = await rig(t, { packed });
      device.isHolding = true;
      const posted = Array.from({ length: 16 }, (_, i) =>
        requests.post([Uint8Array.of(i)], [1], { indirect: true }),
      );
      await until(() => device.held.size === 8, "as many as it serves are there");
      await sleep(30);
      assert.equal(device.held.size, 8);
      device.isHolding = false;
      for (const chain of device.held) device.answer(chain);
      for (const each of posted) assert.equal((await requests.used(each)).length, 1);
    });

    for (const inflight of [true, false]) {
      const record = inflight ? "the front-end's record" : "a record of our own";
      test(`gets the same chains again, in order, when it stops and starts while its device holds them, by ${record}`, async (t) => {
        const { device, requests, frontEnd } = await rig(t, { packed, inflight });
        device.isHolding = true;
        const posted = [1, 2, 3].map((i) => requests.post([Uint8Array.of(i)], [1]));
        await until(() => device.held.size === 3, "they are held");
        const base = await frontEnd.stopQueue(REQUESTS);
        assert.equal(device.held.size, 0);
        await frontEnd.startQueue(REQUESTS, base);
        await until(() => device.held.size === 3, "they are back");
        assert.deepEqual(
          [...device.held].map((chain) => chain.in.u8()),
          [1, 2, 3],
        );
        device.isHolding = false;
        for (const chain of device.held) {
          chain.out.u8(9);
          chain.use();
        }
        device.held.clear();
        for (const each of posted) assert.deepEqual([...(await requests.used(each)).bytes], [9]);
        assert.equal(requests.outstanding, 0);
      });
    }

    test("that begins anew has none of what its device held before", async (t) => {
      const { device, requests, frontEnd } = await rig(t, { packed });
      device.isHolding = true;
      for (let i = 0; i < 3; i++) requests.post([Uint8Array.of(i)], [1]);
      await until(() => device.held.size === 3, "they are held");
      await frontEnd.renewQueue(REQUESTS);
      device.isHolding = false;
      const anew = new ChainDriver(frontEnd, REQUESTS);
      assert.deepEqual(await anew.exchange([Uint8Array.of(1, 2)], [2]), Buffer.of(2, 1));
      assert.equal(device.held.size, 0);
      assert.equal(frontEnd.queues[REQUESTS]!.takeError(), false);
    });

    test("stops at once though its device has asked for chains that never came", async (t) => {
      const { device, frontEnd } = await rig(t, { packed });
      const take = device.running.get(EVENTS)!.take();
      await Promise.all([assert.rejects(take, { name: "QueueStopped" }), frontEnd.stopQueue(EVENTS)]);
    });

    test("answers with length 0 what its device fails, and goes on", async (t) => {
      const { device, requests, lines, server } = await rig(t, { packed });
      const answer = device.answer;
      device.answer = () => assert.fail("not today");
      for (let i = 0; i < 20; i++)
        assert.equal((await requests.used(requests.post([Uint8Array.of(1)], [1]))).length, 0);
      device.answer = answer;
      assert.deepEqual(await requests.exchange([Uint8Array.of(1, 2)], [2]), Buffer.of(2, 1));
      assert.deepEqual(lines, ["the device has failed a request"]);
      assert.equal(server.stats().failures, 20);
    });
  });
}

/** Says so when it fails. */
class Complainer extends Mirror {
  override readonly queues: readonly QueueSpec[] = [
    {
      name: "requestq",
      credit: "all",
      recover: "repeat",
      fail(chain) {
        chain.out.u8(0xee);
        chain.use();
      },
    },
    { name: "eventq", credit: "asked", recover: "forget" },
  ];

  override answer(): void {
    assert.fail("not today");
  }
}

test("a failure that the driver is told of is no success in the statistics", async (t) => {
  const { requests, server } = await rig(t, { device: new Complainer() });
  for (let i = 0; i < 3; i++) assert.deepEqual(await requests.exchange([Buffer.of(1)], [4]), Buffer.of(0xee));
  const { chains, failures, bytesIn, bytesOut } = server.stats();
  assert.deepEqual(
    { chains, failures, bytesIn, bytesOut },
    { chains: 0, failures: 3, bytesIn: 0, bytesOut: 0 },
  );
});

/** Neither ends its stop, nor gives back what it holds. */
class Sleeper extends Mirror {
  override stop(): Promise<void> {
    return new Promise(() => {});
  }
}

test("a device that never stops holds up its front-end for a while only, and gets its chains again", async (t) => {
  const { device, requests, frontEnd, lines } = await rig(t, { device: new Sleeper() });
  device.isHolding = true;
  const posted = [1, 2].map((i) => requests.post([Uint8Array.of(i)], [1]));
  await until(() => device.held.size === 2, "they are held");
  const lost = [...device.held];
  const base = await frontEnd.stopQueue(REQUESTS);
  assert.deepEqual(lines, [
    "the device could not stop a queue",
    "the device held chains when its queue had to stop",
  ]);
  for (const chain of lost) chain.use(0);
  assert.equal(requests.outstanding, 2, "it was too late for that");
  device.held.clear();
  device.isHolding = false;
  await frontEnd.startQueue(REQUESTS, base);
  for (const [i, each] of posted.entries()) assert.deepEqual([...(await requests.used(each)).bytes], [i + 1]);
});
