// An NBD server that goes and comes back: requests wait, nothing that was acknowledged is lost, and the wait has a bound.
import assert from "node:assert/strict";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { BlockDisk } from "../../host/engines/block-disk.ts";
import { openNbdDisk } from "../../host/storage/nbd/disk.ts";
import { DEFAULT_FLAGS, FakeNbdServer, type Peer } from "../support/nbd-fake.ts";
import { LineLog } from "../support/nbd-log.ts";
import { NbdServer, type NbdServerOptions, nbdUnavailable } from "../support/nbd-server.ts";
import { VolatileExport } from "../support/nbd-volatile.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";
import { until } from "../support/until.ts";

const skip = skipWithout(nbdUnavailable());
const SECTOR = 512;
const SIZE = 1 << 20;

async function open(uri: string, log = new LineLog()): Promise<BlockDisk & AsyncDisposable> {
  const disk = await openNbdDisk(uri, { readOnly: false, log: log.log });
  return Object.assign(disk, { [Symbol.asyncDispose]: () => disk.close!() });
}

/** Workers that each write, read back and flush in a part of their own, until told to stop. */
class Load {
  readonly model = Buffer.alloc(SIZE);
  completed = 0;
  private isOver = false;
  private readonly workers: Promise<void>[];

  constructor(
    private readonly disk: BlockDisk,
    private readonly random: Random,
    depth = 16,
  ) {
    const part = SIZE / depth;
    this.workers = Array.from({ length: depth }, (_, i) => this.work(i * part, part));
  }

  async stop(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.workers);
  }

  private async work(start: number, byteLength: number): Promise<void> {
    const { disk, random, model } = this;
    while (!this.isOver) {
      const sectors = random.between(1, 16);
      const at = start + random.below(byteLength / SECTOR - sectors) * SECTOR;
      const bytes = model.subarray(at, at + sectors * SECTOR);
      const what = random.below(20);
      if (what === 0) await disk.flush!();
      else if (what === 1) {
        await disk.writeZeroes!(BigInt(at), BigInt(bytes.length), true);
        bytes.fill(0);
      } else if (what < 12) {
        const data = random.bytes(bytes.length);
        await disk.write!(BigInt(at), [data.subarray(0, 100), data.subarray(100)]);
        bytes.set(data);
      } else {
        const data = Buffer.alloc(bytes.length);
        await disk.read(BigInt(at), [data]);
        assert.ok(data.equals(bytes), `what was written at ${at} is there`);
      }
      this.completed++;
    }
  }
}

function fileServer(...args: string[]): NbdServerOptions {
  const image = (directory: string) => join(directory, "disk.img");
  return { args: (directory) => ["file", image(directory), ...args] };
}

async function startOnFile(options: NbdServerOptions, byteLength = SIZE): Promise<NbdServer> {
  let isMade = false;
  return NbdServer.start({
    ...options,
    args: (directory) => {
      const path = join(directory, "disk.img");
      if (!isMade) {
        writeFileSync(path, "");
        truncateSync(path, byteLength);
        isMade = true;
      }
      return options.args(directory);
    },
  });
}

