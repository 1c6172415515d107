// A disk whose size changes while it is served: the core, the config space, the file, and what the front-end is told.
import assert from "node:assert/strict";
import { closeSync, openSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  BLK_CONFIG_CAPACITY,
  BLK_CONFIG_WRITEBACK,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
} from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { VHOST_USER_CONFIG_F_WRITABLE } from "../../host/protocol/messages.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { Observed } from "../support/observed.ts";
import { tellSeed } from "../support/random.ts";
import { ResizeRig, resize, statusesAt } from "../support/resize-rig.ts";
import { toolbox } from "../support/toolbox.ts";
import { until } from "../support/until.ts";

const MIB = 1 << 20;
const SECTORS_OF_MIB = MIB / 512;
/** More than a change that goes unsaid would take to be told: ConfigNews. */
const UNTOLD_MS = 100;
const OK = Array(4).fill(VIRTIO_BLK_S_OK);
const IOERR = Array(4).fill(VIRTIO_BLK_S_IOERR);

/** Within the first 4 MiB, which stay. */
function loadOn(rig: ResizeRig, t: TestContext): ReturnType<typeof MixedLoad.run> {
  return MixedLoad.run(rig.frontEnd.disk(0), {
    random: tellSeed(t),
    count: 1500,
    depth: 16,
    firstSector: 0,
    sectors: 8192,
    indirect: true,
  });
}

