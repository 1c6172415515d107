// Front-ends that come, go, change their minds and vanish, and the daemon that has to outlive them.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { VIRTIO_F_RING_EVENT_IDX } from "../../assembly/spec/virtqueue.ts";
import { SplitRing } from "../../host/driver/split.ts";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import { DEFAULT_LAYOUT, Memory } from "../../host/front-end/memory.ts";
import { openConnection } from "../../host/front-end/requests.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../../host/linux/eventfd.ts";
import { close } from "../../host/linux/libc.ts";
import { listenUnix, unixPair } from "../../host/linux/unix-socket.ts";
import { encodeMessage } from "../../host/protocol/codec.ts";
import { VHOST_USER_F_PROTOCOL_FEATURES, VHOST_USER_GET_FEATURES } from "../../host/protocol/messages.ts";
import { type Footprint, footprint, settledFds } from "../support/footprint.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { tellSeed } from "../support/random.ts";
import { randomReads } from "../support/random-reads.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const CYCLES = 200;
/** Before the first measurement: heaps and pools have grown to what they need by then. */
const WARM_UP_CYCLES = 40;
const ROUNDS = 3;

/** Long enough to see that nothing happens. */
const QUIET_MS = 150;

/** A load that nobody waits for, since it ends with the front-end or the daemon. */
function startLoad(frontEnd: FrontEnd, queueIndex = 0): Promise<unknown> {
  const load = randomReads(frontEnd.disk(queueIndex), 1_000_000, 32, 4096, { stallTimeoutMs: 200 });
  return load.catch((error: unknown) => error);
}

const isPending = async (promise: Promise<unknown>) =>
  (await Promise.race([promise.then(() => "settled"), sleep(QUIET_MS, "pending")])) === "pending";

const hasGrown = (before: Footprint, after: Footprint) =>
  after.mappings >= before.mappings + CYCLES / 2 || after.rssKiB >= before.rssKiB + (32 << 10);