describe("an NBD server that is killed under load", { skip, concurrency: 2 }, () => {
  const SERVERS: [what: string, options: NbdServerOptions, parameters: string[]][] = [
    ["nbdkit", fileServer(), []],
    ["nbdkit over four connections", fileServer(), ["x-connections=4"]],
    ["nbdkit over TCP", { tcp: true, ...fileServer() }, []],
    [
      "qemu-nbd",
      {
        program: "qemu-nbd",
        args: (directory) => ["-f", "raw", "--discard=unmap", join(directory, "disk.img")],
      },
      [],
    ],
  ];
  for (const [what, options, parameters] of SERVERS) {
    test(`and started anew loses and spoils nothing: ${what}`, async (t) => {
      const random = tellSeed(t);
      const log = new LineLog();
      await using server = await startOnFile(options);
      await using disk = await open(server.uri("", ...parameters), log);
      const load = new Load(disk, random);
      const kills = 4;
      for (let i = 0; i < kills; i++) {
        const before = load.completed;
        await until(() => load.completed > before + 100, "the load goes on", 20_000);
        await server.kill9();
        await sleep(random.below(100));
        await server.restart();
      }
      const before = load.completed;
      await until(() => load.completed > before + 100, "the load goes on", 20_000);
      await load.stop();
      await disk.flush!();
      const image = readFileSync(join(server.directory, "disk.img"));
      assert.ok(image.equals(load.model));
      // A line when it goes and a line when it is back, whatever was in flight.
      assert.equal(log.like(/NBD server lost/).length, kills);
      assert.equal(log.like(/NBD server back/).length, kills);
      t.diagnostic(`${load.completed} requests, ${kills} kills`);
    });
  }
});

