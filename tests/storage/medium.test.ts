// What a block device can be and a file can't: each is asked of the device itself, whatever file system shows its node.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../assembly/spec/virtio-blk.ts";
import { encodeRanges } from "../../host/front-end/blk-driver.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { BlockSysfs } from "../../host/linux/block-sysfs.ts";
import { LoopDevice, loopUnavailable, run } from "../support/loop-device.ts";
import { skipWithout } from "../support/skip.ts";
import { tryToStart } from "../support/start-attempt.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const directory = mkdtempSync(join(tmpdir(), "medium-"));
after(() => rmSync(directory, { recursive: true }));
/** What is remembered of devices goes here, not to the machine's own. */
const env = { STATE_DIRECTORY: join(directory, "state") };

const start = (blkFile: string, ...args: readonly string[]) => Vringd.start({ blkFile, args, env });
const attempt = (blkFile: string, ...args: readonly string[]) =>
  tryToStart([`--blk-file=${blkFile}`, ...args], { env });

/** Another node of the device, in memory as those under /dev, but on a tmpfs of everybody's. */
function nodeInMemory({ path }: LoopDevice): string {
  const { rdev } = statSync(path);
  const node = join(mkdtempSync("/dev/shm/vringd-node-"), "node");
  run("mknod", node, "b", String(rdev >> 8), String(rdev & 0xff));
  return node;
}

/** Written and read back by buffers that end at odd addresses. */
async function writesAnywhere(daemon: Vringd): Promise<void> {
  await using frontEnd = await FrontEnd.connect(daemon.socketPath);
  const disk = frontEnd.disk();
  const out = Buffer.from(Array.from({ length: 1024 }, (_, i) => i % 251));
  const written = await disk.request({
    type: VIRTIO_BLK_T_OUT,
    sector: 3,
    out,
    readableLengths: [16, 7, 1017],
  });
  assert.equal(written.status, VIRTIO_BLK_S_OK);
  const read = { type: VIRTIO_BLK_T_IN, sector: 3, inLength: 1024, writableLengths: [3, 1021, 1] };
  const { status, data } = await disk.request(read);
  assert.equal(status, VIRTIO_BLK_S_OK);
  assert.ok(data.equals(out));
}

const skip = skipWithout(loopUnavailable());

