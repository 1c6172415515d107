// NBD exports of nbdkit and qemu-nbd as disks: what they hold, what they can and can't, and what keeps them from being used.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, openSync, readSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { BlockDisk } from "../../host/engines/block-disk.ts";
import { StartError } from "../../host/errors.ts";
import { openNbdDisk } from "../../host/storage/nbd/disk.ts";
import { LineLog } from "../support/nbd-log.ts";
import { NbdServer, type NbdServerOptions, nbdUnavailable } from "../support/nbd-server.ts";
import { Random, tellSeed } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";

const skip = skipWithout(nbdUnavailable());
const KIB = 1024;
const MIB = 1024 * KIB;
const SIZE = 16 * MIB;

const nbdkit = (...args: string[]): NbdServerOptions => ({ args: () => args });

async function open(uri: string, readOnly = false): Promise<BlockDisk & AsyncDisposable> {
  const disk = await openNbdDisk(uri, { readOnly, log: new LineLog().log });
  return Object.assign(disk, { [Symbol.asyncDispose]: () => disk.close!() });
}

/** Shared memory, as a guest's is. */
function guestBytes(byteLength: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(byteLength));
}

async function readBack(disk: BlockDisk, offset: bigint, byteLength: number): Promise<Buffer> {
  const bytes = guestBytes(byteLength);
  await disk.read(offset, [bytes]);
  return Buffer.from(bytes);
}

/** Writes and reads at random for a while, many at a time; what is read must be what was written. */
async function exercise(disk: BlockDisk, random: Random, rounds = 20): Promise<Buffer> {
  const unit = disk.blockSize ?? 512;
  const model = await readBack(disk, 0n, SIZE);
  for (let round = 0; round < rounds; round++) {
    // Ranges of their own, so that they may be under way together.
    const parts = random.cut(SIZE / unit, 12);
    let start = 0;
    const work = parts.map(async (units) => {
      const offset = start * unit;
      start += units;
      const byteLength = Math.min(units, random.pick([1, 3, 8, 64, 1000])) * unit;
      const bytes = guestBytes(byteLength);
      const buffers = split(bytes, random, unit);
      if (random.below(2) === 0) {
        bytes.set(random.bytes(byteLength));
        await disk.write!(BigInt(offset), buffers);
        model.set(bytes, offset);
      } else {
        await disk.read(BigInt(offset), buffers);
        assert.ok(
          model.subarray(offset, offset + byteLength).equals(bytes),
          `${byteLength} bytes at ${offset}`,
        );
      }
    });
    await Promise.all(work);
  }
  assert.ok(model.equals(await readBack(disk, 0n, SIZE)));
  return model;
}

function split(bytes: Uint8Array, random: Random, unit: number): Uint8Array[] {
  let at = 0;
  // Segments of any size: a driver's needn't be sectors.
  const lengths =
    random.below(2) === 0
      ? random.cut(bytes.length, 5)
      : random.cut(bytes.length / unit, 5).map((n) => n * unit);
  return lengths.map((length) => {
    at += length;
    return bytes.subarray(at - length, at);
  });
}