describe("an NBD server that goes away", { skip }, () => {
  test("fails what waits with EIO after the timeout, at once from then on, until it is back", async () => {
    const log = new LineLog();
    await using server = await startOnFile(fileServer());
    await using disk = await open(server.uri("", "x-reconnect-timeout=1"), log);
    const bytes = Buffer.alloc(SECTOR, 5);
    await disk.write!(0n, [bytes]);
    await server.kill9();
    const waiting = [disk.read(0n, [Buffer.alloc(SECTOR)]), disk.write!(512n, [bytes]), disk.flush!()];
    for (const result of await Promise.allSettled(waiting)) {
      assert.ok(result.status === "rejected");
      assert.equal(result.reason.code, "EIO");
      assert.equal(result.reason.errno, -5);
    }
    await assert.rejects(disk.read(0n, [Buffer.alloc(SECTOR)]), { code: "EIO" });
    assert.equal(log.like(/requests fail until it is back/).length, 1);
    await server.restart();
    await until(() => log.like(/NBD server back/).length === 1, "it comes back", 20_000);
    const read = Buffer.alloc(SECTOR);
    await disk.read(0n, [read]);
    assert.ok(read.equals(bytes));
    await disk.flush!();
  });

  test("is not taken back with an export of another size, but with the right one", async () => {
    const log = new LineLog();
    await using server = await startOnFile(fileServer());
    await using disk = await open(server.uri(), log);
    await server.kill9();
    const read = disk.read(0n, [Buffer.alloc(SECTOR)]);
    await server.restart(() => ["memory", "2M"]);
    await until(
      () => log.like(/the export had 1048576 bytes and has 2097152/).length === 1,
      "it is seen",
      20_000,
    );
    await server.stop();
    await server.restart((directory) => ["-r", "file", join(directory, "disk.img")]);
    await until(
      () => log.like(/the export's flags were 0x[0-9a-f]+ and are/).length === 1,
      "it is seen",
      20_000,
    );
    await server.stop();
    await server.restart();
    await read;
  });

  test("doesn't hold up the end of the disk", async () => {
    await using server = await startOnFile(fileServer());
    const disk = await open(server.uri());
    await server.kill9();
    const read = disk.read(0n, [Buffer.alloc(SECTOR)]);
    const failed = assert.rejects(read, { code: "EIO" });
    await disk.close!();
    await failed;
    await assert.rejects(disk.read(0n, [Buffer.alloc(SECTOR)]), { code: "EIO" });
  });

  test("is told at the end of the disk, and waited for what is in flight", async () => {
    await using server = await NbdServer.start({
      args: () => ["--filter=exitlast", "--filter=delay", "memory", "1M", "delay-read=200ms"],
    });
    const disk = await open(server.uri());
    const read = disk.read(0n, [Buffer.alloc(SECTOR)]);
    await disk.close!();
    await read;
    // exitlast: nbdkit ends by itself when its last client has left.
    await until(() => !server.isRunning, "the server ends", 10_000);
  });
});

describe("an NBD server that loses its cache", () => {
  test("gets again what it had acknowledged and not flushed", async (t) => {
    const random = tellSeed(t);
    const store = new VolatileExport(SIZE, random);
    const DEATHS = 6;
    await using server = await FakeNbdServer.start((peer, connection) =>
      store.serve(peer, connection <= DEATHS ? random.between(20, 400) : Number.POSITIVE_INFINITY),
    );
    await using disk = await open(server.uri());
    const load = new Load(disk, random);
    await until(() => server.connections > DEATHS, "it has died often enough", 30_000);
    const before = load.completed;
    await until(() => load.completed > before + 100, "the load goes on", 20_000);
    await load.stop();
    const now = Buffer.alloc(SIZE);
    await disk.read(0n, [now]);
    assert.ok(now.equals(load.model));
    await disk.flush!();
    assert.ok(store.stable.equals(load.model));
    assert.ok(store.flushes > 0);
  });

  test("is flushed before copies take too much memory, and writes wait for that", async (t) => {
    const random = tellSeed(t);
    const size = 1 << 20;
    const store = new VolatileExport(size, random);
    await using server = await FakeNbdServer.start((peer) => store.serve(peer, Number.POSITIVE_INFINITY));
    await using disk = await open(server.uri());
    const bytes = random.bytes(size);
    // 160 MiB, without a flush by the guest.
    for (let i = 0; i < 20; i++) await Promise.all(Array.from({ length: 8 }, () => disk.write!(0n, [bytes])));
    assert.ok(store.flushes >= 3, `${store.flushes} flushes`);
    const now = Buffer.alloc(size);
    await disk.read(0n, [now]);
    assert.ok(now.equals(bytes));
  });

  test("and can't take it again fails the next flush, once", async () => {
    await using server = await FakeNbdServer.start(async (peer, connection) => {
      await peer.welcome();
      const { cookie } = await peer.request();
      if (connection === 1) {
        peer.answer(cookie);
        await peer.request();
        return;
      }
      // The write again, and then whatever comes.
      peer.answer(cookie, 28);
      for (;;) peer.answer((await peer.request()).cookie);
    });
    await using disk = await open(server.uri());
    await disk.write!(0n, [Buffer.alloc(SECTOR, 1)]);
    await assert.rejects(disk.flush!(), { code: "ENOSPC" });
    await disk.flush!();
  });

  test("and has no flush has nothing to be repeated", async () => {
    const types: number[] = [];
    await using server = await FakeNbdServer.start(async (peer, connection) => {
      await peer.welcome({ flags: DEFAULT_FLAGS & ~4 });
      for (let i = 0; connection > 1 || i < 2; i++) {
        const { type, cookie, byteLength } = await peer.request();
        if (connection > 1) types.push(type);
        if (connection > 1 || i === 0)
          peer.answer(cookie, 0, type === 0 ? Buffer.alloc(byteLength) : undefined);
      }
    });
    {
      await using disk = await open(server.uri());
      assert.equal(disk.flush, undefined);
      await disk.write!(0n, [Buffer.alloc(SECTOR, 1)]);
      await disk.read(0n, [Buffer.alloc(SECTOR)]);
    }
    await until(() => types.length === 2, "the end is told");
    assert.deepEqual(types, [0, 2]);
  });

  test("for good, and just when it should flush, leaves us able to say so", async () => {
    await using server = await FakeNbdServer.start(async (peer, connection) => {
      if (connection > 1) return;
      await peer.welcome();
      for (;;) {
        const { type, cookie } = await peer.request();
        if (type === 3) return;
        peer.answer(cookie);
      }
    });
    await using disk = await open(server.uri("x-reconnect-timeout=1"));
    const bytes = Buffer.alloc(1 << 20);
    // Enough of them that we flush by ourselves.
    for (let i = 0; i < 16; i++) await disk.write!(0n, [bytes]);
    await assert.rejects(disk.write!(0n, [bytes]), { code: "EIO" });
    await assert.rejects(disk.flush!(), { code: "EIO" });
  });

  test("at each request is tried more and more slowly, and given up", async () => {
    const log = new LineLog();
    await using server = await FakeNbdServer.start(async (peer) => {
      await peer.welcome();
      await peer.request();
    });
    await using disk = await open(server.uri("x-reconnect-timeout=2"), log);
    await assert.rejects(disk.read(0n, [Buffer.alloc(SECTOR)]), { code: "EIO" });
    assert.ok(server.connections >= 3 && server.connections < 12, `${server.connections} connections`);
  });
});

describe("a lost NBD server is come back to", { timeout: 60_000, concurrency: true }, () => {
  /** Answers the whole handshake, and then nothing. */
  const welcomeAnd = async (peer: Peer, then: () => Promise<unknown>) => {
    await peer.welcome();
    await then();
  };
  const aRequest = (peer: Peer) => peer.request();

  test("at once, then after pauses that double, and each reason is told once", async () => {
    const times: number[] = [];
    const FAILURES = 6;
    const log = new LineLog();
    await using server = await FakeNbdServer.start(async (peer, connection) => {
      times.push(performance.now());
      if (connection === 1) await welcomeAnd(peer, () => aRequest(peer));
      else if (connection > 1 + FAILURES)
        await welcomeAnd(peer, async () => {
          for (;;) peer.answer((await peer.request()).cookie);
        });
      // Those between are hung up on without a word.
    });
    await using disk = await open(server.uri(), log);
    await disk.write!(0n, [Buffer.alloc(SECTOR)]);
    assert.equal(server.connections, 2 + FAILURES);
    // The first attempt has no pause before it.
    const pauses = times.slice(2).map((time, i) => time - times[i + 1]!);
    for (const [i, pause] of pauses.entries()) {
      const least = 50 * 2 ** i;
      assert.ok(pause > least - 5, `attempt ${i + 2} came ${pause} ms after the one before, not ${least}`);
    }
    assert.equal(log.like(/NBD server lost/).length, 1);
    assert.equal(log.like(/NBD server not back yet/).length, 1, log.lines.join("\n"));
    assert.equal(log.like(/NBD server back.*"requests":1/).length, 1);
  });

  test("without a pause again, once a connection has lasted", async () => {
    const times: number[] = [];
    let lostAt = 0;
    const LASTING_MS = 5000;
    await using server = await FakeNbdServer.start(async (peer, connection) => {
      times.push(performance.now());
      if (connection === 1) return welcomeAnd(peer, () => aRequest(peer));
      // Pauses have grown to 1.6 s when the seventh attempt succeeds.
      if (connection < 8) return;
      await welcomeAnd(peer, async () => {
        peer.answer((await peer.request()).cookie);
        if (connection > 8) return peer.read(1 << 30);
        await sleep(LASTING_MS + 100);
        lostAt = performance.now();
      });
    });
    await using disk = await open(server.uri());
    await disk.write!(0n, [Buffer.alloc(SECTOR)]);
    await until(() => lostAt > 0, "it is lost again", 2 * LASTING_MS);
    await until(() => server.connections === 9, "it is come back to", 10_000);
    const pause = times[8]! - lostAt;
    assert.ok(pause < 1000, `the attempt came ${pause} ms after the loss`);
  });

  test("no more once the disk is closed, though it was to be tried again", async () => {
    await using server = await FakeNbdServer.start(async (peer, connection) => {
      if (connection === 1) await welcomeAnd(peer, () => aRequest(peer));
    });
    const disk = await open(server.uri());
    const write = disk.write!(0n, [Buffer.alloc(SECTOR)]);
    const refused = assert.rejects(write, { code: "EIO" });
    await until(() => server.connections >= 5, "it is tried again and again", 10_000);
    const { connections } = server;
    await disk.close!();
    await refused;
    // The pause that was under way is 0.4 s long.
    await sleep(1000);
    assert.equal(server.connections, connections);
  });
});
