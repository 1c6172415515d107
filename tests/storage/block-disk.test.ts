// Disks that are objects: what they are asked, what becomes of what they answer, and of what they don't.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  type BlockDisk,
  BusyError,
  type Log,
  MemoryDisk,
  type ServeOptions,
  type Server,
  StartError,
  serve,
} from "vringd";
import {
  BLK_CONFIG_WRITEBACK,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd, type FrontEndOptions } from "../../host/front-end/front-end.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { tellSeed } from "../support/random.ts";
import { until } from "../support/until.ts";

const MIB = 2 ** 20;

interface Rig extends AsyncDisposable {
  server: Server;
  frontEnd: FrontEnd;
  socketPath: string;
}

async function serveObject(
  disk: BlockDisk,
  options: Partial<ServeOptions> = {},
  frontEndOptions: FrontEndOptions = {},
): Promise<Rig> {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  const socketPath = join(directory, "blk.sock");
  const server = await serve({ disk, socketPath, ...options });
  const frontEnd = await FrontEnd.connect(socketPath, frontEndOptions);
  return {
    server,
    frontEnd,
    socketPath,
    async [Symbol.asyncDispose]() {
      frontEnd.close();
      await server.close();
      rmSync(directory, { recursive: true });
    },
  };
}

/** Remembers the names of what it was asked, in a disk that works. */
class Recorder implements BlockDisk {
  readonly calls: string[] = [];
  readonly byteLength = BigInt(MIB);
  protected readonly memory = new MemoryDisk(MIB);

  read(offset: bigint, buffers: readonly Uint8Array[]): Promise<void> {
    this.calls.push(`read ${offset} ${lengths(buffers)}`);
    return this.memory.read(offset, buffers);
  }

  write(offset: bigint, buffers: readonly Uint8Array[]): Promise<void> {
    this.calls.push(`write ${offset} ${lengths(buffers)}`);
    return this.memory.write(offset, buffers);
  }

  async flush(): Promise<void> {
    this.calls.push("flush");
  }

  async discard(offset: bigint, byteLength: bigint): Promise<void> {
    this.calls.push(`discard ${offset} ${byteLength}`);
  }

  async writeZeroes(offset: bigint, byteLength: bigint, mayUnmap: boolean): Promise<void> {
    this.calls.push(`zero ${offset} ${byteLength} ${mayUnmap}`);
    await this.memory.writeZeroes(offset, byteLength);
  }
}

function lengths(buffers: readonly Uint8Array[]): string {
  return buffers.map(({ length }) => length).join("+");
}

function failing(error: () => unknown): BlockDisk {
  return {
    byteLength: BigInt(MIB),
    read: () => {
      throw error();
    },
    write: () => Promise.reject(error()),
    flush: () => Promise.reject(error()),
  };
}

