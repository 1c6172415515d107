// A queue as its device sees it, without a core: what is asked of the core, and what becomes of each chain, once.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { CHAIN_FAILED, CHAIN_PARKED } from "../../assembly/abi/chain.ts";
import type { HeldChain } from "../../host/chains/chain.ts";
import { type Arrival, ChainQueue } from "../../host/chains/queue.ts";
import { type Chain, type QueueSpec, QueueStopped } from "../../host/devices/device.ts";
import { PATIENCE_MS } from "../../host/devices/patience.ts";
import { type Log, SILENT } from "../../host/process/log.ts";

const SPEC: QueueSpec = { name: "requestq", credit: "all", recover: "repeat" };
const ECANCELED = -125;
const EIO = -5;

/** A queue whose credit is counted, and whose log lines are kept. */
function rig(spec: Partial<QueueSpec> = {}) {
  let credit = 0;
  const lines: string[] = [];
  const keep = (first: object | string, sentence?: string) => {
    const { err, reason } = first as { err?: Error; reason?: string };
    lines.push(`${sentence}: ${reason ?? err?.message}`);
  };
  const log: Log = { ...SILENT, warn: keep, error: keep };
  const count = {
    set(n: number) {
      credit = n;
    },
    add(n: number) {
      credit += n;
    },
  };
  const queue = new ChainQueue(0, 8, { ...SPEC, ...spec }, count, log);
  const answers: number[] = [];
  /** As the core would: only where there is credit. */
  const arrive = (readable = [1, 2, 3], room = 4, arrival: Arrival = "serve") => {
    assert.ok(credit > 0, "the core takes chains only where it may");
    credit--;
    const writable = new Uint8Array(room);
    const buffers = { readable: [Uint8Array.from(readable)], writable: [writable] };
    const held = queue.arrive(buffers, arrival, (result) => answers.push(result));
    return { held, writable };
  };
  return { queue, answers, lines, arrive, credit: () => credit };
}

test("serve() gives credit for as many chains as it may hold, and again for each that is used", () => {
  const { queue, arrive, answers, credit } = rig();
  const held: Chain[] = [];
  queue.serve((chain) => void held.push(chain), { concurrency: 3 });
  assert.equal(credit(), 3);
  arrive();
  arrive();
  assert.equal(credit(), 1);
  held[1]!.out.u16(0x0201);
  held[1]!.use();
  assert.equal(credit(), 2);
  assert.deepEqual(answers, [2]);
});

test("serve() never holds more chains than the ring has", () => {
  const { queue, credit } = rig();
  queue.serve(() => {}, { concurrency: Number.POSITIVE_INFINITY });
  assert.equal(credit(), 8);
});

test("take() asks for one chain each, and they come in order", async () => {
  const { queue, arrive, credit } = rig();
  const takes = [queue.take(), queue.take()];
  assert.equal(credit(), 2);
  arrive([7]);
  arrive([8]);
  const [first, second] = await Promise.all(takes);
  assert.deepEqual([first!.in.u8(), second!.in.u8()], [7, 8]);
  assert.equal(credit(), 0);
  first!.use();
  assert.equal(credit(), 0, "who has asked for nothing more gets nothing more");
});

test("tryTake() asks once however often it is called, and tells when it has one", () => {
  const { queue, arrive, credit } = rig();
  let told = 0;
  queue.onAvailable(() => told++);
  for (let i = 0; i < 5; i++) assert.equal(queue.tryTake(), undefined);
  assert.equal(credit(), 1);
  arrive([9]);
  assert.equal(told, 1);
  assert.equal(queue.tryTake()!.in.u8(), 9);
  assert.equal(credit(), 0);
});

test("a queue is served in one way only", () => {
  const { queue } = rig();
  queue.serve(() => {});
  assert.throws(() => queue.serve(() => {}), /served already/);
  assert.throws(() => queue.tryTake(), /served already/);
  assert.throws(() => queue.take(), /served already/);
});

