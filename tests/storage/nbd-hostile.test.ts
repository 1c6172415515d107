// NBD servers that lie, babble or hang up: each ends its own connection with a reason, and never more than that.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { BlockDisk } from "../../host/engines/block-disk.ts";
import { StartError } from "../../host/errors.ts";
import { openNbdDisk } from "../../host/storage/nbd/disk.ts";
import { DEFAULT_FLAGS, FakeNbdServer, type Peer } from "../support/nbd-fake.ts";
import { LineLog } from "../support/nbd-log.ts";
import { tellSeed } from "../support/random.ts";
import { until } from "../support/until.ts";

const SECTOR = 512;

const info = (type: number, ...fields: [bits: 16 | 32 | 64, value: number | bigint][]) => {
  const bytes = Buffer.alloc(2 + fields.reduce((sum, [bits]) => sum + bits / 8, 0));
  bytes.writeUInt16BE(type);
  let at = 2;
  for (const [bits, value] of fields) {
    if (bits === 64) bytes.writeBigUInt64BE(BigInt(value), at);
    else bytes.writeUIntBE(Number(value), at, bits / 8);
    at += bits / 8;
  }
  return bytes;
};
const exportInfo = (byteLength: bigint, flags = DEFAULT_FLAGS) => info(0, [64, byteLength], [16, flags]);
const blockSizes = (least: number, preferred: number, most: number) =>
  info(3, [32, least], [32, preferred], [32, most]);

/** Replies to NBD_OPT_GO with information, and then with an acknowledgement. */
const goWith =
  (...replies: Buffer<ArrayBufferLike>[]) =>
  async (peer: Peer) => {
    await peer.greet();
    const { option } = await peer.option();
    for (const data of replies) peer.reply(option, 3, data);
    peer.reply(option, 1);
    await peer.read(1);
  };