for (const engine of ["io_uring", "threads"]) {
  describe(`front-ends of ${engine}`, { timeout: 120_000 }, () => {
    let daemon: Vringd;

    before(async () => {
      daemon = await Vringd.start({
        // Front-ends that come and go are counted by their lines, of which there must be all.
        args: [`--engine=${engine}`, "--packed", "--num-queues=4", "--threads=2", "--log-level=debug"],
      });
    });
    after(() => daemon[Symbol.asyncDispose]());

    const connect = (options: FrontEndOptions = {}) => FrontEnd.connect(daemon.socketPath, options);

    /** Negotiated, with memory and one queue of which the daemon knows nothing yet. */
    async function connectWithoutQueue(options: FrontEndOptions = {}): Promise<FrontEnd> {
      const frontEnd = await FrontEnd.open(daemon.socketPath);
      await frontEnd.negotiate(options);
      await frontEnd.shareMemory(new Memory(DEFAULT_LAYOUT));
      frontEnd.makeQueue();
      return frontEnd;
    }

    describe("leave it as it was", () => {
      const partings: [name: string, part: (frontEnd: FrontEnd) => Promise<void>][] = [
        [
          "when they leave at rest",
          async (frontEnd) => {
            await frontEnd.disk().read(0, 8);
          },
        ],
        [
          "when they leave with requests in flight",
          async (frontEnd) => {
            void startLoad(frontEnd, 0);
            void startLoad(frontEnd, 1);
            await sleep(3);
          },
        ],
      ];
      for (const [name, part] of partings) {
        test(`${CYCLES} times, ${name}`, async (t) => {
          let left = daemon.linesLike(/front-end left/).length;
          const cycle = async (count: number) => {
            for (let i = 0; i < count; i++) {
              const frontEnd = await connect({ queues: 2, packed: i % 2 === 1 });
              await part(frontEnd);
              frontEnd.close();
              left++;
              await until(() => daemon.linesLike(/front-end left/).length >= left, "the front-end has left");
            }
          };
          await cycle(WARM_UP_CYCLES);
          let before = footprint(daemon);
          let after = before;
          // Heaps and compilers take memory in bursts, a leak takes it with each front-end: one round without is enough.
          for (let round = 0; round === 0 || (round < ROUNDS && hasGrown(before, after)); round++) {
            before = after;
            await cycle(CYCLES);
            after = footprint(daemon);
          }
          t.diagnostic(`before ${JSON.stringify(before)}, after ${JSON.stringify(after)}`);
          assert.equal(after.fds, before.fds);
          assert.equal(after.threads, before.threads);
          assert.equal(after.guestMappings, 0);
          assert.equal(after.fileMappings, before.fileMappings);
          assert.ok(!hasGrown(before, after), `${ROUNDS} rounds of ${CYCLES} front-ends, and it still grows`);
        });
      }
    });

    test("wait with their rings until the one before has left", async () => {
      const first = await connect();
      const second = await connectWithoutQueue();
      const started = second.startQueue(0);
      assert.ok(await isPending(started), "the second was served beside the first");
      await first.disk().read(0, 8);
      first.close();
      await started;
      await second.disk().read(0, 8);
      second.close();
    });

    test("may vanish at any byte of the handshake", async (t) => {
      const recorder = new Recorder(await openConnection(daemon.socketPath));
      await recorder.negotiate();
      await recorder.shareMemory(new Memory(DEFAULT_LAYOUT));
      await recorder.addQueue();
      await recorder.disk().read(0, 8);
      recorder.disconnect();
      const byteLength = recorder.messages.reduce((sum, { bytes }) => sum + bytes.length, 0);
      const fdsBefore = await settledFds(daemon);
      for (let cut = 1; cut <= byteLength; cut++) await sendUpTo(daemon, recorder.messages, cut);
      await using frontEnd = await connect();
      await frontEnd.disk().read(0, 8);
      frontEnd.close();
      recorder.close();
      assert.equal(await settledFds(daemon), fdsBefore);
      t.diagnostic(`${byteLength} bytes in ${recorder.messages.length} messages`);
    });

    test("may kick before the ring is set up", async () => {
      await using frontEnd = await connectWithoutQueue();
      const read = frontEnd.disk().read(0, 8);
      await frontEnd.startQueue(0, { kick: false });
      assert.equal((await read).length, 4096);
    });

    test("find a ring served whose kick somebody else has read", async () => {
      await using frontEnd = await connectWithoutQueue();
      const read = frontEnd.disk().read(0, 8);
      assert.ok(drainEventfd(frontEnd.queues[0]!.kickFd));
      await frontEnd.startQueue(0, { kick: false });
      assert.equal((await read).length, 4096);
    });

    test("may set the same features again under load", async () => {
      await using frontEnd = await connect({ queueSize: 256 });
      const load = randomReads(frontEnd.disk(), 20_000, 32, 4096);
      for (let i = 0; i < 20; i++) {
        assert.equal(await frontEnd.setFeatures(frontEnd.features), 0n);
        await sleep(2);
      }
      assert.equal((await load).failures, 0);
    });

    test("may not change the format of a ring that runs", async () => {
      await using frontEnd = await connect();
      const without = frontEnd.features & ~(1n << BigInt(VIRTIO_F_RING_EVENT_IDX));
      assert.notEqual(await frontEnd.setFeatures(without), 0n);
      await frontEnd.disk().read(0, 8);
    });

    test("may swap the call descriptor under load, and miss nothing", async (t) => {
      await using frontEnd = await connect({ queueSize: 256 });
      const [queue] = frontEnd.queues;
      let isOver = false;
      const load = randomReads(frontEnd.disk(), 20_000, 32, 4096).finally(() => {
        isOver = true;
      });
      let swaps = 0;
      for (; !isOver; swaps++) {
        await queue!.replaceCallFd(async (fd) => {
          assert.equal(await frontEnd.setVringCall(0, fd), 0n);
        });
      }
      assert.equal((await load).failures, 0);
      t.diagnostic(`${swaps} swaps`);
    });

    test("are called at once on a new call descriptor", async () => {
      await using frontEnd = await connect();
      await frontEnd.disk().read(0, 8);
      const fd = createEventfd();
      assert.equal(await frontEnd.setVringCall(0, fd), 0n);
      assert.ok(drainEventfd(fd));
      close(fd);
    });

    for (const packed of [false, true]) {
      const format = packed ? "packed" : "split";

      test(`may do without kicks on a ${format} ring`, async (t) => {
        await using frontEnd = await connectWithoutQueue({ packed, queueSize: 256 });
        await frontEnd.startQueue(0, { without: ["kick"], kick: false });
        const load = { count: 500, depth: 16, firstSector: 0, sectors: 4096, indirect: false };
        await MixedLoad.run(frontEnd.disk(), { ...load, random: tellSeed(t) });
        // After a pause too, when the daemon has long had nothing to do.
        await sleep(QUIET_MS);
        await frontEnd.disk().read(0, 8);
        assert.ok(drainEventfd(frontEnd.queues[0]!.kickFd), "somebody has read the kicks");
      });

      test(`may do without calls on a ${format} ring`, async (t) => {
        await using frontEnd = await connectWithoutQueue({ packed, queueSize: 256 });
        await frontEnd.startQueue(0, { without: ["call"] });
        // The driver looks every millisecond, instead.
        const looking = setInterval(() => signalEventfd(frontEnd.queues[0]!.callFd), 1);
        try {
          const load = { count: 200, depth: 16, firstSector: 0, sectors: 4096, indirect: false };
          await MixedLoad.run(frontEnd.disk(), { ...load, random: tellSeed(t) });
        } finally {
          clearInterval(looking);
        }
      });

      test(`learn from GET_VRING_BASE where a ${format} ring stands, and go on from there`, async (t) => {
        await using frontEnd = await connect({ packed, queueSize: 256 });
        const queue = frontEnd.queues[0]!;
        let isOver = false;
        const load = randomReads(frontEnd.disk(), 20_000, 32, 4096).finally(() => {
          isOver = true;
        });
        let stops = 0;
        for (; !isOver; stops++) {
          const base = await frontEnd.stopQueue(0);
          if (queue.ring instanceof SplitRing) {
            assert.equal(base, queue.ring.usedIdx, "something was taken and not given back");
          } else {
            assert.equal(base & 0xffff, base >>> 16, "something was taken and not given back");
          }
          await frontEnd.startQueue(0, { base, kick: false });
          await sleep(1);
        }
        assert.equal((await load).failures, 0);
        t.diagnostic(`${stops} stops`);
        assert.ok(stops >= 3);
      });

      test(`have a stopped ${format} ring left alone`, async () => {
        await using frontEnd = await connect({ packed });
        await frontEnd.disk().read(0, 8);
        const base = await frontEnd.stopQueue(0);
        const read = frontEnd.disk().read(8, 8);
        frontEnd.queues[0]!.kick(true);
        assert.ok(await isPending(read), "a stopped ring was served");
        assert.equal(await frontEnd.getVringBase(0), base);
        await frontEnd.startQueue(0, base);
        assert.equal((await read).length, 4096);
      });
    }

    test("have no ring served before it is enabled", async () => {
      await using frontEnd = await connectWithoutQueue();
      await frontEnd.startQueue(0, { enable: false });
      const read = frontEnd.disk().read(0, 8);
      assert.ok(await isPending(read), "a disabled ring was served");
      assert.equal(await frontEnd.setVringEnable(0, true), 0n);
      assert.equal((await read).length, 4096);
    });

    test("have no ring served while it is disabled", async () => {
      await using frontEnd = await connect();
      await frontEnd.disk().read(0, 8);
      assert.equal(await frontEnd.setVringEnable(0, false), 0n);
      const read = frontEnd.disk().read(0, 8);
      assert.ok(await isPending(read), "a disabled ring was served");
      assert.equal(await frontEnd.setVringEnable(0, true), 0n);
      assert.equal((await read).length, 4096);
    });

    test("that know no protocol features have their rings enabled from the start", async () => {
      await using full = await connect();
      const features = full.features & ~(1n << BigInt(VHOST_USER_F_PROTOCOL_FEATURES));
      full.close();
      await using frontEnd = await connect({ features });
      await frontEnd.disk().read(0, 8);
    });
  });

  describe(`the end of a daemon with ${engine}`, { timeout: 60_000 }, () => {
    const start = () => Vringd.start({ args: [`--engine=${engine}`, "--num-queues=4", "--threads=2"] });

    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      test(`comes with ${signal} when it is idle`, async () => {
        await using daemon = await start();
        await endsWell(daemon, signal);
      });
    }

    test("comes under load", async () => {
      await using daemon = await start();
      await using frontEnd = await FrontEnd.connect(daemon.socketPath, { queues: 4 });
      const loads = [0, 1, 2, 3].map((index) => startLoad(frontEnd, index));
      await sleep(100);
      await endsWell(daemon);
      await Promise.all(loads);
    });

    test("comes while a front-end is connected and idle", async () => {
      await using daemon = await start();
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      await frontEnd.disk().read(0, 8);
      await endsWell(daemon);
    });

    test("comes while another front-end waits for its turn", async () => {
      await using daemon = await start();
      await using _first = await FrontEnd.connect(daemon.socketPath);
      await using second = await FrontEnd.open(daemon.socketPath);
      await second.negotiate();
      await second.shareMemory(new Memory(DEFAULT_LAYOUT));
      const started = second.addQueue().catch(() => {});
      await using _third = await FrontEnd.open(daemon.socketPath);
      await sleep(QUIET_MS);
      await endsWell(daemon);
      await started;
    });

    test("comes in the midst of a front-end's message", async () => {
      await using daemon = await start();
      await using frontEnd = await FrontEnd.open(daemon.socketPath);
      await frontEnd.connection.send(encodeMessage(VHOST_USER_GET_FEATURES, 0).subarray(0, 5));
      await sleep(QUIET_MS);
      await endsWell(daemon);
    });

    test("comes although a front-end reads none of its replies", async () => {
      await using daemon = await start();
      await using frontEnd = await FrontEnd.open(daemon.socketPath);
      const flood = Array.from({ length: 20_000 }, () => encodeMessage(VHOST_USER_GET_FEATURES, 0));
      const sent = frontEnd.connection.send(Buffer.concat(flood)).catch(() => {});
      assert.ok(await isPending(sent), "the daemon takes requests without limit");
      await endsWell(daemon);
      await sent;
    });

    test("by SIGKILL leaves a socket that the next one replaces", async () => {
      await using daemon = await start();
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      const load = startLoad(frontEnd);
      await sleep(50);
      await daemon.kill9();
      await load;
      assert.ok(existsSync(daemon.socketPath));
      await daemon.restart();
      await using successor = await FrontEnd.connect(daemon.socketPath);
      await successor.disk().read(0, 8);
      await endsWell(daemon);
    });
  });
}