test("a second use() throws, and so does park() after it, and the driver hears once", () => {
  const { queue, arrive, answers } = rig();
  const held: Chain[] = [];
  queue.serve((chain) => void held.push(chain));
  arrive();
  held[0]!.use(1);
  assert.throws(() => held[0]!.use(), /twice/);
  assert.throws(() => held[0]!.park(), /twice/);
  assert.throws(() => held[0]!.in.u8(), /given back/);
  assert.deepEqual(answers, [1]);
});

test("more than there is room for can't have been written", () => {
  const { queue, arrive, answers } = rig();
  const held: Chain[] = [];
  queue.serve((chain) => void held.push(chain));
  arrive();
  for (const byteLength of [5, -1, 0.5]) assert.throws(() => held[0]!.use(byteLength), RangeError);
  held[0]!.use(4);
  assert.deepEqual(answers, [4]);
});

test("a chain is parked only while its ring stops", () => {
  const { queue, arrive, answers } = rig();
  const held: Chain[] = [];
  queue.serve((chain) => void held.push(chain));
  arrive();
  assert.throws(() => held[0]!.park(), /only while its ring stops/);
  queue.stop();
  held[0]!.park();
  assert.deepEqual(answers, [CHAIN_PARKED]);
});

test("a ring that stops takes nothing more, parks what nobody has taken, and rejects who waits", async () => {
  const { queue, arrive, answers, credit } = rig();
  queue.tryTake();
  arrive();
  queue.stop();
  assert.equal(credit(), 0);
  assert.deepEqual(answers, [CHAIN_PARKED]);
  assert.equal(queue.tryTake(), undefined);
  await assert.rejects(queue.take(), QueueStopped);

  const other = rig();
  const take = other.queue.take();
  other.queue.stop();
  await assert.rejects(take, QueueStopped);
});

test("credit is not given back to a ring that stops", () => {
  const { queue, arrive, credit } = rig();
  const held: Chain[] = [];
  queue.serve((chain) => void held.push(chain));
  arrive();
  queue.stop();
  held[0]!.use();
  assert.equal(credit(), 0);
});

for (const [how, handle] of [
  ["throws", () => assert.fail("the device's mistake")],
  ["rejects", async () => assert.fail("the device's mistake")],
] as const) {
  test(`a handler that ${how} fails its chain, and is told once a kind`, async () => {
    const { queue, arrive, answers, lines } = rig();
    queue.serve(handle);
    for (let i = 0; i < 3; i++) {
      arrive();
      await nextTurn();
    }
    assert.deepEqual(answers, [EIO, EIO, EIO]);
    assert.deepEqual(lines, ["the device has failed a request: the device's mistake"]);
  });
}

test("a chain that is too short is the driver's fault: failed, and told once", () => {
  const { queue, arrive, answers, lines } = rig();
  queue.serve((chain) => chain.use(Number(chain.in.u64())));
  arrive();
  arrive([1]);
  assert.deepEqual(answers, [EIO, EIO]);
  assert.deepEqual(lines, ["the driver's chain is too short: 8 bytes of a chain with 3 left"]);
});

test("a failure looks as the queue says, from the beginning of the buffers", () => {
  const fail = (chain: Chain) => {
    chain.out.u8(chain.in.u8());
    chain.use();
  };
  const { queue, arrive, answers } = rig({ fail });
  queue.serve((chain) => {
    chain.in.u16();
    chain.out.u16(0xffff);
    throw new Error("half-way");
  });
  const { writable } = arrive([0x42, 2]);
  assert.deepEqual(answers, [CHAIN_FAILED + 1], "it is counted as one");
  assert.equal(writable[0], 0x42);
});

test("a fail() that fails itself, or forgets the chain, does not keep it", () => {
  for (const fail of [() => assert.fail("again"), () => {}]) {
    const { queue, arrive, answers } = rig({ fail });
    queue.serve(() => assert.fail("first"));
    arrive();
    assert.deepEqual(answers, [EIO]);
  }
});

