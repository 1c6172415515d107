// Real storage that goes wrong: a full file system, an image cut short, a device with bad sectors.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  SECTOR_SIZE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { findLockHolder } from "../../host/linux/lock-holder.ts";
import { skipWithout } from "../support/skip.ts";
import { Vringd } from "../support/vringd.ts";

const MIB = 1 << 20;
const SECTORS_A_MIB = MIB / SECTOR_SIZE;

/** Runs a command of root's, or throws what it said. Returns its output. */
function run(...[command, ...args]: [string, ...string[]]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8" });
  if (status === 0) return stdout.trim();
  throw error ?? new Error(stderr.trim());
}

class Directory {
  readonly path = mkdtempSync(join(tmpdir(), "vringd-test-"));

  /** Runs root's command that makes something of it, or is gone. */
  use(...command: [string, ...string[]]): string {
    try {
      return run(...command);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}

/** A file system in memory, with so little room. */
class SmallTmpfs {
  private readonly directory = new Directory();
  readonly path = this.directory.path;

  constructor(byteLength: number) {
    this.directory.use("mount", "-t", "tmpfs", "-o", `size=${byteLength}`, "vringd-test", this.path);
  }

  [Symbol.dispose](): void {
    run("umount", "-l", this.path);
    this.directory[Symbol.dispose]();
  }
}

/** A block device over a file. What lies behind the file's end are bad sectors. */
class LoopDevice {
  private readonly directory = new Directory();
  private readonly file = join(this.directory.path, "backing");
  readonly path: string;

  constructor(byteLength: number) {
    writeFileSync(this.file, "");
    truncateSync(this.file, byteLength);
    this.path = this.directory.use("losetup", "--find", "--show", this.file);
  }

  cutAt(byteLength: number): void {
    truncateSync(this.file, byteLength);
  }

  [Symbol.dispose](): void {
    run("losetup", "--detach", this.path);
    this.directory[Symbol.dispose]();
  }
}

function whyNot(make: () => Disposable): string | false {
  try {
    make()[Symbol.dispose]();
    return false;
  } catch (error) {
    return (error as Error).message.split("\n")[0]!;
  }
}

test("a lock on a file of the same inode in another file system is nobody's", {
  skip: skipWithout(whyNot(() => new SmallTmpfs(MIB))),
}, async () => {
  using first = new SmallTmpfs(MIB);
  using second = new SmallTmpfs(MIB);
  const images = [first, second].map(({ path }) => join(path, "disk.img"));
  for (const image of images) {
    writeFileSync(image, "");
    truncateSync(image, MIB);
  }
  const [inode, other] = images.map((image) => statSync(image).ino);
  assert.equal(inode, other);
  await using daemon = await Vringd.start({ args: [`--blk-file=${images[0]}`] });
  const holders = images.map((image) => {
    const fd = openSync(image, "r+");
    const holder = findLockHolder(fd);
    closeSync(fd);
    return holder?.pid;
  });
  assert.deepEqual(holders, [daemon.pid, undefined]);
});

for (const engine of ["io_uring", "threads"]) {
  describe(`with ${engine}`, { timeout: 60_000 }, () => {
    const noTmpfs = whyNot(() => new SmallTmpfs(MIB));
    test("a write that finds the file system full is an error, and others go on", {
      skip: skipWithout(noTmpfs),
    }, async () => {
      using tmpfs = new SmallTmpfs(2 * MIB);
      const image = join(tmpfs.path, "disk.img");
      writeFileSync(image, "");
      truncateSync(image, 64 * MIB);
      await using daemon = await Vringd.start({ args: [`--blk-file=${image}`, `--engine=${engine}`] });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      const disk = frontEnd.disk();
      const block = Buffer.alloc(64 * 1024, 7);
      const statuses: number[] = [];
      for (let at = 0; at < 4 * MIB; at += block.length) {
        const sector = at / SECTOR_SIZE;
        statuses.push((await disk.request({ type: VIRTIO_BLK_T_OUT, sector, out: block })).status);
      }
      const full = statuses.indexOf(VIRTIO_BLK_S_IOERR);
      assert.ok(full >= 16, `full after ${full} writes`);
      assert.deepEqual(await disk.read((full - 1) * 128, 128), block);
      // In place it needs no room, and room that is given back can be used.
      await disk.write(0, block);
      await disk.discard([{ sector: 0, sectors: 2 * 128 }]);
      await disk.write(40 * SECTORS_A_MIB, block);
      await disk.flush();
    });

    test("what lies behind the end of an image cut short under it is an error, and the rest goes on", async () => {
      await using daemon = await Vringd.start({ args: [`--engine=${engine}`] });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      const disk = frontEnd.disk();
      await disk.write(0, Buffer.alloc(MIB, 7));
      truncateSync(daemon.imagePath, MIB / 2);
      const statusAt = async (sector: number, sectors: number) =>
        (await disk.request({ type: VIRTIO_BLK_T_IN, sector, inLength: sectors * SECTOR_SIZE })).status;
      const half = SECTORS_A_MIB / 2;
      assert.equal(await statusAt(half, 8), VIRTIO_BLK_S_IOERR);
      assert.equal(await statusAt(half - 4, 8), VIRTIO_BLK_S_IOERR);
      assert.equal(await statusAt(half - 8, 8), VIRTIO_BLK_S_OK);
      assert.deepEqual(await disk.read(0, 8), Buffer.alloc(4096, 7));
      // A write makes the file longer again: zeroes lie in between.
      await disk.write(half + 8, Buffer.alloc(4096, 9));
      assert.deepEqual(await disk.read(half, 16), Buffer.concat([Buffer.alloc(4096), Buffer.alloc(4096, 9)]));
    });

    const noLoop = whyNot(() => new LoopDevice(MIB));
    test("bad sectors of a device are errors, and its good ones go on", {
      skip: skipWithout(noLoop),
    }, async () => {
      using device = new LoopDevice(8 * MIB);
      const args = [`--blk-file=${device.path}`, `--engine=${engine}`, "--direct"];
      await using daemon = await Vringd.start({ args });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      const disk = frontEnd.disk();
      assert.equal(frontEnd.capacity, 8 * SECTORS_A_MIB);
      const block = Buffer.alloc(4096, 7);
      await disk.write(0, block);
      await disk.flush();
      device.cutAt(4 * MIB);
      const bad = { type: VIRTIO_BLK_T_IN, sector: 6 * SECTORS_A_MIB, inLength: 4096 };
      assert.equal((await disk.request(bad)).status, VIRTIO_BLK_S_IOERR);
      assert.deepEqual(await disk.read(0, 8), block);
      await disk.write(SECTORS_A_MIB, block);
      await disk.flush();
    });
  });
}
