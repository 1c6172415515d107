// Front-ends that say anything at all: after each of them the next one is served, and nothing of them is left behind.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { VIRTIO_BLK_S_IOERR } from "../../assembly/spec/virtio-blk.ts";
import { encodeBlkHeader } from "../../host/front-end/blk-driver.ts";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import { DEFAULT_LAYOUT } from "../../host/front-end/memory.ts";
import { signalEventfd } from "../../host/linux/eventfd.ts";
import { close, ftruncate } from "../../host/linux/libc.ts";
import { createMemfd } from "../../host/linux/memfd.ts";
import { unixPair } from "../../host/linux/unix-socket.ts";
import {
  encodeHeader,
  encodeInflight,
  encodeMemoryTable,
  encodeMessage,
  encodeSingleRegion,
  encodeU64,
  type MemoryRegion,
} from "../../host/protocol/codec.ts";
import { PAYLOAD_MAX } from "../../host/protocol/connection.ts";
import * as m from "../../host/protocol/messages.ts";
import { allHaveLeft, type Footprint, footprint, holdsNoMore, SMALL_HEAP } from "../support/footprint.ts";
import { type Honest, payloadsOf, REQUESTS, randomMessage } from "../support/hostile-messages.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { blockingEventfd, pipe, STRANGE_FILES, semaphoreEventfd } from "../support/strange-files.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const QUEUES = 4;
const KNOWN = Buffer.alloc(512, "a known sector");
const IMAGE_SIZE = 1 << 20;

/** Where nothing else of a front-end's lies. */
const REGION: MemoryRegion = { gpa: 2n ** 40n, byteLength: 65536n, userAddress: 2n ** 40n, mmapOffset: 0n };
const [MAIN] = DEFAULT_LAYOUT;
const ADDRESS = {
  index: 1,
  flags: 0,
  descriptor: BigInt(MAIN!.userAddress) + 0x100000n,
  used: BigInt(MAIN!.userAddress) + 0x110000n,
  available: BigInt(MAIN!.userAddress) + 0x120000n,
  log: 0n,
};
const HONEST: Honest = { queueCount: QUEUES, region: REGION, address: ADDRESS };

/** SCM_MAX_FD: the kernel sends no more with one message. */
const FDS_MAX = 253;

const RANDOM_SESSIONS = Number(process.env.VRINGD_TEST_RUNS ?? 150);

/** Bytes and descriptors as they are, without waiting for what comes of it. */
function sendAll(frontEnd: FrontEnd, bytes: Buffer, fds: readonly number[] = []): Promise<void> {
  return frontEnd.connection.send(bytes, fds).catch(() => {});
}

/** Sends a message and then an honest one. False if the daemon has closed the connection instead of answering that. */
async function survives(frontEnd: FrontEnd, message: Buffer, fds: readonly number[] = []): Promise<boolean> {
  const isSame = message.readUInt32LE(0) === m.VHOST_USER_GET_FEATURES;
  const fence = isSame ? m.VHOST_USER_GET_PROTOCOL_FEATURES : m.VHOST_USER_GET_FEATURES;
  await sendAll(frontEnd, message, fds);
  await sendAll(frontEnd, encodeMessage(fence, 0));
  for (;;) {
    const reply = await frontEnd.receive();
    reply?.fds.forEach(close);
    if (reply === undefined) return false;
    if (reply.request === fence) return true;
  }
}

