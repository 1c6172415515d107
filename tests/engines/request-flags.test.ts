// Requests with flags (RWF_NOWAIT, RWF_DSYNC) that the kernel refuses, in a daemon whose system calls fail as told.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import {
  BLK_CONFIG_WRITEBACK,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_OUT,
} from "../../assembly/spec/virtio-blk.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { VHOST_USER_CONFIG_F_WRITABLE } from "../../host/protocol/messages.ts";
import { skipWithout } from "../support/skip.ts";
import { failing, whyNoStrace } from "../support/strace.ts";
import { Vringd } from "../support/vringd.ts";

const BLOCK = randomBytes(4096);

describe("a file system that refuses", { skip: skipWithout(whyNoStrace()), timeout: 120_000 }, () => {
  for (const error of ["EOPNOTSUPP", "ENOMEM"]) {
    test(`to read without waiting, with ${error}, is read in a thread that may wait`, async () => {
      await using daemon = await Vringd.start({ args: ["--engine=threads"], onDisk: true });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      const disk = frontEnd.disk();
      await disk.write(8, BLOCK);
      // Kicks are read by the same call.
      const readAll = async () => {
        for (let i = 0; i < 8; i++) assert.deepEqual(await disk.read(8, 8), BLOCK);
      };
      await failing(daemon.pid, "preadv2", error, readAll, daemon.imagePath);
      frontEnd.close();
      assert.equal(await daemon.stop(), 0);
      assert.deepEqual(daemon.linesLike(/ (warn|error) /), []);
    });

    test(`to write and make stable at once, with ${error}, has lost what was to be stable`, async () => {
      await using daemon = await Vringd.start({ args: ["--engine=threads"], onDisk: true });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      const disk = frontEnd.disk();
      await frontEnd.setConfig({
        offset: BLK_CONFIG_WRITEBACK,
        flags: VHOST_USER_CONFIG_F_WRITABLE,
        bytes: Buffer.of(0),
      });
      const write = async () =>
        (await disk.request({ type: VIRTIO_BLK_T_OUT, sector: 8, out: BLOCK })).status;
      assert.equal(await write(), VIRTIO_BLK_S_OK);
      await failing(daemon.pid, "pwritev2", error, async () => {
        assert.equal(await write(), VIRTIO_BLK_S_IOERR);
      });
      // The data is there; whether it is stable nobody knows, now or later.
      assert.deepEqual(await disk.read(8, 8), BLOCK);
      assert.equal((await disk.request({ type: VIRTIO_BLK_T_FLUSH })).status, VIRTIO_BLK_S_IOERR);
      frontEnd.close();
      assert.equal(await daemon.stop(), 0);
    });
  }

  test("to write at all, for want of memory, makes that write an error and no other", async () => {
    await using daemon = await Vringd.start({ args: ["--engine=threads"], onDisk: true });
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    const disk = frontEnd.disk();
    const write = async () => (await disk.request({ type: VIRTIO_BLK_T_OUT, sector: 8, out: BLOCK })).status;
    await failing(daemon.pid, "pwrite64", "ENOMEM", async () => {
      assert.equal(await write(), VIRTIO_BLK_S_IOERR);
    });
    assert.equal(await write(), VIRTIO_BLK_S_OK);
    await disk.flush();
    frontEnd.close();
    assert.equal(await daemon.stop(), 0);
  });
});