describe("a disk that is resized", { timeout: 180_000 }, () => {
  for (const engine of ["io_uring", "threads"]) {
    test(`grows again and again under load: ${engine}`, async (t) => {
      await using rig = await ResizeRig.start(
        { byteLength: 8 * MIB, args: [`--engine=${engine}`] },
        { queues: 2 },
      );
      await rig.giveChannel();
      const disk = rig.frontEnd.disk(1);
      const load = loadOn(rig, t);
      for (let size = 9; size < 19; size++) {
        const sectors = size * SECTORS_OF_MIB;
        assert.deepEqual(await statusesAt(disk, sectors - 8, 8), IOERR);
        const { status, sizeBytes } = await rig.resize(`--size=${size}M`);
        assert.deepEqual([status, sizeBytes], [200, size * MIB]);
        assert.deepEqual(await statusesAt(disk, sectors - 8, 8), OK, "before the front-end takes it over");
        assert.equal(await rig.hearCapacity(), sectors);
        assert.deepEqual(await statusesAt(disk, sectors - 8, 16), IOERR, "over the end");
      }
      await load;
      assert.equal(statSync(rig.observed.daemon.imagePath).size, 18 * MIB);
      assert.equal((await rig.observed.get("/v1/status")).disk.sizeBytes, 18 * MIB);
    });

    test(`shrinks under load, only if it may: ${engine}`, async (t) => {
      await using rig = await ResizeRig.start(
        { byteLength: 32 * MIB, args: [`--engine=${engine}`] },
        { queues: 2 },
      );
      await rig.giveChannel();
      const { imagePath } = rig.observed.daemon;
      const disk = rig.frontEnd.disk(1);
      const { status, error } = await rig.resize("--size=16M");
      assert.equal(status, 400);
      assert.match(error!, /would shrink to 16777216 bytes.*--shrink/);
      assert.equal(statSync(imagePath).size, 32 * MIB);
      const load = loadOn(rig, t);
      for (let size = 31; size >= 24; size--) {
        const sectors = size * SECTORS_OF_MIB;
        // In flight while it shrinks: whatever becomes of them, the file is no longer than told.
        const late = Array.from({ length: 8 }, (_, i) => statusesAt(disk, sectors - 16 + 4 * i, 4));
        assert.equal((await rig.resize(`--size=${size}M`, "--shrink")).status, 200);
        await Promise.all(late);
        assert.equal(statSync(imagePath).size, size * MIB);
        assert.deepEqual(await statusesAt(disk, sectors, 8), IOERR);
        assert.deepEqual(await statusesAt(disk, sectors - 8, 8), OK);
        assert.equal(await rig.hearCapacity(), sectors);
      }
      await load;
    });
  }

  test("takes over what others have made of its file", async () => {
    await using rig = await ResizeRig.start({ byteLength: MIB });
    await rig.giveChannel();
    const { imagePath } = rig.observed.daemon;
    truncateSync(imagePath, 3 * MIB + 700);
    assert.equal((await rig.resize()).sizeBytes, 3 * MIB + 512, "in whole blocks");
    assert.equal(await rig.hearCapacity(), 3 * SECTORS_OF_MIB + 1);
    truncateSync(imagePath, 2 * MIB);
    assert.equal((await rig.resize()).status, 400);
    assert.equal((await rig.resize("--shrink")).sizeBytes, 2 * MIB);
    assert.equal(await rig.hearCapacity(), 2 * SECTORS_OF_MIB);
    truncateSync(imagePath, 0);
    assert.match((await rig.resize("--shrink")).error!, /is empty/);
    assert.equal((await rig.resize("--shrink")).status, 400);
  });

  test("keeps what its file has got and it has not yet", async () => {
    await using observed = await Observed.start({ byteLength: MIB });
    truncateSync(observed.daemon.imagePath, 3 * MIB);
    assert.equal((await resize(observed, "--size=2M")).status, 400);
    assert.equal(statSync(observed.daemon.imagePath).size, 3 * MIB);
    assert.equal((await resize(observed, "--size=2M", "--shrink")).sizeBytes, 2 * MIB);
    assert.equal(statSync(observed.daemon.imagePath).size, 2 * MIB);
  });

  test("notices by itself that its file has grown, and says that it is too short", async () => {
    await using rig = await ResizeRig.start({ byteLength: MIB, args: ["--watch-size=1"] });
    await rig.giveChannel();
    truncateSync(rig.observed.daemon.imagePath, 5 * MIB);
    assert.equal(await rig.hearCapacity(), 5 * SECTORS_OF_MIB);
    truncateSync(rig.observed.daemon.imagePath, 4 * MIB);
    await rig.observed.daemon.waitForLog(/ warn .*shorter than its disk/);
    assert.equal((await rig.observed.get("/v1/status")).disk.sizeBytes, 5 * MIB);
  });

  test("is told by ctl", async () => {
    await using observed = await Observed.start({ byteLength: MIB });
    const ctl = (...args: string[]) => toolbox(["ctl", observed.controlSocket, "resize", ...args]);
    const grown = await ctl("--size=2M");
    assert.deepEqual(
      [grown.status, grown.stdout],
      [0, "sizeBytes        2097152\nformerSizeBytes  1048576\n"],
    );
    const refused = await ctl("--size=1M");
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /would shrink to 1048576 bytes/);
    assert.equal((await ctl("--size=1M", "--shrink")).status, 0);
    assert.equal((await ctl("more")).status, 2);
  });

  test("refuses sizes that no disk has, and stays as it is", async () => {
    await using observed = await Observed.start({ byteLength: MIB });
    const hostile = ["0", "-1", "511", "513", "1e6", "0x1000", "", " 1M", "1M ", "1.5G", "1Z", "١M"];
    const large = ["9223372036854775807", "9999999999999999999P", "9223372036854775808", "8388608T"];
    for (const size of [...hostile, ...large]) {
      const { status, error } = await resize(observed, `--size=${size}`, "--shrink");
      assert.equal(status, 400, size);
      assert.match(error!, /--size/);
    }
    for (const args of [
      ["--size=2M", "--size=3M"],
      ["--shrink", "--shrink"],
      ["2M"],
      ["--size", "2M"],
      ["--SIZE=2M"],
    ])
      assert.equal((await resize(observed, ...args)).status, 400, args.join(" "));
    assert.equal(statSync(observed.daemon.imagePath).size, MIB);
    assert.equal((await observed.get("/v1/status")).disk.sizeBytes, MIB);
  });

  test("stays as it is where the kernel refuses the size", async () => {
    const under = ["prlimit", `--fsize=${4 * MIB}`];
    await using observed = await Observed.start({ byteLength: MIB, under });
    assert.match(
      (await resize(observed, "--size=5M")).error!,
      /can't be made 5242880 bytes long: file too large/,
    );
    assert.equal((await observed.get("/v1/status")).disk.sizeBytes, MIB);
    assert.equal((await resize(observed, "--size=4M")).sizeBytes, 4 * MIB);
  });

  test("can't be one in an overlay, in memory, or with an end of zeroes, and needs --size left out when it is read-only", async () => {
    const overlay = await Observed.start({ overlay: true, byteLength: MIB });
    assert.match((await resize(overlay)).error!, /served in an overlay, whose disk can't be resized/);
    await overlay[Symbol.asyncDispose]();
    const memory = await Observed.start({ blkFile: "memory:1M" });
    assert.match((await resize(memory)).error!, /memory:1M keeps the size/);
    await memory[Symbol.asyncDispose]();
    const padded = await Observed.start({ byteLength: MIB + 1, args: ["--read-only"] });
    assert.match((await resize(padded)).error!, /keeps the size/);
    await padded[Symbol.asyncDispose]();
    await using readOnly = await Observed.start({ byteLength: MIB, args: ["--read-only"] });
    assert.match((await resize(readOnly, "--size=2M")).error!, /read-only/);
    truncateSync(readOnly.daemon.imagePath, 2 * MIB);
    assert.equal((await resize(readOnly)).sizeBytes, 2 * MIB);
  });

  test("is one of an open descriptor, too", async () => {
    await using rig = await fromDescriptor();
    assert.equal((await resize(rig, "--size=4M")).sizeBytes, 4 * MIB);
  });
});