for (const engine of ["io_uring", "threads"]) {
  describe(`a hostile front-end of ${engine}`, { timeout: 120_000 }, () => {
    let daemon: Vringd;
    let pid: number;
    let clean: Footprint;

    before(async () => {
      daemon = await startWithKnownSector([`--engine=${engine}`]);
      pid = daemon.pid;
      for (let i = 0; i < 20; i++) await servesNext();
      await allHaveLeft(daemon);
      clean = footprint(daemon);
    });
    after(() => daemon[Symbol.asyncDispose]());

    const connect = (options: FrontEndOptions = {}) => FrontEnd.connect(daemon.socketPath, options);
    const open = () => FrontEnd.open(daemon.socketPath);

    async function servesNext(): Promise<void> {
      await using frontEnd = await connect();
      assert.deepEqual(await frontEnd.disk().read(0, 1), KNOWN);
    }

    /** What must be true after every front-end. */
    async function isUnharmed(): Promise<void> {
      await servesNext();
      await allHaveLeft(daemon);
      assert.equal(daemon.pid, pid);
      holdsNoMore(daemon, clean);
    }

    const states: [name: string, enter: () => Promise<FrontEnd>][] = [
      ["has said nothing yet", open],
      ["has a ring running", connect],
    ];
    for (const [name, enter] of states) {
      test(`that ${name} may send every request with every field at its edges`, async (t) => {
        let frontEnd = await enter();
        let sent = 0;
        let ends = 0;
        for (const request of REQUESTS) {
          for (const payload of payloadsOf(request, HONEST)) {
            for (const flags of [0, m.VHOST_USER_NEED_REPLY_MASK]) {
              sent++;
              if (await survives(frontEnd, encodeMessage(request, flags, payload))) continue;
              ends++;
              frontEnd.close();
              frontEnd = await enter();
            }
          }
        }
        frontEnd.close();
        t.diagnostic(`${sent} messages ended ${ends} connections`);
        assert.ok(ends > 100 && ends < sent);
        await isUnharmed();
      });
    }

    test("may send random messages in any order, and leave at any time", async (t) => {
      const random = tellSeed(t);
      for (let i = 0; i < RANDOM_SESSIONS; i++) {
        const frontEnd = random.below(2) === 0 ? await open() : await connect({ queues: 2 });
        await saysAnything(frontEnd, random);
        frontEnd.close();
      }
      await isUnharmed();
    });

    for (const [what, header] of [
      ["a payload of 4097 bytes", { request: 2, flags: 1, size: PAYLOAD_MAX + 1 }],
      ["a payload of 2^31 bytes", { request: 2, flags: 1, size: 0x8000_0000 }],
      ["a payload of 2^32 - 1 bytes", { request: 2, flags: 1, size: 0xffff_ffff }],
      ["version 0", { request: 1, flags: 0, size: 0 }],
      ["version 2", { request: 1, flags: 2, size: 0 }],
      ["version 3", { request: 1, flags: 3, size: 0 }],
    ] as const) {
      test(`loses its connection with ${what}`, async () => {
        await using frontEnd = await connect();
        assert.equal(await survives(frontEnd, encodeHeader(header)), false);
        frontEnd.close();
        await isUnharmed();
      });
    }

    test("may set flags that nobody knows", async () => {
      await using frontEnd = await connect();
      for (let bit = 2; bit < 32; bit++) {
        const flags = (m.VHOST_USER_VERSION | (1 << bit)) >>> 0;
        const header = encodeHeader({ request: m.VHOST_USER_GET_FEATURES, flags, size: 0 });
        assert.ok(await survives(frontEnd, header), `bit ${bit}`);
      }
    });

    const carriers: [name: string, message: Buffer][] = [
      ["ADD_MEM_REG", encodeMessage(m.VHOST_USER_ADD_MEM_REG, 8, encodeSingleRegion(REGION))],
      ["SET_MEM_TABLE", encodeMessage(m.VHOST_USER_SET_MEM_TABLE, 8, encodeMemoryTable([REGION]))],
      ["SET_VRING_KICK", encodeMessage(m.VHOST_USER_SET_VRING_KICK, 8, encodeU64(0n))],
      ["SET_VRING_CALL", encodeMessage(m.VHOST_USER_SET_VRING_CALL, 8, encodeU64(0n))],
      ["SET_VRING_ERR", encodeMessage(m.VHOST_USER_SET_VRING_ERR, 8, encodeU64(0n))],
      [
        "SET_INFLIGHT_FD",
        encodeMessage(
          m.VHOST_USER_SET_INFLIGHT_FD,
          8,
          encodeInflight({ mmapSize: 4096n, mmapOffset: 0n, numQueues: 1, queueSize: 128 }),
        ),
      ],
      ["SET_BACKEND_REQ_FD", encodeMessage(m.VHOST_USER_SET_BACKEND_REQ_FD, 8)],
      ["SET_LOG_FD", encodeMessage(m.VHOST_USER_SET_LOG_FD, 8)],
    ];
    for (const [name, message] of carriers) {
      test(`may send any kind of descriptor with ${name}`, async () => {
        for (const [what, make] of Object.entries(STRANGE_FILES)) {
          await using frontEnd = await connect();
          const fd = make(Number(REGION.byteLength));
          assert.ok(await survives(frontEnd, message, [fd]), what);
          close(fd);
          // Whatever was taken is used, too.
          frontEnd.queues[0]!.kick(true);
          await frontEnd.setVringEnable(0, false);
        }
        await isUnharmed();
      });

      test(`may send too few or too many descriptors with ${name}`, async () => {
        await using frontEnd = await connect();
        const fd = createMemfd("many", Number(REGION.byteLength));
        for (const count of [0, 2, 8, 9, FDS_MAX]) {
          assert.ok(await survives(frontEnd, message, Array(count).fill(fd)), `${count} descriptors`);
        }
        close(fd);
        frontEnd.close();
        await isUnharmed();
      });
    }

    test("may send descriptors with every request that has none", async () => {
      await using frontEnd = await connect();
      const fd = createMemfd("many", 4096);
      for (const request of REQUESTS) {
        if (await survives(frontEnd, encodeMessage(request, 8), [fd, fd])) continue;
        frontEnd.disconnect();
        await frontEnd.reconnect(daemon.socketPath);
      }
      close(fd);
      frontEnd.close();
      await isUnharmed();
    });

    test("may send one byte at a time", async () => {
      const messages = [
        encodeMessage(m.VHOST_USER_GET_FEATURES, 0),
        encodeMessage(m.VHOST_USER_SET_MEM_TABLE, 0, encodeMemoryTable([])),
        encodeMessage(m.VHOST_USER_GET_PROTOCOL_FEATURES, 0),
      ];
      await using frontEnd = await open();
      for (const byte of Buffer.concat(messages)) {
        await sendAll(frontEnd, Buffer.of(byte));
        await nextTurn();
      }
      assert.equal((await frontEnd.receive())?.request, m.VHOST_USER_GET_FEATURES);
      assert.equal((await frontEnd.receive())?.request, m.VHOST_USER_GET_PROTOCOL_FEATURES);
      frontEnd.close();
      await isUnharmed();
    });

    test("may come two hundred times at once, and each is served in its turn", async () => {
      const visit = async () => {
        const frontEnd = await open();
        // Those before it come first.
        frontEnd.replyTimeoutMs = 60_000;
        assert.notEqual(await frontEnd.getFeatures(), 0n);
        frontEnd.close();
      };
      await Promise.all(Array.from({ length: 200 }, visit));
      await isUnharmed();
    });

    // The session is the same with either engine.
    const floods = [
      [100_000, "requests", encodeMessage(m.VHOST_USER_GET_FEATURES, 0)],
      [20_000, "requests that are refused", encodeMessage(m.VHOST_USER_SEND_RARP, 8, encodeU64(0n))],
      [5_000, "large requests", encodeMessage(m.VHOST_USER_SEND_RARP, 8, Buffer.alloc(PAYLOAD_MAX))],
    ] as const;
    for (const [count, what, message] of engine === "io_uring" ? floods : []) {
      test(`may send ${count} ${what}, while its disk goes on`, async () => {
        await using frontEnd = await connect();
        const batch = 100;
        let isOver = false;
        const reads = readUntil(frontEnd, () => isOver);
        const received = (async () => {
          for (let i = 0; i < count; i++) await frontEnd.receive();
        })();
        for (let i = 0; i < count; i += batch) {
          await sendAll(frontEnd, Buffer.concat(Array(batch).fill(message)));
        }
        await received;
        isOver = true;
        assert.ok((await reads) > 10);
        frontEnd.close();
        await isUnharmed();
      });
    }

    test("that reads no reply is read no further, while its disk goes on", async () => {
      await using frontEnd = await connect();
      const flood = Buffer.concat(Array(20_000).fill(encodeMessage(m.VHOST_USER_GET_FEATURES, 0)));
      let isSent = false;
      const sent = sendAll(frontEnd, flood).finally(() => {
        isSent = true;
      });
      for (let i = 0; i < 200; i++) assert.deepEqual(await frontEnd.disk().read(0, 1), KNOWN);
      assert.ok(!isSent, "the daemon takes requests without limit");
      frontEnd.close();
      await sent;
      await isUnharmed();
    });

    describe("whose notifiers are strange", () => {
      /** A read that is kicked and called by these. The driver looks for itself, as not all of them can tell it. */
      async function isServedWith(kick: [ours: number, theirs: number], callFd: number): Promise<void> {
        await using frontEnd = await connect();
        assert.equal(await frontEnd.setVringKick(0, kick[1]), 0n);
        assert.equal(await frontEnd.setVringCall(0, callFd), 0n);
        for (let i = 0; i < 20; i++) await readByLooking(frontEnd, kick[0]);
      }

      const ONE = encodeU64(1n);

      async function readByLooking(frontEnd: FrontEnd, kickFd: number): Promise<void> {
        const { memory, queues } = frontEnd;
        const queue = queues[0]!;
        const [header, data] = [memory.allocate(16), memory.allocate(513)];
        memory.write(header, encodeBlkHeader(0, 0));
        queue.add([
          { gpa: header, length: 16, writable: false },
          { gpa: data, length: 513, writable: true },
        ]);
        queue.publish();
        writeFileSync(kickFd, ONE);
        await until(() => queue.popUsed() >= 0, "the request is used");
        assert.deepEqual(memory.read(data, 512), KNOWN);
        memory.free(header, 16);
        memory.free(data, 513);
      }

      const eventfds: [name: string, make: () => number][] = [
        ["blocking eventfds", blockingEventfd],
        ["semaphores", semaphoreEventfd],
      ];
      for (const [name, make] of eventfds) {
        test(`is served with ${name}`, async () => {
          const [kick, call] = [make(), make()];
          await isServedWith([kick, kick], call);
          [kick, call].forEach(close);
          await isUnharmed();
        });
      }

      test("is served with pipes", async () => {
        const [kickOut, kickIn] = pipe();
        const [callOut, callIn] = pipe();
        await isServedWith([kickIn, kickOut], callIn);
        [kickOut, kickIn, callOut, callIn].forEach(close);
        await isUnharmed();
      });

      test("is served with sockets", async () => {
        const [kickIn, kickOut] = unixPair();
        const [callIn, callOut] = unixPair();
        await isServedWith([kickIn, kickOut], callIn);
        [kickOut, kickIn, callOut, callIn].forEach(close);
        await isUnharmed();
      });

      test("is served with calls that nobody is there to hear", async () => {
        const kick = blockingEventfd();
        const [callOut, callIn] = pipe();
        close(callOut);
        await isServedWith([kick, kick], callIn);
        [kick, callIn].forEach(close);
        await isUnharmed();
      });

      test("is served with a blocking call eventfd that is full", async () => {
        const [kick, call] = [blockingEventfd(), blockingEventfd()];
        writeFileSync(call, encodeU64(2n ** 64n - 2n));
        await isServedWith([kick, kick], call);
        [kick, call].forEach(close);
        await isUnharmed();
      });

      test("breaks its ring with a kick descriptor whose other end is closed", async () => {
        await using frontEnd = await connect();
        const [kickOut, kickIn] = pipe();
        close(kickIn);
        assert.equal(await frontEnd.setVringKick(0, kickOut), 0n);
        await until(() => frontEnd.queues[0]!.takeError(), "the err eventfd is signalled");
        close(kickOut);
        frontEnd.close();
        await isUnharmed();
      });
    });

    test("may shrink memory that only the kernel touches: the request fails", async () => {
      const far = { gpa: 2 ** 40, byteLength: 65536, userAddress: 2 ** 40 };
      await using frontEnd = await connect({ memory: [...DEFAULT_LAYOUT, far] });
      const { memory } = frontEnd;
      const [header, status] = [memory.allocate(16), memory.allocate(1)];
      memory.write(header, encodeBlkHeader(0, 0));
      const data = memory.regions[1]!;
      assert.equal(ftruncate(data.fd, 0), 0);
      const queue = frontEnd.queues[0]!;
      queue.add([
        { gpa: header, length: 16, writable: false },
        { gpa: data.gpa, length: 512, writable: true },
        { gpa: status, length: 1, writable: true },
      ]);
      queue.publish();
      queue.kick(true);
      await until(() => queue.popUsed() >= 0, "the request is used");
      assert.deepEqual(memory.read(status, 1), Buffer.of(VIRTIO_BLK_S_IOERR));
      frontEnd.close();
      await isUnharmed();
    });
  });

  test(`the memory of a ring, shrunk by the front-end, ends a daemon of ${engine}; its successor serves`, async () => {
    await using daemon = await startWithKnownSector([`--engine=${engine}`]);
    const frontEnd = await FrontEnd.connect(daemon.socketPath);
    const { memory } = frontEnd;
    assert.equal(ftruncate(memory.regions[0]!.fd, 0), 0);
    // Not by kick(), which looks at the ring.
    signalEventfd(frontEnd.queues[0]!.kickFd);
    // No signal handler can save it: the pages are gone under the core.
    assert.equal(await daemon.end(), "SIGBUS");
    frontEnd.close();
    await daemon.restart();
    await using successor = await FrontEnd.connect(daemon.socketPath);
    assert.deepEqual(await successor.disk().read(0, 1), KNOWN);
  });
}