test("a leftover that must fail never reaches the device, and what was asked for is still wanted", async () => {
  const { queue, arrive, answers, credit } = rig({ recover: "fail" });
  const take = queue.take();
  arrive([1], 1, "fail");
  assert.deepEqual(answers, [EIO]);
  assert.equal(credit(), 1);
  arrive([5]);
  assert.equal((await take).in.u8(), 5);

  const served = rig({ recover: "fail" });
  served.queue.serve(() => assert.fail("it must not be done"), { concurrency: 2 });
  served.arrive([1], 1, "fail");
  assert.equal(served.credit(), 2);
});

test("a handler that ends without using its chain is told so, and the driver gets an answer", async () => {
  const { queue, arrive, answers, lines } = rig();
  queue.serve(async () => {});
  arrive();
  await nextTurn();
  assert.deepEqual(answers, [EIO]);
  assert.match(lines[0]!, /ended without using its chain/);
});

test("a chain that nobody refers to any more is found, and the driver gets an answer", async () => {
  const { queue, arrive, answers, lines } = rig();
  queue.serve(() => {});
  arrive();
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let i = 0; i < 100 && answers.length === 0; i++) {
    collect();
    await nextTurn();
  }
  assert.deepEqual(answers, [EIO]);
  assert.match(lines[0]!, /a chain was lost/);
});

test("a chain that the core takes back is no longer the device's, which needs not know", async () => {
  const { queue, arrive, answers, lines } = rig();
  let goOn = () => {};
  queue.serve(async (chain) => {
    await new Promise<void>((resolve) => {
      goOn = resolve;
    });
    chain.out.u8(1);
    chain.use();
  });
  const { held, writable } = arrive();
  held.withdraw();
  assert.deepEqual(answers, [ECANCELED]);
  goOn();
  await nextTurn();
  assert.deepEqual([answers, lines], [[ECANCELED], []]);
  assert.equal(writable[0], 0);
});

test("a chain is not taken back from a device that has its buffers in place: guest memory must stay until it is used", () => {
  const { queue, arrive, answers } = rig();
  const chains: Chain[] = [];
  queue.serve((chain) => void chains.push(chain));
  const { held } = arrive();
  const [view] = chains[0]!.out.views(2);
  (held as HeldChain).withdraw();
  assert.deepEqual(answers, []);
  view!.fill(7);
  chains[0]!.use();
  assert.deepEqual(answers, [2]);
});

test("what a device still holds when its time is up is parked for it, and what it does then is in vain", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { queue, arrive, answers, lines } = rig();
  const chains: Chain[] = [];
  queue.serve((chain) => void chains.push(chain), { concurrency: 4 });
  arrive();
  const { writable } = arrive();
  arrive();
  queue.stop();
  queue.awaitRest();
  chains[0]!.use(1);
  const [view] = chains[2]!.out.views(1);
  t.mock.timers.tick(PATIENCE_MS);
  assert.deepEqual(answers, [1, CHAIN_PARKED], "not one of which it may be writing into guest memory");
  assert.equal(lines.length, 2);
  chains[1]!.use();
  assert.throws(() => chains[1]!.out.u8(1), QueueStopped);
  assert.equal(writable[0], 0);
  view!.fill(7);
  chains[2]!.use();
  assert.deepEqual(answers, [1, CHAIN_PARKED, 1]);
});

test("a device that has let go in time hears no more of its stop", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { queue, arrive, answers, lines } = rig();
  const chains: Chain[] = [];
  queue.serve((chain) => void chains.push(chain));
  arrive();
  queue.stop();
  queue.awaitRest();
  chains[0]!.park();
  t.mock.timers.tick(PATIENCE_MS);
  assert.deepEqual([answers, lines], [[CHAIN_PARKED], []]);
});
