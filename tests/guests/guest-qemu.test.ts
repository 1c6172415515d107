// A QEMU guest with its disk on vringd: split and packed rings, one and more queues, what reaches the disk.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { VIRTIO_F_RING_PACKED } from "../../assembly/spec/virtqueue.ts";
import { limitTests } from "../support/bounded-test.ts";
import { assertSound } from "../support/file-system.ts";
import {
  bootFromDisk,
  discardCheck,
  ext4RoundTrip,
  flushes,
  makeRootImage,
  QEMUS,
  qemuUnavailable,
  runQemuGuest,
} from "../support/guest.ts";
import { skipWithout } from "../support/skip.ts";
import { Vringd } from "../support/vringd.ts";

/** On a machine that has much else to do. */
limitTests(600_000);

const skip = skipWithout(qemuUnavailable());
const DISK_SIZE = 256 << 20;

const RINGS = [
  { engine: "io_uring", packed: false, queues: 1 },
  { engine: "io_uring", packed: true, queues: 4 },
  { engine: "threads", packed: false, queues: 4 },
  { engine: "threads", packed: true, queues: 1 },
];

describe("a QEMU guest", { skip, concurrency: 2 }, () => {
  for (const { engine, packed, queues } of RINGS) {
    const format = packed ? "packed" : "split";
    test(`keeps a file system on ${queues} ${format} ring(s), with ${engine}`, async () => {
      await using daemon = await Vringd.start({
        byteLength: DISK_SIZE,
        args: ["--packed", `--engine=${engine}`],
      });
      const { socketPath } = daemon;
      const script = `report PACKED $(negotiated ${VIRTIO_F_RING_PACKED})\n${ext4RoundTrip}`;
      const result = await runQemuGuest({ socketPath, script, packed, queues });
      assert.ok(result.ok, result.console);
      assert.equal(result.values.get("PACKED"), packed ? "1" : "0");
      assertSound(daemon.imagePath);
    });
  }

  for (const packed of [false, true]) {
    test(`boots from a ${packed ? "packed" : "split"} ring, and again from a daemon started anew`, async () => {
      await using daemon = await Vringd.start({ byteLength: DISK_SIZE, args: ["--packed"] });
      await daemon.stop();
      makeRootImage(daemon.imagePath);
      for (const boots of ["1", "2"]) {
        await daemon.restart();
        const { socketPath } = daemon;
        const result = await runQemuGuest({ socketPath, script: bootFromDisk, rootFromDisk: true, packed });
        assert.ok(result.ok, result.console);
        assert.equal(result.values.get("BOOTS"), boots);
        await daemon.stop();
      }
    });
  }
});

for (const qemu of QEMUS) {
  describe(`a guest of QEMU of ${qemu.owner}`, {
    skip: skipWithout(qemuUnavailable(qemu)),
    concurrency: 2,
  }, () => {
    test("discards and zeroes what it names, and nothing beside it", async () => {
      await using daemon = await Vringd.start({ byteLength: DISK_SIZE });
      const { socketPath } = daemon;
      const result = await runQemuGuest({ qemu, socketPath, script: discardCheck });
      assert.ok(result.ok, result.console);
      assert.equal(result.values.get("DISCARD"), "zeroed");
      assert.equal(result.values.get("WRITE_ZEROES"), "zeroed");
    });

    test("sees each fsync become a flush", async () => {
      await using daemon = await Vringd.start({ byteLength: DISK_SIZE });
      const { socketPath } = daemon;
      const result = await runQemuGuest({ qemu, socketPath, script: flushes(20) });
      assert.ok(result.ok, result.console);
      assert.equal(result.values.get("WRITE_CACHE"), "write back");
      assert.equal(result.values.get("FLUSHES"), "20");
    });
  });
}