describe("an NBD export", { skip, concurrency: 2 }, () => {
  const SERVERS: [what: string, options: NbdServerOptions, parameters?: string[]][] = [
    ["of nbdkit in memory, over a Unix socket", nbdkit("memory", "16M")],
    ["of nbdkit in memory, over TCP", { tcp: true, ...nbdkit("memory", "16M") }],
    ["over four connections", nbdkit("memory", "16M"), ["x-connections=4"]],
    [
      "whose answers come late and in any order",
      nbdkit("--filter=delay", "memory", "16M", "delay-read=3ms", "delay-write=1ms"),
    ],
    [
      "with blocks of 4096 bytes, and requests of 64 KiB at most",
      nbdkit(
        "--filter=blocksize-policy",
        "memory",
        "16M",
        "blocksize-minimum=4096",
        "blocksize-maximum=64K",
        "blocksize-error-policy=error",
      ),
    ],
    ["of a server that knows no options", nbdkit("--mask-handshake=0", "memory", "16M")],
  ];
  for (const [what, options, parameters = []] of SERVERS) {
    test(`${what} holds what was written`, async (t) => {
      await using server = await NbdServer.start(options);
      await using disk = await open(server.uri("", ...parameters));
      assert.equal(disk.byteLength, BigInt(SIZE));
      await exercise(disk, tellSeed(t));
    });
  }

  test("of qemu-nbd writes to its file what a flush says is there", async (t) => {
    const image = (directory: string) => {
      const path = join(directory, "disk.raw");
      writeFileSync(path, "");
      truncateSync(path, SIZE);
      return path;
    };
    await using server = await NbdServer.start({
      program: "qemu-nbd",
      args: (directory) => ["-f", "raw", image(directory)],
    });
    await using disk = await open(server.uri());
    const model = await exercise(disk, tellSeed(t));
    await disk.flush!();
    const fd = openSync(join(server.directory, "disk.raw"), "r");
    const bytes = Buffer.alloc(SIZE);
    readSync(fd, bytes, 0, SIZE, 0);
    closeSync(fd);
    assert.ok(bytes.equals(model));
  });

  test("of a qcow2 image, over TCP, is there again when the server has been started anew", async (t) => {
    await using server = await NbdServer.start({
      program: "qemu-nbd",
      tcp: true,
      args: (directory) => {
        const path = join(directory, "disk.qcow2");
        spawnSync("qemu-img", ["create", "-f", "qcow2", path, String(SIZE)]);
        return ["-f", "qcow2", "-x", "disk", path];
      },
    });
    let model: Buffer;
    {
      await using disk = await open(server.uri("disk"));
      model = await exercise(disk, tellSeed(t), 8);
      await disk.flush!();
    }
    await server.stop();
    await server.restart((directory) => ["-f", "qcow2", "-x", "disk", join(directory, "disk.qcow2")]);
    await using disk = await open(server.uri("disk"));
    assert.ok(model.equals(await readBack(disk, 0n, SIZE)));
  });

  test("discards and zeroes what it is told, and nothing beside it", async () => {
    await using server = await NbdServer.start(nbdkit("memory", "16M"));
    await using disk = await open(server.uri());
    const bytes = new Random(1).bytes(SIZE);
    await disk.write!(0n, [bytes]);
    for (const mayUnmap of [true, false]) {
      const at = mayUnmap ? 4096 : 8 * MIB + 512;
      await disk.writeZeroes!(BigInt(at), 3n * 512n, mayUnmap);
      bytes.fill(0, at, at + 3 * 512);
    }
    await disk.discard!(BigInt(12 * MIB), BigInt(MIB));
    const now = await readBack(disk, 0n, SIZE);
    // What a discarded range holds is the server's affair.
    for (const buffer of [bytes, now]) buffer.fill(0, 12 * MIB, 13 * MIB);
    assert.ok(now.equals(bytes));
  });

  test("beyond 2^53 bytes is reached to its end", async () => {
    const huge = (1n << 62n) + 4096n;
    await using server = await NbdServer.start(nbdkit("memory", String(huge)));
    await using disk = await open(server.uri());
    assert.equal(disk.byteLength, huge);
    const bytes = new Random(2).bytes(1536);
    await disk.write!(huge - 1536n, [bytes]);
    assert.ok(bytes.equals(await readBack(disk, huge - 1536n, 1536)));
    // Longer than one request's 32 bits.
    await disk.writeZeroes!(huge - (6n << 30n), 6n << 30n, true);
    assert.ok((await readBack(disk, huge - 1536n, 1536)).equals(Buffer.alloc(1536)));
  });

  test("offers only what the server does", async () => {
    const can = (disk: BlockDisk) =>
      (["write", "flush", "discard", "writeZeroes"] as const).filter((method) => disk[method] !== undefined);
    await using full = await NbdServer.start(nbdkit("memory", "16M"));
    await using everything = await open(full.uri());
    assert.deepEqual(can(everything), ["write", "flush", "discard", "writeZeroes"]);
    await using plain = await NbdServer.start(
      nbdkit(
        "eval",
        "get_size=echo 1M",
        "pread=dd if=/dev/zero bs=$3 count=1 status=none",
        "can_write=exit 0",
        "pwrite=cat >/dev/null",
      ),
    );
    await using little = await open(plain.uri());
    assert.equal(little.flush, undefined);
    assert.equal(little.discard, undefined);
    await using readOnly = await open(full.uri(), true);
    assert.deepEqual(can(readOnly), []);
    assert.equal(readOnly.readOnly, true);
  });

  test("makes writes stable with FUA where that is all the server has", async () => {
    await using server = await NbdServer.start({
      args: (directory) => [
        "eval",
        "get_size=echo 1M",
        "can_write=exit 0",
        "can_fua=echo native",
        "pread=dd if=/dev/zero bs=$3 count=1 status=none",
        `pwrite=cat >/dev/null; echo "$5" >>${directory}/flags`,
      ],
    });
    await using disk = await open(server.uri());
    assert.equal(disk.flush, undefined);
    await disk.write!(0n, [Buffer.alloc(512)]);
    const { stdout } = spawnSync("cat", [join(server.directory, "flags")], { encoding: "utf8" });
    assert.equal(stdout, "fua\n");
  });

  const ERRORS = ["EPERM", "EIO", "ENOMEM", "EINVAL", "ENOSPC"];
  test("passes the server's errors on by their names, for the request that failed", async () => {
    for (const code of ERRORS) {
      await using server = await NbdServer.start(
        nbdkit("--filter=error", "memory", "16M", `error=${code}`, "error-pwrite-rate=100%"),
      );
      await using disk = await open(server.uri());
      await assert.rejects(disk.write!(0n, [Buffer.alloc(4096)]), (error: NodeJS.ErrnoException) => {
        assert.equal(error.code, code);
        return error.errno! < 0;
      });
      await disk.read(0n, [Buffer.alloc(512)]);
    }
  });

  test("fails a request of many pieces when one of them fails, once none is under way", async () => {
    await using server = await NbdServer.start(
      nbdkit(
        "--filter=blocksize-policy",
        "--filter=error",
        "memory",
        "16M",
        "error-pread-rate=30%",
        "blocksize-maximum=64K",
        "blocksize-minimum=1",
        "blocksize-preferred=4K",
      ),
    );
    await using disk = await open(server.uri());
    await assert.rejects(disk.read(0n, [Buffer.alloc(8 * MIB)]), { code: "EIO" });
  });
});