async function startWithKnownSector(args: string[]): Promise<Vringd> {
  const all = [...args, "--packed", `--num-queues=${QUEUES}`, "--threads=2", "--log-level=debug"];
  const daemon = await Vringd.start({ args: all, byteLength: IMAGE_SIZE, under: SMALL_HEAP });
  writeFileSync(daemon.imagePath, KNOWN, { flag: "r+" });
  return daemon;
}

/** Reads one sector again and again; returns how often. */
async function readUntil(frontEnd: FrontEnd, isOver: () => boolean): Promise<number> {
  let count = 0;
  for (; !isOver(); count++) {
    assert.deepEqual(await frontEnd.disk().read(0, 1), KNOWN);
    await nextTurn();
  }
  return count;
}

/** Up to thirty messages, with and without descriptors, of which the last may be cut short. */
async function saysAnything(frontEnd: FrontEnd, random: Random): Promise<void> {
  for (let left = random.below(30); left >= 0; left--) {
    const message = randomMessage(random, HONEST);
    const isCut = left === 0 && random.below(2) === 0;
    const bytes = isCut ? message.subarray(0, random.below(message.length)) : message;
    const fds = Array.from({ length: random.pick([0, 0, 0, 1, 1, 1, 2, 8]) }, () =>
      STRANGE_FILES[random.pick(Object.keys(STRANGE_FILES))]!(Number(REGION.byteLength)),
    );
    if (bytes.length > 0) await sendAll(frontEnd, bytes, fds);
    fds.forEach(close);
  }
}