describe("a block device", { skip, timeout: 240_000 }, () => {
  for (const engine of ["io_uring", "threads"]) {
    test(`takes buffers at any address, by ${engine}`, async () => {
      using device = new LoopDevice();
      await using daemon = await start(device.path, `--engine=${engine}`);
      await writesAnywhere(daemon);
    });
  }

  test("whose node lies on another file system in memory takes them, too", async () => {
    using device = new LoopDevice();
    const node = nodeInMemory(device);
    try {
      await using daemon = await start(node);
      await writesAnywhere(daemon);
    } finally {
      rmSync(join(node, ".."), { recursive: true });
    }
  });

  for (const option of ["--discard=unmap", "--direct"]) {
    test(`of 4096-byte sectors is served in blocks of 512 (${option})`, async () => {
      using device = new LoopDevice(16 << 20, "--sector-size=4096");
      await using daemon = await start(device.path, option);
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      const disk = frontEnd.disk();
      await disk.write(0, Buffer.alloc(4096, 1));
      await disk.write(3, Buffer.alloc(512, 2));
      await disk.writeZeroes([{ sector: 5, sectors: 1 }]);
      await disk.discard([{ sector: 9, sectors: 1 }]);
      await disk.flush();
      const expected = Buffer.alloc(4096, 1)
        .fill(2, 3 * 512, 4 * 512)
        .fill(0, 5 * 512, 6 * 512);
      assert.ok((await disk.read(0, 8)).equals(expected));
    });
  }

  test("of 4096-byte sectors is written past the page cache in whole sectors alone", async () => {
    using device = new LoopDevice(16 << 20, "--sector-size=4096");
    {
      await using daemon = await start(device.path, "--direct");
      await daemon.waitForLog(/served through the page cache .*--block-size=4096/);
    }
    await using daemon = await start(device.path, "--direct", "--block-size=4096");
    assert.equal(daemon.linesLike(/page cache/).length, 0);
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    const disk = frontEnd.disk();
    await disk.write(8, Buffer.alloc(4096, 1));
    assert.ok((await disk.read(8, 8)).equals(Buffer.alloc(4096, 1)));
    const part = Buffer.alloc(512, 2);
    for (const request of [
      { type: VIRTIO_BLK_T_OUT, sector: 8, out: part },
      { type: VIRTIO_BLK_T_OUT, sector: 9, out: Buffer.alloc(4096, 2) },
      { type: VIRTIO_BLK_T_IN, sector: 8, inLength: 512 },
      { type: VIRTIO_BLK_T_WRITE_ZEROES, out: encodeRanges([{ sector: 9, sectors: 8 }]) },
    ]) {
      assert.equal((await disk.request(request)).status, VIRTIO_BLK_S_IOERR);
    }
    assert.ok((await disk.read(8, 8)).equals(Buffer.alloc(4096, 1)));
  });

  test("shows a guest what a file shows it: nothing depends on medium, --direct or name", async () => {
    const byteLength = 16 << 20;
    using small = new LoopDevice(byteLength);
    using large = new LoopDevice(byteLength, "--sector-size=4096");
    const starts = [
      () => Vringd.start({ byteLength }),
      () => Vringd.start({ byteLength, onDisk: true, args: ["--direct"] }),
      () => start(small.path),
      () => start(large.path),
      () => start(large.path, "--direct", "--engine=threads"),
      () => start("memory:16M"),
    ];
    const seen: [string, bigint][] = [];
    for (const startOne of starts) {
      await using daemon = await startOne();
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      seen.push([frontEnd.config.toString("hex"), await frontEnd.getFeatures()]);
    }
    for (const one of seen) assert.deepEqual(one, seen[0]);
  });

  test("that is read-only is refused for writing, and served with --read-only", async () => {
    using device = new LoopDevice(16 << 20, "--read-only");
    const { status, stderr } = attempt(device.path);
    assert.equal(stderr, `vringd-blk: ${device.path} is a read-only device; --read-only may serve it\n`);
    assert.equal(status, 1);
    await using daemon = await start(device.path, "--read-only");
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    assert.deepEqual(await frontEnd.disk().read(0, 1), Buffer.alloc(512));
  });

  test("without a medium is refused with a sentence", () => {
    const free = run("losetup", "--find");
    assert.match(attempt(free).stderr, /is a device without a medium: it has 0 bytes\n$/);
  });
});