describe("an NBD disk can't start", { skip }, () => {
  const refuses = async (uri: string, reason: RegExp, readOnly = false) =>
    assert.rejects(openNbdDisk(uri, { readOnly, log: new LineLog().log }), (error: Error) => {
      assert.ok(error instanceof StartError, error.stack);
      assert.match(error.message, reason);
      assert.ok(error.message.startsWith("can't "), error.message);
      return true;
    });

  test("without a server", async () => {
    await refuses("nbd+unix:///?socket=/nowhere/nbd.sock", /no such file or directory$/);
    await refuses("nbd://127.0.0.1:1/", /connection refused$/);
  });

  test("on an export that the server doesn't have", async () => {
    await using server = await NbdServer.start({
      program: "qemu-nbd",
      args: () => ["-x", "one", "--image-opts", "driver=null-co,size=1M,read-zeroes=on"],
    });
    await refuses(server.uri("two"), /the server doesn't have the export "two"/);
    await refuses(server.uri(), /the server doesn't have the default export/);
  });

  test("on a server of the old style", async () => {
    await using server = await NbdServer.start(nbdkit("--oldstyle", "memory", "1M"));
    await refuses(server.uri(), /oldstyle NBD/);
  });

  test("for writing on a read-only export, but for reading it can", async () => {
    await using server = await NbdServer.start(nbdkit("-r", "memory", "1M"));
    await refuses(server.uri(), /read-only; readOnly may serve it/);
    await using disk = await open(server.uri(), true);
    await disk.read(0n, [Buffer.alloc(512)]);
  });

  test("on an empty export, or one that has no whole block to write", async () => {
    await using empty = await NbdServer.start(nbdkit("null", "0"));
    await refuses(empty.uri(), /the export is empty/);
    await using short = await NbdServer.start(nbdkit("null", "500"));
    await refuses(short.uri(), /the export has only 500 bytes, less than a block/);
  });

  test("on a server whose blocks are larger than a guest's can be", async () => {
    await using server = await NbdServer.start(
      nbdkit(
        "--filter=blocksize-policy",
        "memory",
        "16M",
        "blocksize-minimum=65536",
        "blocksize-preferred=65536",
        "blocksize-maximum=1M",
      ),
    );
    await refuses(server.uri(), /blocks of 65536 bytes, a guest's have 4096 at most/);
  });
});

describe("an NBD export that ends within a block", { skip }, () => {
  const file = (directory: string): readonly string[] => {
    const path = join(directory, "disk.img");
    writeFileSync(path, Buffer.alloc(1300, 7));
    return ["file", path];
  };

  test("is written without its end", async () => {
    await using server = await NbdServer.start({ args: file });
    const log = new LineLog();
    await using disk = await openNbdDisk(server.uri(), { readOnly: false, log: log.log }).then((opened) =>
      Object.assign(opened, { [Symbol.asyncDispose]: () => opened.close!() }),
    );
    assert.equal(disk.byteLength, 1024n);
    assert.match(log.lines.join(), /no multiple of a block: its end is left out.*1300.*1024/);
    await disk.write!(512n, [Buffer.alloc(512, 8)]);
    assert.deepEqual(await readBack(disk, 0n, 1024), Buffer.alloc(1024, 7).fill(8, 512));
  });

  test("is read with zeroes behind its end", async () => {
    await using server = await NbdServer.start({ args: file });
    await using disk = await open(server.uri(), true);
    assert.equal(disk.byteLength, 1536n);
    assert.deepEqual(await readBack(disk, 0n, 1536), Buffer.alloc(1536).fill(7, 0, 1300));
    assert.deepEqual(await readBack(disk, 1024n, 512), Buffer.alloc(512).fill(7, 0, 276));
  });
});
