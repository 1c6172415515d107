// Storage that could not make data stable once: from then on no flush may say that all is well.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  BLK_CONFIG_WRITEBACK,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_OUT,
} from "../../assembly/spec/virtio-blk.ts";
import type { BlkDriver } from "../../host/front-end/blk-driver.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { VHOST_USER_CONFIG_F_WRITABLE } from "../../host/protocol/messages.ts";
import { FaultRig } from "../support/fault-rig.ts";
import type { FaultyDisk, OperationName } from "../support/faulty-disk.ts";
import { whyNoFuse } from "../support/fuse.ts";
import { skipWithout } from "../support/skip.ts";
import { LIBRARY_PROGRAM } from "../support/vringd.ts";

const SECTOR = Buffer.alloc(512, "data");
const EIO = 5;
const ENOSPC = 28;

const flushOf = async (disk: BlkDriver) => (await disk.request({ type: VIRTIO_BLK_T_FLUSH })).status;
const writeOf = async (disk: BlkDriver, sector: number) =>
  (await disk.request({ type: VIRTIO_BLK_T_OUT, sector, out: SECTOR })).status;

function failOnce(storage: FaultyDisk, name: OperationName, errno: number): void {
  storage.fault = (operation) => {
    if (operation.name !== name) return undefined;
    storage.fault = () => undefined;
    return { errno };
  };
}

const writeThrough = (frontEnd: FrontEnd) =>
  frontEnd.setConfig({
    offset: BLK_CONFIG_WRITEBACK,
    flags: VHOST_USER_CONFIG_F_WRITABLE,
    bytes: Buffer.of(0),
  });

for (const engine of ["io_uring", "threads"] as const) {
  describe(`a flush by ${engine}`, { skip: skipWithout(whyNoFuse()), timeout: 60_000 }, () => {
    for (const errno of [EIO, ENOSPC]) {
      test(`that failed with errno ${errno} fails all later ones, of all workers, until the image is opened anew`, async () => {
        await using rig = await FaultRig.start({ engine, args: ["--threads=2"], frontEnd: { queues: 2 } });
        const [one, other] = [rig.frontEnd.disk(0), rig.frontEnd.disk(1)];
        assert.equal(await flushOf(one), VIRTIO_BLK_S_OK);
        failOnce(rig.storage, "sync", errno);
        assert.equal(await flushOf(one), VIRTIO_BLK_S_IOERR);
        for (const disk of [one, other, one]) assert.equal(await flushOf(disk), VIRTIO_BLK_S_IOERR);
        await rig.daemon.waitForLog(/error .*a flush failed/);
        assert.equal(rig.daemon.linesLike(/error .*a flush failed/).length, 1);
        // What needs no flush goes on, and a front-end that comes anew changes nothing.
        assert.equal(await writeOf(other, 8), VIRTIO_BLK_S_OK);
        rig.frontEnd.close();
        await using next = await FrontEnd.connect(rig.daemon.socketPath);
        assert.equal(await flushOf(next.disk()), VIRTIO_BLK_S_IOERR);
        next.close();
        await rig.daemon.stop();
        await rig.daemon.restart();
        await using later = await FrontEnd.connect(rig.daemon.socketPath);
        assert.equal(await flushOf(later.disk()), VIRTIO_BLK_S_OK);
      });
    }

    test("fails after a write-through write whose data could not be made stable", async () => {
      await using rig = await FaultRig.start({ engine });
      await writeThrough(rig.frontEnd);
      // FUSE has one operation for the write and its stability; the same without the latter succeeds.
      failOnce(rig.storage, "write", EIO);
      assert.equal(await writeOf(rig.driver, 0), VIRTIO_BLK_S_IOERR);
      assert.equal(await writeOf(rig.driver, 8), VIRTIO_BLK_S_IOERR);
      assert.equal(await flushOf(rig.driver), VIRTIO_BLK_S_IOERR);
    });

    test("goes on after a write-through write that itself could not be done", async () => {
      await using rig = await FaultRig.start({ engine });
      await writeThrough(rig.frontEnd);
      rig.storage.fault = ({ name }) => (name === "write" ? { errno: ENOSPC } : undefined);
      assert.equal(await writeOf(rig.driver, 0), VIRTIO_BLK_S_IOERR);
      rig.storage.fault = () => undefined;
      assert.equal(await writeOf(rig.driver, 0), VIRTIO_BLK_S_OK);
      assert.equal(await flushOf(rig.driver), VIRTIO_BLK_S_OK);
    });
  });
}

test("a flush of a FileDisk that failed fails all later ones", {
  skip: skipWithout(whyNoFuse()),
}, async () => {
  await using rig = await FaultRig.start({ engine: "threads", program: [process.execPath, LIBRARY_PROGRAM] });
  await rig.driver.write(0, SECTOR);
  failOnce(rig.storage, "sync", EIO);
  assert.equal(await flushOf(rig.driver), VIRTIO_BLK_S_IOERR);
  assert.equal(await writeOf(rig.driver, 0), VIRTIO_BLK_S_OK);
  assert.equal(await flushOf(rig.driver), VIRTIO_BLK_S_IOERR);
});
