// Disks whose size others change: block devices, and exports of NBD servers as far as these tell it.
import assert from "node:assert/strict";
import { statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from "../../assembly/spec/virtio-blk.ts";
import { LoopDevice, loopUnavailable, run } from "../support/loop-device.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { NbdServer, nbdUnavailable } from "../support/nbd-server.ts";
import { tellSeed } from "../support/random.ts";
import { ResizeRig, statusesAt } from "../support/resize-rig.ts";
import { skipWithout } from "../support/skip.ts";

const MIB = 1 << 20;
const SECTORS_OF_MIB = MIB / 512;
const OK = Array(4).fill(VIRTIO_BLK_S_OK);
const IOERR = Array(4).fill(VIRTIO_BLK_S_IOERR);

describe("a block device that grows", { skip: skipWithout(loopUnavailable()), timeout: 120_000 }, () => {
  for (const args of [[], ["--direct"]]) {
    test(`is served as large as it is ${args.join()}`, async () => {
      using device = new LoopDevice(4 * MIB);
      await using rig = await ResizeRig.start({ blkFile: device.path, args });
      await rig.giveChannel();
      const disk = rig.frontEnd.disk();
      for (let size = 5; size < 8; size++) {
        truncateSync(device.file, size * MIB);
        run("losetup", "--set-capacity", device.path);
        assert.deepEqual(await statusesAt(disk, size * SECTORS_OF_MIB - 8, 8), IOERR);
        assert.equal((await rig.resize()).sizeBytes, size * MIB);
        assert.equal(await rig.hearCapacity(), size * SECTORS_OF_MIB);
        assert.deepEqual(await statusesAt(disk, size * SECTORS_OF_MIB - 8, 8), OK);
      }
      const { status, error } = await rig.resize("--size=9M");
      assert.equal(status, 400);
      assert.match(error!, /has a size that others give it/);
    });
  }

  test("is noticed by itself", async () => {
    using device = new LoopDevice(4 * MIB);
    await using rig = await ResizeRig.start({ blkFile: device.path, args: ["--watch-size=1"] });
    await rig.giveChannel();
    truncateSync(device.file, 6 * MIB);
    run("losetup", "--set-capacity", device.path);
    assert.equal(await rig.hearCapacity(), 6 * SECTORS_OF_MIB);
  });
});

describe("an NBD export that grows", { skip: skipWithout(nbdUnavailable()), timeout: 120_000 }, () => {
  const imageIn = (directory: string) => join(directory, "disk.img");

  async function startNbdkit(): Promise<NbdServer> {
    let isMade = false;
    return NbdServer.start({
      args: (directory) => {
        if (!isMade) writeFileSync(imageIn(directory), Buffer.alloc(8 * MIB));
        isMade = true;
        return ["file", imageIn(directory)];
      },
    });
  }

  for (const connections of [1, 3]) {
    test(`is served as large as it is, under load, by ${connections} connections`, async (t) => {
      await using server = await startNbdkit();
      const image = imageIn(server.directory);
      const blkFile = server.uri("", `x-connections=${connections}`);
      await using rig = await ResizeRig.start({ blkFile }, { queues: 2 });
      await rig.giveChannel();
      const load = MixedLoad.run(rig.frontEnd.disk(0), {
        random: tellSeed(t),
        count: 1000,
        depth: 8,
        firstSector: 0,
        sectors: 8192,
        indirect: true,
      });
      const disk = rig.frontEnd.disk(1);
      for (let size = 9; size < 14; size++) {
        truncateSync(image, size * MIB);
        assert.deepEqual(await statusesAt(disk, size * SECTORS_OF_MIB - 8, 8), IOERR);
        assert.equal((await rig.resize()).sizeBytes, size * MIB);
        assert.equal(await rig.hearCapacity(), size * SECTORS_OF_MIB);
        assert.deepEqual(await statusesAt(disk, size * SECTORS_OF_MIB - 8, 8), OK);
      }
      await load;
      assert.equal(statSync(image).size, 13 * MIB);
      const { status, error } = await rig.resize("--size=20M");
      assert.equal(status, 400);
      assert.match(error!, /has a size that others give it/);
    });
  }

  test("while its server is away could be another disk, and is taken back once that is said", async () => {
    await using server = await startNbdkit();
    await using rig = await ResizeRig.start({ blkFile: server.uri() });
    await server.kill9();
    assert.equal((await rig.resize()).status, 400);
    truncateSync(imageIn(server.directory), 10 * MIB);
    await server.restart();
    await rig.observed.daemon.waitForLog(/the export had 8388608 bytes and has 10485760/);
    assert.equal((await rig.resize()).sizeBytes, 10 * MIB);
    await rig.observed.daemon.waitForLog(/NBD server back/);
    assert.deepEqual(await statusesAt(rig.frontEnd.disk(), 10 * SECTORS_OF_MIB - 8, 8), OK);
  });

  test("or shrinks, is taken over only if it may", async () => {
    await using server = await startNbdkit();
    await using rig = await ResizeRig.start({ blkFile: server.uri() });
    truncateSync(imageIn(server.directory), 4 * MIB);
    assert.match((await rig.resize()).error!, /would shrink to 4194304 bytes/);
    assert.equal((await rig.resize("--shrink")).sizeBytes, 4 * MIB);
    assert.deepEqual(await statusesAt(rig.frontEnd.disk(), 4 * SECTORS_OF_MIB - 8, 8), OK);
    assert.deepEqual(await statusesAt(rig.frontEnd.disk(), 4 * SECTORS_OF_MIB, 8), IOERR);
  });

  test("at a server that takes one client keeps its size, and says why", async () => {
    await using server = await NbdServer.start({
      program: "qemu-nbd",
      args: (directory) => {
        writeFileSync(imageIn(directory), Buffer.alloc(MIB));
        return ["-f", "raw", "--shared=1", imageIn(directory)];
      },
    });
    await using rig = await ResizeRig.start({ blkFile: server.uri() });
    const { status, error } = await rig.resize();
    assert.equal(status, 400);
    assert.match(error!, /tells no size anew, which takes a second connection/);
    assert.deepEqual(await statusesAt(rig.frontEnd.disk(), 0, 8), OK, "and goes on");
  });
});