describe("a disk that is an object", () => {
  for (const packed of [false, true]) {
    test(`keeps what four ${packed ? "packed" : "split"} rings write`, async (t) => {
      await using rig = await serveObject(new MemoryDisk(16 * MIB), { packed }, { packed, queues: 4 });
      const random = tellSeed(t);
      await Promise.all(
        [0, 1, 2, 3].map((queue) =>
          MixedLoad.run(rig.frontEnd.disk(queue), {
            random,
            count: 1000,
            depth: 16,
            firstSector: queue * 8192,
            sectors: 8192,
            indirect: true,
          }),
        ),
      );
      assert.equal(rig.server.engine, "disk");
      assert.equal(rig.server.stats().failures, 0);
    });
  }

  test("is asked each thing as the guest asked it", async () => {
    const recorder = new Recorder();
    await using rig = await serveObject(recorder);
    const disk = rig.frontEnd.disk();
    await disk.write(8, Buffer.alloc(4096, 1));
    await disk.read(8, 8);
    await disk.flush();
    await disk.discard([{ sector: 16, sectors: 8 }]);
    await disk.writeZeroes([{ sector: 24, sectors: 8 }]);
    await disk.writeZeroes([{ sector: 32, sectors: 8, flags: VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP }]);
    assert.deepEqual(recorder.calls, [
      "write 4096 4096",
      "read 4096 4096",
      "flush",
      "discard 8192 4096",
      "zero 12288 4096 false",
      "zero 16384 4096 true",
    ]);
  });

  test("gets the guest's buffers as they are, of any lengths", async () => {
    const recorder = new Recorder();
    await using rig = await serveObject(recorder);
    const disk = rig.frontEnd.disk();
    const out = Buffer.alloc(1536, "vringd ");
    const written = await disk.request({
      type: VIRTIO_BLK_T_OUT,
      sector: 1,
      out,
      readableLengths: [16, 1, 1000, 535],
    });
    assert.equal(written.status, VIRTIO_BLK_S_OK);
    const read = await disk.request({
      type: VIRTIO_BLK_T_IN,
      sector: 1,
      inLength: 1536,
      writableLengths: [7, 1500, 29, 1],
    });
    assert.equal(read.status, VIRTIO_BLK_S_OK);
    assert.deepEqual(read.data, out);
    assert.deepEqual(recorder.calls, ["write 512 1+1000+535", "read 512 7+1500+29"]);
  });

  test("without writeZeroes has zeroes written, without discard ignores it", async () => {
    const memory = new MemoryDisk(MIB);
    const disk: BlockDisk = {
      byteLength: memory.byteLength,
      read: (offset, buffers) => memory.read(offset, buffers),
      write: (offset, buffers) => memory.write(offset, buffers),
    };
    await using rig = await serveObject(disk);
    const driver = rig.frontEnd.disk();
    await driver.write(0, Buffer.alloc(MIB, 1));
    await driver.discard([{ sector: 0, sectors: 8 }]);
    await driver.writeZeroes([{ sector: 8, sectors: 1001 }]);
    const expected = Buffer.alloc(MIB, 1).fill(0, 8 * 512, 1009 * 512);
    assert.deepEqual(await driver.read(0, MIB / 512), expected);
  });

  test("is flushed after each write with write-through, and by nobody else without", async () => {
    const recorder = new Recorder();
    await using rig = await serveObject(recorder);
    const { frontEnd } = rig;
    await frontEnd.disk().write(0, Buffer.alloc(512));
    await frontEnd.setConfig({ offset: BLK_CONFIG_WRITEBACK, flags: 0, bytes: Buffer.from([0]) });
    await frontEnd.disk().write(1, Buffer.alloc(512));
    await frontEnd.disk().writeZeroes([{ sector: 2, sectors: 1 }]);
    assert.deepEqual(recorder.calls, [
      "write 0 512",
      "write 512 512",
      "flush",
      "zero 1024 512 false",
      "flush",
    ]);
  });

  test("without write is read-only", async () => {
    const disk = { byteLength: BigInt(MIB), read: async () => {} };
    await using rig = await serveObject(disk);
    const { status } = await rig.frontEnd
      .disk()
      .request({ type: VIRTIO_BLK_T_OUT, sector: 0, out: Buffer.alloc(512) });
    assert.equal(status, VIRTIO_BLK_S_IOERR);
  });

  test("with large blocks is never asked for less than one", async () => {
    const asked: number[] = [];
    const disk: BlockDisk = {
      byteLength: BigInt(MIB),
      blockSize: 4096,
      read: async (_offset, buffers) => {
        asked.push(Number(lengths(buffers)));
      },
    };
    await using rig = await serveObject(disk);
    const driver = rig.frontEnd.disk();
    assert.equal(
      (await driver.request({ type: VIRTIO_BLK_T_IN, sector: 8, inLength: 512 })).status,
      VIRTIO_BLK_S_IOERR,
    );
    await driver.read(8, 8);
    assert.deepEqual(asked, [4096]);
  });

  for (const [what, error] of [
    ["an exception", () => new Error("out of order")],
    ["a rejection with an errno", () => Object.assign(new Error("full"), { code: "ENOSPC" })],
    ["a rejection with nothing", () => undefined],
    ["an error that asks for another try", () => Object.assign(new Error("again"), { errno: 11 })],
  ] as const) {
    test(`fails a request by ${what}, and goes on`, async () => {
      const failed: string[] = [];
      const logged: unknown[] = [];
      const log: Log = {
        error: () => {},
        warn: (_: object | string, sentence?: string) => logged.push(sentence),
        info: () => {},
        debug: () => {},
      };
      await using rig = await serveObject(failing(error), { log });
      rig.server.on("requestFailed", (operation) => failed.push(operation));
      const disk = rig.frontEnd.disk();
      for (let i = 0; i < 3; i++) {
        const { status } = await disk.request({ type: VIRTIO_BLK_T_IN, sector: i, inLength: 512 });
        assert.equal(status, VIRTIO_BLK_S_IOERR);
      }
      await assert.rejects(disk.write(0, Buffer.alloc(512)));
      await assert.rejects(disk.flush());
      assert.deepEqual(failed, ["read", "read", "read", "write", "flush"]);
      // The first of each kind; the others are counted.
      assert.deepEqual(logged, ["a read failed", "a write failed", "a flush failed"]);
    });
  }

  test("reaches the far end of a guest of 6 GiB", async () => {
    const memory = [{ gpa: 0x1_0000_0000, byteLength: 6 * 1024 * MIB, userAddress: 0x7f5a_c000_0000 }];
    await using rig = await serveObject(new MemoryDisk(MIB), {}, { memory });
    rig.frontEnd.memory.allocate(4 * 1024 * MIB);
    const block = Buffer.alloc(8192, "vringd");
    await rig.frontEnd.disk().write(0, block);
    assert.deepEqual(await rig.frontEnd.disk().read(0, 16), block);
  });

  test("keeps nobody else waiting with a promise that never settles", async () => {
    let release = () => {};
    const stuck = new Promise<void>((resolve) => {
      release = resolve;
    });
    const disk: BlockDisk = {
      byteLength: BigInt(MIB),
      read: (offset) => (offset === 0n ? stuck : Promise.resolve()),
    };
    const rig = await serveObject(disk, {}, { queues: 2 });
    const late = rig.frontEnd.disk().read(0, 1);
    for (let i = 0; i < 100; i++) await rig.frontEnd.disk(i % 2).read(8, 1);
    const closing = rig.server.close();
    await assert.rejects(closing, BusyError);
    release();
    await rig.server.closed;
    await late;
    await rig[Symbol.asyncDispose]();
  });
});

