// NBD servers that stop answering without a word: requests end, or go elsewhere, and nothing waits for ever.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Server } from "node:net";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { BlockDisk } from "../../host/engines/block-disk.ts";
import { getsockopt } from "../../host/linux/libc.ts";
import { limitSilence } from "../../host/linux/tcp.ts";
import { openNbdDisk } from "../../host/storage/nbd/disk.ts";
import { FakeNbdServer, type Peer } from "../support/nbd-fake.ts";
import { LineLog } from "../support/nbd-log.ts";
import { NbdServer, nbdUnavailable } from "../support/nbd-server.ts";
import { skipWithout } from "../support/skip.ts";
import { until } from "../support/until.ts";

const skip = skipWithout(nbdUnavailable());
const SECTOR = 512;
const FLUSH = 3;

async function open(uri: string, log = new LineLog()): Promise<BlockDisk & AsyncDisposable> {
  const disk = await openNbdDisk(uri, { readOnly: false, log: log.log });
  return Object.assign(disk, { [Symbol.asyncDispose]: () => disk.close!() });
}

const sector = (value = 0) => Buffer.alloc(SECTOR, value);
const never = (peer: Peer) => peer.read(1 << 30).then(() => {});

/** Answers whatever comes, reads with a value. */
async function answerAll(peer: Peer, value: number): Promise<void> {
  for (;;) {
    const { type, cookie, byteLength } = await peer.request();
    peer.answer(cookie, 0, type === 0 ? Buffer.alloc(byteLength, value) : undefined);
  }
}