describe("a front-end whose disk is resized", { timeout: 120_000 }, () => {
  test("hears of it again when its rings start, until it has read the new size", async () => {
    await using rig = await ResizeRig.start({ byteLength: MIB }, { queues: 2 });
    const { frontEnd, channel } = rig;
    await rig.giveChannel();
    const bases = [await frontEnd.stopQueue(0), await frontEnd.stopQueue(1)];
    assert.equal((await rig.resize("--size=2M")).status, 200);
    await until(() => channel.changes() > 0, "it is told while the device is stopped");
    for (const [index, base] of bases.entries()) await frontEnd.startQueue(index, base);
    await until(() => channel.changes() > 0, "it is told again");
    // Once for all rings, unless the machine is so busy that they start far from each other: config-news.test.ts.
    do {
      await frontEnd.readConfig();
      await sleep(UNTOLD_MS);
    } while (channel.changes() > 0);
    await frontEnd.startQueue(0, await frontEnd.stopQueue(0));
    await sleep(UNTOLD_MS);
    assert.equal(channel.changes(), 0);
  });

  test("is told by a channel that comes later", async () => {
    await using rig = await ResizeRig.start({ byteLength: MIB });
    assert.equal((await rig.resize("--size=2M")).status, 200);
    await rig.giveChannel();
    assert.equal(await rig.hearCapacity(), 2 * SECTORS_OF_MIB);
  });

  test("is told nothing if it can't be, and the log says so", async () => {
    await using rig = await ResizeRig.start({ byteLength: MIB }, { protocolFeatures: [0, 3, 9] });
    assert.equal((await rig.resize("--size=2M")).status, 200);
    await rig.observed.daemon.waitForLog(/BACKEND_REQ.*learns of it when it restarts/);
    assert.deepEqual(await statusesAt(rig.frontEnd.disk(), SECTORS_OF_MIB, 8), OK);
  });

  test("may leave its channel full, or close it", async () => {
    await using rig = await ResizeRig.start({ byteLength: MIB });
    rig.channel.fill();
    await rig.giveChannel();
    for (let size = 2; size < 6; size++) assert.equal((await rig.resize(`--size=${size}M`)).status, 200);
    assert.deepEqual(await statusesAt(rig.frontEnd.disk(), 5 * SECTORS_OF_MIB - 8, 8), OK);
    rig.channel.drain();
    assert.equal(await rig.hearCapacity(), 5 * SECTORS_OF_MIB);
    rig.channel.close();
    assert.equal((await rig.resize("--size=6M")).status, 200);
    assert.deepEqual(await statusesAt(rig.frontEnd.disk(), 6 * SECTORS_OF_MIB - 8, 8), OK);
    assert.equal((await rig.resize("--size=7M")).status, 200);
  });

  test("may come, go and ask meanwhile", async () => {
    await using observed = await Observed.start({ byteLength: MIB });
    const { socketPath } = observed.daemon;
    let size = 2;
    const resizing = (async () => {
      for (; size < 60; size++) assert.equal((await resize(observed, `--size=${size}M`)).status, 200);
      for (; size > 1; size--)
        assert.equal((await resize(observed, `--size=${size}M`, "--shrink")).status, 200);
    })();
    for (let i = 0; i < 20; i++) {
      await using frontEnd = await FrontEnd.connect(socketPath, { queues: 2, inflight: true });
      await frontEnd.disk(i % 2).write(0, Buffer.alloc(512, i));
      await frontEnd.startQueue(0, await frontEnd.stopQueue(0));
      await frontEnd.readConfig();
    }
    await resizing;
    await using last = await FrontEnd.connect(socketPath);
    assert.equal(last.capacity, 2 * SECTORS_OF_MIB);
    assert.equal((await last.disk().read(0, 1))[0], 19);
  });

  test("may know the former size when it writes the whole config space", async () => {
    await using rig = await ResizeRig.start({ byteLength: MIB });
    const before = Buffer.from(await rig.frontEnd.readConfig());
    await rig.resize("--size=2M");
    before[BLK_CONFIG_WRITEBACK] = 0;
    const write = (bytes: Buffer) =>
      rig.frontEnd.setConfig({ offset: 0, flags: VHOST_USER_CONFIG_F_WRITABLE, bytes });
    assert.equal(await write(before), 0n);
    const after = await rig.frontEnd.readConfig();
    assert.equal(after[BLK_CONFIG_WRITEBACK], 0);
    assert.equal(after.readBigUInt64LE(BLK_CONFIG_CAPACITY), BigInt(2 * SECTORS_OF_MIB));
  });

  test("reads the cache mode that is in force", async () => {
    await using rig = await ResizeRig.start({ byteLength: MIB });
    const { frontEnd, observed } = rig;
    const writeback = async () => (await frontEnd.readConfig())[BLK_CONFIG_WRITEBACK];
    await frontEnd.disk().write(0, Buffer.alloc(512));
    await observed.daemon.kill9();
    await observed.daemon.restart();
    await frontEnd.reconnect(observed.daemon.socketPath);
    await frontEnd.disk().write(0, Buffer.alloc(512));
    assert.equal(await writeback(), 0, "writes are stable until it flushes");
    await frontEnd.disk().flush();
    assert.equal(await writeback(), 1);
  });
});

/** Serves a file that the test has open. */
async function fromDescriptor(): Promise<Observed & AsyncDisposable> {
  const first = await Observed.start({ byteLength: MIB });
  const path = `${first.daemon.directory}/other.img`;
  writeFileSync(path, Buffer.alloc(MIB));
  const fd = openSync(path, "r+");
  try {
    const observed = await Observed.start({ blkFile: "fd:4", inherit: fd });
    const dispose = observed[Symbol.asyncDispose].bind(observed);
    return Object.assign(observed, {
      [Symbol.asyncDispose]: async () => {
        await dispose();
        await first[Symbol.asyncDispose]();
      },
    });
  } finally {
    closeSync(fd);
  }
}