describe("serve", () => {
  test("says what is wrong with a disk", async () => {
    const read = async () => {};
    const socketPath = join(tmpdir(), `vringd-test-${process.pid}.sock`);
    for (const [disk, reason] of [
      [{ byteLength: 1000n, read }, /1000 bytes; give it a bigint that is a multiple/],
      [{ byteLength: 1024 as unknown as bigint, read }, /give it a bigint/],
      [{ byteLength: 4096n, blockSize: 1000, read }, /blocks of 1000 bytes/],
      [{ byteLength: 4096n, serial: "x".repeat(21), read }, /up to 20 ASCII characters/],
    ] as const) {
      await assert.rejects(serve({ disk, socketPath }), (error) => {
        assert.ok(error instanceof StartError);
        assert.match(error.message, reason);
        return true;
      });
    }
  });

  test("tells of front-ends that come and go, and counts what they did", async () => {
    const events: string[] = [];
    await using rig = await serveObject(new MemoryDisk(MIB));
    rig.server.on("disconnect", ({ reads }) => events.push(`disconnect ${reads}`));
    rig.server.on("connect", () => events.push("connect"));
    await rig.frontEnd.disk().read(0, 1);
    rig.frontEnd.close();
    await until(() => events.length > 0, "it hears of the disconnect");
    await using second = await FrontEnd.connect(rig.socketPath);
    await second.disk().read(0, 1);
    assert.deepEqual(events, ["disconnect 1", "connect"]);
    assert.equal(rig.server.stats().reads, 2);
  });

  test("ends by an AbortSignal, and closes the disk once", async () => {
    let closes = 0;
    const controller = new AbortController();
    const disk = Object.assign(new MemoryDisk(MIB), { close: async () => void closes++ });
    await using rig = await serveObject(disk, { signal: controller.signal });
    controller.abort();
    await rig.server.closed;
    await rig.server.close();
    assert.equal(closes, 1);
    await assert.rejects(serve({ disk, socketPath: rig.socketPath, signal: controller.signal }), {
      name: "AbortError",
    });
  });
});