describe("a handshake ends with a reason", () => {
  const CASES: [what: string, script: (peer: Peer) => Promise<void>, reason: RegExp][] = [
    ["the server hangs up at once", async () => {}, /the server hung up/],
    [
      "the server speaks HTTP",
      async (peer) => peer.write(Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n")),
      /this is no NBD server/,
    ],
    [
      "the second magic is another",
      async (peer) => peer.write(Buffer.from("NBDMAGICNBDMAGIC\0\x03")),
      /this is no NBD server/,
    ],
    [
      "a reply has another magic",
      async (peer) => {
        await peer.greet();
        await peer.option();
        peer.write(Buffer.alloc(20, 1));
        await peer.read(1);
      },
      /the server's reply isn't NBD/,
    ],
    [
      "a reply is to another option",
      async (peer) => {
        await peer.greet();
        await peer.option();
        peer.reply(3, 1);
        await peer.read(1);
      },
      /the server answered what wasn't asked/,
    ],
    [
      "a reply announces 4 GiB",
      async (peer) => {
        await peer.greet();
        await peer.option();
        peer.write([64, 0x3e889045565a9n], [32, 7], [32, 3], [32, 0xffffffff]);
        await peer.read(1);
      },
      /the server announced a reply of 4294967295 bytes/,
    ],
    ["no size is told", goWith(), /didn't tell the export's size/],
    ["a description is cut short", goWith(exportInfo(1n << 20n).subarray(0, 11)), /wrong length/],
    ["a description has no type", goWith(Buffer.alloc(1)), /wrong length/],
    ["the flags are none", goWith(exportInfo(1n << 20n, 0)), /transmission flags are wrong/],
    ["the size is negative", goWith(exportInfo(1n << 63n)), /9223372036854775808 bytes/],
    ["the minimum block is 0", goWith(exportInfo(1n << 20n), blockSizes(0, 4096, 65536)), /at least 0 bytes/],
    ["the minimum block is 3", goWith(exportInfo(1n << 20n), blockSizes(3, 4096, 65536)), /at least 3 bytes/],
    [
      "the minimum block is 128 KiB",
      goWith(exportInfo(1n << 20n), blockSizes(1 << 17, 1 << 17, 1 << 20)),
      /at least 131072 bytes/,
    ],
    ["the maximum block is 0", goWith(exportInfo(1n << 20n), blockSizes(512, 512, 0)), /at most 0 bytes/],
    [
      "the maximum block is no multiple",
      goWith(exportInfo(1n << 20n), blockSizes(512, 512, 1000)),
      /at most 1000 bytes/,
    ],
    [
      "more comes than was asked for",
      async (peer) => {
        await peer.greet();
        await peer.option();
        const reply = (type: number, data: Buffer) =>
          [[64, 0x3e889045565a9n], [32, 7], [32, type], [32, data.length], data] as const;
        peer.write(...reply(3, exportInfo(1n << 20n)), ...reply(1, Buffer.alloc(0)), Buffer.alloc(16));
        await peer.read(1);
      },
      /answered before it was asked/,
    ],
    [
      "the server is shutting down",
      async (peer) => {
        await peer.greet();
        peer.reply((await peer.option()).option, 0x80000007);
        await peer.read(1);
      },
      /the server is shutting down/,
    ],
    [
      "the server wants TLS",
      async (peer) => {
        await peer.greet();
        peer.reply((await peer.option()).option, 0x80000005);
        await peer.read(1);
      },
      /the server wants TLS for the default export: use nbds:\/\/ or nbds\+unix:\/\//,
    ],
    [
      "the server refuses, in words that aren't for a terminal",
      async (peer) => {
        await peer.greet();
        peer.reply((await peer.option()).option, 0x80000002, Buffer.from("\x1b[2Jnot\nyou"));
        await peer.read(1);
      },
      /the server refuses the default export \("\[2Jnot you"\)$/,
    ],
    [
      "it knows no NBD_OPT_GO, and hangs up on NBD_OPT_EXPORT_NAME",
      async (peer) => {
        await peer.greet();
        peer.reply((await peer.option()).option, 0x80000001);
        await peer.option();
      },
      /hung up when asked for the export ""/,
    ],
  ];
  for (const [what, script, reason] of CASES) {
    test(`when ${what}`, async () => {
      await using server = await FakeNbdServer.start(script);
      await assert.rejects(
        openNbdDisk(server.uri(), { readOnly: false, log: new LineLog().log }),
        (error: Error) => error instanceof StartError && reason.test(error.message),
      );
    });
  }

  test("when it is told to stop while the server says nothing", async () => {
    await using server = await FakeNbdServer.start(async (peer) => void (await peer.read(1)));
    const stopping = new AbortController();
    const opening = openNbdDisk(server.uri(), {
      readOnly: false,
      log: new LineLog().log,
      stopping: stopping.signal,
    });
    await until(() => server.connections === 1, "the server is asked");
    stopping.abort();
    await assert.rejects(opening, /the server doesn't answer/);
  });

  test("and falls back to NBD_OPT_EXPORT_NAME where there is no NBD_OPT_GO", async () => {
    await using server = await FakeNbdServer.start(async (peer) => {
      await peer.greet(1);
      peer.reply((await peer.option()).option, 0x80000001);
      assert.equal((await peer.option()).option, 1);
      peer.write([64, 1n << 20n], [16, DEFAULT_FLAGS], Buffer.alloc(124));
      const { cookie } = await peer.request();
      peer.answer(cookie, 0, Buffer.alloc(SECTOR, 7));
      await peer.read(1);
    });
    await using disk = await openFake(server);
    const bytes = Buffer.alloc(SECTOR);
    await disk.read(0n, [bytes]);
    assert.ok(bytes.every((byte) => byte === 7));
  });
});

async function openFake(
  server: FakeNbdServer,
  log = new LineLog(),
  ...parameters: string[]
): Promise<BlockDisk & AsyncDisposable> {
  const disk = await openNbdDisk(server.uri(...parameters), { readOnly: false, log: log.log });
  return Object.assign(disk, { [Symbol.asyncDispose]: () => disk.close!() });
}

describe("a connection ends with a reason, and the request is answered by the next one", () => {
  const CASES: [
    what: string,
    misbehave: (peer: Peer, cookie: Buffer) => void | Promise<void>,
    reason: RegExp,
  ][] = [
    ["garbage comes instead of a reply", (peer) => peer.write(Buffer.alloc(16, 0xee)), /reply isn't NBD/],
    [
      "a structured reply comes that wasn't agreed on",
      (peer, cookie) => peer.write([32, 0x668e33ef], [16, 1], [16, 0], cookie, [32, 0]),
      /reply isn't NBD/,
    ],
    [
      "a reply has a cookie of nobody's",
      (peer) => peer.answer(Buffer.from("nobody's")),
      /answered what wasn't asked/,
    ],
    [
      "a reply has a cookie of ours with another half",
      (peer, cookie) => peer.answer(Buffer.concat([Buffer.alloc(4), cookie.subarray(4)])),
      /answered what wasn't asked/,
    ],
    [
      "more payload comes than was asked for",
      (peer, cookie) => peer.answer(cookie, 0, Buffer.alloc(3 * SECTOR, 1)),
      /reply isn't NBD/,
    ],
    [
      "a request is answered twice",
      (peer, cookie) => {
        peer.answer(cookie, 0, Buffer.alloc(SECTOR, 7));
        peer.answer(cookie, 0, Buffer.alloc(SECTOR, 7));
      },
      /answered what wasn't asked/,
    ],
    [
      "the server hangs up within a payload",
      (peer, cookie) => peer.answer(cookie, 0, Buffer.alloc(100, 1)),
      /hung up/,
    ],
    ["the server is shutting down", (peer, cookie) => peer.answer(cookie, 108), /shutting down/],
  ];
  for (const [what, misbehave, reason] of CASES) {
    test(`when ${what}`, async () => {
      const log = new LineLog();
      await using server = await FakeNbdServer.start(async (peer, connection) => {
        await peer.welcome();
        const { cookie } = await peer.request();
        if (connection === 1) {
          await misbehave(peer, cookie);
          await new Promise((resolve) => setTimeout(resolve, 50));
          return;
        }
        peer.answer(cookie, 0, Buffer.alloc(SECTOR, 7));
        await peer.read(1);
      });
      await using disk = await openFake(server, log);
      const bytes = Buffer.alloc(2 * SECTOR);
      await disk.read(0n, [bytes.subarray(0, SECTOR)]);
      // One that was answered before the connection ended leaves it to a second to find the new one.
      if (server.connections === 1) await disk.read(0n, [bytes.subarray(0, SECTOR)]);
      assert.ok(bytes.subarray(0, SECTOR).every((byte) => byte === 7));
      assert.ok(bytes.subarray(SECTOR).every((byte) => byte === 0));
      assert.equal(server.connections, 2);
      assert.match(log.lines.join("\n"), reason);
    });
  }

  test("an error that NBD doesn't know counts as EINVAL, and the connection stays", async () => {
    await using server = await FakeNbdServer.start(async (peer) => {
      await peer.welcome();
      for (const value of [9999, 75, 95]) peer.answer((await peer.request()).cookie, value);
      await peer.read(1);
    });
    await using disk = await openFake(server);
    const codes = [];
    for (let i = 0; i < 3; i++)
      codes.push(await disk.read(0n, [Buffer.alloc(SECTOR)]).catch(({ code }) => code));
    assert.deepEqual(codes, ["EINVAL", "EOVERFLOW", "ENOTSUP"]);
    assert.equal(server.connections, 1);
  });

  test("a write that is answered before it has been sent settles only when its memory is no longer read", async () => {
    let isTaken = false;
    await using server = await FakeNbdServer.start(async (peer) => {
      await peer.welcome();
      const header = await peer.read(28);
      // Nothing more is read until the client must think that it is done.
      peer.socket.pause();
      peer.answer(header.subarray(8, 16), 28);
      await new Promise((resolve) => setTimeout(resolve, 100));
      isTaken = true;
      peer.socket.resume();
      await peer.read(1 << 29);
    });
    await using disk = await openFake(server);
    await assert.rejects(disk.write!(0n, [Buffer.alloc(1 << 20)]), { code: "ENOSPC" });
    assert.ok(isTaken);
  });

  test("random bytes never end more than their connection", async (t) => {
    const random = tellSeed(t);
    const log = new LineLog();
    const CONNECTIONS = 7;
    await using server = await FakeNbdServer.start(async (peer, connection) => {
      await peer.welcome();
      const { cookie } = await peer.request();
      if (connection < CONNECTIONS) {
        if (random.below(2) === 0) peer.write([32, 0x67446698], [32, random.below(2)], random.bytes(8));
        peer.write(random.bytes(random.between(1, 2000)));
        await new Promise((resolve) => setTimeout(resolve, 2));
        return;
      }
      peer.answer(cookie, 0, Buffer.alloc(SECTOR, 7));
      await peer.read(1);
    });
    await using disk = await openFake(server, log);
    const bytes = Buffer.alloc(SECTOR);
    await disk.read(0n, [bytes]);
    assert.equal(server.connections, CONNECTIONS);
    assert.ok(bytes.every((byte) => byte === 7));
  });
});