describe("a socket that is handed down", { timeout: 60_000 }, () => {
  test("is listened on, for one front-end after the other", async () => {
    await using place = await Vringd.start();
    await place.stop();
    const fd = listenUnix(place.socketPath);
    try {
      await using daemon = await Vringd.start({ fd });
      for (let i = 0; i < 3; i++) {
        await using frontEnd = await FrontEnd.connect(place.socketPath);
        await frontEnd.disk().read(0, 8);
      }
      assert.equal(await daemon.stop(), 0);
      assert.ok(existsSync(place.socketPath), "the socket's file is not the daemon's to remove");
    } finally {
      close(fd);
    }
  });

  test("is served when it is connected, and with it the daemon ends", async () => {
    const [ours, theirs] = unixPair();
    await using daemon = await Vringd.start({ fd: theirs });
    close(theirs);
    const frontEnd = await FrontEnd.connect(ours);
    await frontEnd.disk().read(0, 8);
    frontEnd.close();
    assert.equal(await daemon.end(), 0);
  });

  test("is let go of on SIGTERM when it is connected", async () => {
    const [ours, theirs] = unixPair();
    await using daemon = await Vringd.start({ fd: theirs });
    close(theirs);
    await using frontEnd = await FrontEnd.connect(ours);
    await frontEnd.disk().read(0, 8);
    assert.equal(await daemon.stop(), 0);
  });
});

/** With status 0, nothing left behind, and by itself: the limit on how long it may take would make the status 1. */
async function endsWell(daemon: Vringd, signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
  assert.equal(await daemon.stop(signal), 0, daemon.log.join("\n"));
  assert.ok(!existsSync(daemon.socketPath), "the socket is still there");
}

interface Sent {
  bytes: Buffer;
  fds: readonly number[];
}

/** Keeps what it sends. */
class Recorder extends FrontEnd {
  readonly messages: Sent[] = [];

  override raw(request: number, payload?: Buffer, fds: readonly number[] = [], flags = 0): Promise<void> {
    this.messages.push({ bytes: encodeMessage(request, flags, payload), fds });
    return super.raw(request, payload, fds, flags);
  }
}

/** The first `byteLength` bytes of a recorded front-end, and then nothing. */
async function sendUpTo(daemon: Vringd, messages: readonly Sent[], byteLength: number): Promise<void> {
  const connection = await openConnection(daemon.socketPath);
  let left = byteLength;
  for (const { bytes, fds } of messages) {
    if (left <= 0) break;
    await connection.send(bytes.subarray(0, left), fds);
    left -= bytes.length;
  }
  connection.close();
}