describe("a device that the host uses", { skip, timeout: 240_000 }, () => {
  function refusesAll(path: string, use: RegExp): void {
    const { status, stderr } = attempt(path);
    assert.match(stderr, use);
    assert.match(stderr, /; end that first, share it with --read-only, or give --force/);
    assert.match(stderr, /^vringd-blk: [^\n]*\n$/);
    assert.equal(status, 1);
  }

  /** With a file system on it, mounted where a blank is in the name. */
  class Mounted {
    readonly device: LoopDevice;
    readonly point = mkdtempSync(join(directory, "mount point-"));

    constructor(...losetup: readonly string[]) {
      this.device = new LoopDevice(16 << 20, ...losetup);
      run("mkfs.ext4", "-q", "-F", this.device.path);
      run("mount", this.device.path, this.point);
    }

    [Symbol.dispose](): void {
      run("umount", this.point);
      this.device[Symbol.dispose]();
    }
  }

  test("as a mounted file system is refused by its mount point, under any name", () => {
    using mounted = new Mounted();
    const use = new RegExp(`is mounted at ${mounted.point};`);
    refusesAll(mounted.device.path, use);
    const node = nodeInMemory(mounted.device);
    refusesAll(node, use);
    rmSync(join(node, ".."), { recursive: true });
  });

  test("is served with --force, and to readers, each with a warning", () => {
    using mounted = new Mounted();
    for (const option of ["--force", "--read-only"]) {
      const { status, stderr } = attempt(mounted.device.path, option);
      assert.equal(status, 0, stderr);
      assert.match(stderr, / warn .*served all the same .*use="mounted at /);
      assert.match(stderr, / ready /);
    }
  });

  test("has its file refused, too", () => {
    using mounted = new Mounted();
    refusesAll(mounted.device.file, /backing.img is the file of loop\d+, which is mounted at /);
  });

  test("in another mount namespace is refused by its mount point there", async () => {
    using device = new LoopDevice();
    run("mkfs.ext4", "-q", "-F", device.path);
    const point = mkdtempSync(join(directory, "private-"));
    const script = `mount ${device.path} ${point} && touch ${point}/mounted && exec sleep 60`;
    const other = spawn("unshare", ["--mount", "--propagation=private", "sh", "-c", script]);
    try {
      const isMounted = () => readFileSync(`/proc/${other.pid}/mounts`, "utf8").includes(point);
      await until(isMounted, "the other has mounted it");
      refusesAll(device.path, new RegExp(`is mounted at ${point} in another mount namespace;`));
    } finally {
      const ended = new Promise((resolve) => other.once("exit", resolve));
      other.kill("SIGKILL");
      await ended;
    }
  });

  test("as a partition is refused as a whole, and the partition, and no other one", () => {
    using device = new LoopDevice(32 << 20, "--partscan");
    // By hand: a kernel may read no kind of partition table.
    run("addpart", device.path, "1", "2048", "16384");
    run("addpart", device.path, "2", "20480", "16384");
    const [first, second] = [`${device.path}p1`, `${device.path}p2`];
    run("mkfs.ext4", "-q", "-F", first);
    const point = mkdtempSync(join(directory, "partition-"));
    run("mount", first, point);
    try {
      refusesAll(device.path, new RegExp(`is in use: its partition loop\\d+p1 is mounted at ${point};`));
      refusesAll(first, new RegExp(`is mounted at ${point};`));
      assert.equal(attempt(second).status, 0);
    } finally {
      run("umount", point);
    }
  });

  test("as swap is refused", () => {
    using device = new LoopDevice();
    run("mkswap", device.path);
    run("swapon", device.path);
    try {
      refusesAll(device.path, /is used as swap;/);
    } finally {
      run("swapoff", device.path);
    }
  });

  test("exclusively, by a process, is refused by that process's name", () => {
    using device = new LoopDevice();
    const fd = openSync(device.path, constants.O_RDWR | constants.O_EXCL);
    try {
      refusesAll(device.path, new RegExp(`is in use by \\S+ \\(process ${process.pid}\\);`));
    } finally {
      closeSync(fd);
    }
  });

  test("can't be taken by the host while it is served", async () => {
    using device = new LoopDevice();
    await using daemon = await start(device.path);
    assert.throws(() => openSync(device.path, constants.O_RDONLY | constants.O_EXCL), { code: "EBUSY" });
    refusesAll(device.path, new RegExp(`\\(process ${daemon.pid}\\);`));
  });

  test("is shared by readers, and by whoever says --lock=off", async () => {
    using device = new LoopDevice();
    for (const option of ["--read-only", "--lock=off"]) {
      await using _first = await start(device.path, option);
      await using _second = await start(device.path, option);
    }
  });

  test("is had by the successor of a daemon that was killed", async () => {
    using device = new LoopDevice();
    await using daemon = await start(device.path);
    for (let i = 0; i < 3; i++) {
      await daemon.kill9();
      await daemon.restart();
    }
  });
});

test("sysfs tells of zones, layers and partitions, for a partition as for its disk", () => {
  const root = join(directory, "sys");
  const write = (file: string, text: string) => {
    mkdirSync(join(root, "dev/block", file, ".."), { recursive: true });
    writeFileSync(join(root, "dev/block", file), `${text}\n`);
  };
  write("8:0/dev", "8:0");
  write("8:0/queue/zoned", "host-managed");
  write("8:0/sda1/partition", "1");
  write("8:0/sda1/dev", "8:1");
  write("8:0/sda1/../holders/dm-0/dev", "252:0");
  write("252:0/queue/zoned", "none");
  const disk = new BlockSysfs("8:0", root);
  assert.equal(disk.zoned, "host-managed");
  assert.deepEqual(
    disk.partitions.map(({ number }) => number),
    ["8:1"],
  );
  assert.deepEqual(
    disk.holders.map(({ number }) => number),
    ["252:0"],
  );
  assert.equal(new BlockSysfs("252:0", root).zoned, "none");
  assert.equal(new BlockSysfs("9:9", root).zoned, "none");
});