describe("an NBD server that stops answering", { timeout: 120_000, concurrency: true }, () => {
  for (const tcp of [false, true]) {
    test(`because it is stopped (${tcp ? "TCP" : "Unix socket"}) fails requests until it goes on`, {
      skip,
    }, async () => {
      const log = new LineLog();
      await using server = await NbdServer.start({ tcp, args: () => ["memory", "1M"] });
      await using disk = await open(server.uri("", "x-reconnect-timeout=2"), log);
      await disk.write!(0n, [sector(7)]);
      await server.suspend();
      const waiting = [disk.read(0n, [sector()]), disk.write!(512n, [sector(8)]), disk.flush!()];
      for (const result of await Promise.allSettled(waiting)) {
        assert.ok(result.status === "rejected");
        assert.equal(result.reason.code, "EIO");
      }
      assert.equal(log.like(/NBD server lost.*answered nothing for 2 s/).length, 1);
      server.signal("SIGCONT");
      const isBack = () => log.like(/NBD server back/).length === 1;
      await until(() => isBack() || !server.isRunning, "it goes on", 30_000);
      // nbdkit sometimes ends when it goes on: what it was told before is made again on the next one, too.
      if (!server.isRunning) await server.restart();
      await until(isBack, "it is back", 30_000);
      const read = sector();
      await disk.read(0n, [read]);
      assert.ok(read.equals(sector(7)));
      await disk.flush!();
    });
  }

  test("leaves requests to the one that takes its place", async () => {
    await using server = await FakeNbdServer.start(async (peer, connection) => {
      await peer.welcome();
      await (connection === 1 ? never(peer) : answerAll(peer, 7));
    });
    await using disk = await open(server.uri("x-reconnect-timeout=6"));
    const read = sector();
    await Promise.all([disk.read(0n, [read]), disk.write!(0n, [sector(1)]), disk.flush!()]);
    assert.ok(read.equals(sector(7)));
  });

  test("and welcomes everybody fails them all the same", async () => {
    await using server = await FakeNbdServer.start(async (peer) => {
      await peer.welcome();
      await never(peer);
    });
    await using disk = await open(server.uri("x-reconnect-timeout=2"));
    await assert.rejects(disk.read(0n, [sector()]), { code: "EIO" });
    assert.ok(server.connections >= 2);
  });

  test("while changes are made again is left for the next", async () => {
    await using server = await FakeNbdServer.start(async (peer, connection) => {
      await peer.welcome();
      if (connection === 1) {
        peer.answer((await peer.request()).cookie);
        await peer.request();
      } else await (connection === 2 ? never(peer) : answerAll(peer, 7));
    });
    await using disk = await open(server.uri("x-reconnect-timeout=20"));
    await disk.write!(0n, [sector(1)]);
    const read = sector();
    await disk.read(0n, [read]);
    assert.ok(read.equals(sector(7)));
    assert.equal(server.connections, 3);
  });

  test("and never reads a payload doesn't hold the write", async () => {
    await using server = await FakeNbdServer.start(async (peer) => {
      await peer.welcome();
      peer.socket.pause();
      await never(peer);
    });
    await using disk = await open(server.uri("x-reconnect-timeout=2"));
    await assert.rejects(disk.write!(0n, [Buffer.alloc(1 << 20)]), { code: "EIO" });
  });

  test("is not one that answers other requests meanwhile", async () => {
    await using server = await FakeNbdServer.start(async (peer) => {
      await peer.welcome();
      const slow = await peer.request();
      const end = performance.now() + 6000;
      while (performance.now() < end) {
        peer.answer((await peer.request()).cookie, 0, sector(1));
      }
      peer.answer(slow.cookie, 0, sector(7));
      await answerAll(peer, 1);
    });
    await using disk = await open(server.uri("x-reconnect-timeout=1"));
    const read = sector();
    let isAnswered = false;
    const slow = disk.read(0n, [read]).finally(() => {
      isAnswered = true;
    });
    while (!isAnswered) await Promise.all([disk.read(512n, [sector()]), sleep(100)]);
    await slow;
    assert.ok(read.equals(sector(7)));
    assert.equal(server.connections, 1);
  });

  test("to one request of many fails that one", async () => {
    await using server = await FakeNbdServer.start(async (peer) => {
      await peer.welcome();
      for (;;) {
        const { type, cookie, offset } = await peer.request();
        if (offset !== 0n) peer.answer(cookie, 0, type === 0 ? sector(1) : undefined);
      }
    });
    await using disk = await open(server.uri("x-reconnect-timeout=1"));
    let isOver = false;
    const forgotten = assert.rejects(disk.read(0n, [sector()]), { code: "EIO" }).finally(() => {
      isOver = true;
    });
    while (!isOver) await Promise.all([disk.read(512n, [sector()]), sleep(200)]);
    await forgotten;
  });

  test("doesn't hold up the end of the disk, nor of the process", { skip }, async () => {
    await using server = await NbdServer.start({ args: () => ["memory", "8M"] });
    const disk = await open(server.uri("", "x-reconnect-timeout=60"));
    await server.suspend();
    const write = assert.rejects(disk.write!(0n, [Buffer.alloc(4 << 20)]), { code: "EIO" });
    await disk.close!();
    await write;
    const idle = await open((await reopened(server)).uri());
    await server.suspend();
    await idle.close!();
    const sockets = () => process.getActiveResourcesInfo().filter((name) => name === "PipeWrap").length;
    const before = sockets();
    await sleep(1500);
    assert.ok(sockets() <= before);
  });

  test("in the handshake ends that, with TLS too", async () => {
    const ca = "tls-verify-peer=0";
    const scripts: [scheme: string, script: (peer: Peer) => Promise<void>, ...parameters: string[]][] = [
      ["nbd+unix", never],
      [
        "nbd+unix",
        async (peer) => {
          await peer.greet();
          await never(peer);
        },
      ],
      [
        "nbds+unix",
        async (peer) => {
          await peer.greet();
          peer.reply((await peer.option()).option, 1);
          await never(peer);
        },
        ca,
      ],
    ];
    await Promise.all(
      scripts.map(async ([scheme, script, ...parameters]) => {
        await using server = await FakeNbdServer.start(script);
        const uri = server.uri(...parameters).replace("nbd+unix", scheme);
        await assert.rejects(open(uri), /the server doesn't answer|TLS: the server hung up/);
      }),
    );
  });
});

async function reopened(server: NbdServer): Promise<NbdServer> {
  await server.kill9();
  await server.restart();
  return server;
}

describe("an NBD server's flush", { timeout: 60_000 }, () => {
  test("that failed once fails from then on, until all was written again to another", async () => {
    const written: Buffer[] = [];
    let hangUp = () => {};
    await using server = await FakeNbdServer.start(async (peer, connection) => {
      await peer.welcome();
      hangUp = () => peer.socket.destroy();
      for (let flushes = 0; ; ) {
        const { type, cookie, data } = await peer.request();
        if (connection > 1 && type === 1) written.push(data);
        const fails = connection === 1 && type === FLUSH && flushes++ === 0;
        peer.answer(cookie, fails ? 5 : 0);
      }
    });
    const log = new LineLog();
    await using disk = await open(server.uri(), log);
    await disk.write!(0n, [sector(1)]);
    await assert.rejects(disk.flush!(), { code: "EIO" });
    await disk.write!(512n, [sector(2)]);
    await assert.rejects(disk.flush!(), { code: "EIO" });
    hangUp();
    await until(() => log.like(/NBD server back/).length === 1, "it is back");
    await disk.flush!();
    assert.deepEqual(written, [sector(1), sector(2)]);
  });

  test("that comes with others is one at a time, so that all hear of a failure", async () => {
    let underWay = 0;
    await using server = await FakeNbdServer.start(async (peer) => {
      await peer.welcome();
      for (let flushes = 0; ; ) {
        const { type, cookie } = await peer.request();
        if (type !== FLUSH) continue;
        underWay++;
        await sleep(20);
        assert.equal(underWay--, 1);
        peer.answer(cookie, flushes++ === 0 ? 5 : 0);
      }
    });
    await using disk = await open(server.uri());
    const results = await Promise.allSettled([disk.flush!(), disk.flush!(), disk.flush!()]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ["rejected", "rejected", "rejected"],
    );
  });
});

test("what is written again is what was sent, whatever the guest has made of its buffer", async () => {
  const written: Buffer[] = [];
  await using server = await FakeNbdServer.start(async (peer, connection) => {
    await peer.welcome();
    if (connection > 1) {
      const { cookie, data } = await peer.request();
      written.push(data);
      peer.answer(cookie);
      await answerAll(peer, 0);
    }
    const { cookie, data } = await peer.request();
    written.push(data);
    buffer.fill(2);
    peer.answer(cookie);
    await peer.request();
  });
  await using disk = await open(server.uri());
  const buffer = sector(1);
  await disk.write!(0n, [buffer]);
  await disk.flush!();
  assert.deepEqual(written, [sector(1), sector(1)]);
});

test("a TCP connection has limits for a host that is silent", async () => {
  const server: Server = createServer((socket) => socket.resume()).listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connect((server.address() as { port: number }).port, "127.0.0.1");
  await once(socket, "connect");
  limitSilence(socket, 8000);
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
  const option = (name: number) => {
    const [value, length] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32LE(4);
    assert.equal(getsockopt(fd, 6, name, value, length), 0);
    return value.readInt32LE();
  };
  // TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT and TCP_USER_TIMEOUT.
  assert.deepEqual([4, 5, 6, 18].map(option), [4, 1, 4, 8000]);
  socket.destroy();
  server.close();
});
