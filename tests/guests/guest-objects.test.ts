// Real guests with a file system on disks in TypeScript: in memory, and an overlay.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { MemoryDisk, serve } from "vringd";
import { limitTests } from "../support/bounded-test.ts";
import { assertSound } from "../support/file-system.ts";
import {
  discardCheck,
  ext4RoundTrip,
  qemuUnavailable,
  runQemuGuest,
  runUmlGuest,
  umlUnavailable,
} from "../support/guest.ts";
import { readOverlay } from "../support/overlay-contents.ts";
import { skipWithout } from "../support/skip.ts";
import { Vringd } from "../support/vringd.ts";

/** On a machine that has much else to do. */
limitTests(600_000);

const DISK_SIZE = 256 << 20;
/** Guest and back-end share the machine, and with a disk in memory the back-end shares a thread with the test. */
const timeoutMs = 240_000;

function checkFileSystem(bytes: Uint8Array): void {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  try {
    const image = join(directory, "disk.img");
    writeFileSync(image, bytes);
    assertSound(image);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Serves from this very process. user-mode-linux takes packed rings that it is offered, and can't drive them. */
async function withMemoryDisk(
  packed: boolean,
  work: (socketPath: string, disk: MemoryDisk) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  const disk = new MemoryDisk(DISK_SIZE);
  try {
    const socketPath = join(directory, "blk.sock");
    await using server = await serve({ disk, socketPath, packed });
    await work(socketPath, disk);
    assert.equal(server.stats().failures, 0);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function contentsOf(disk: MemoryDisk): Promise<Uint8Array> {
  const bytes = new Uint8Array(DISK_SIZE);
  await disk.read(0n, [bytes]);
  return bytes;
}

describe("a user-mode-linux guest", { skip: skipWithout(umlUnavailable()) }, () => {
  test("keeps a file system on a disk in memory", () =>
    withMemoryDisk(false, async (socketPath, disk) => {
      const result = await runUmlGuest({ socketPath, timeoutMs, script: ext4RoundTrip });
      assert.ok(result.ok, result.console);
      checkFileSystem(await contentsOf(disk));
    }));

  test("discards and zeroes what it names on a disk in memory, and nothing beside it", () =>
    withMemoryDisk(false, async (socketPath) => {
      const { ok, values, console } = await runUmlGuest({ socketPath, timeoutMs, script: discardCheck });
      assert.ok(ok, console);
      assert.equal(values.get("DISCARD"), "zeroed");
      assert.equal(values.get("WRITE_ZEROES"), "zeroed");
    }));

  test("keeps a file system on an overlay", async () => {
    await using daemon = await Vringd.start({ overlay: true, byteLength: DISK_SIZE });
    const result = await runUmlGuest({ socketPath: daemon.socketPath, timeoutMs, script: ext4RoundTrip });
    assert.ok(result.ok, result.console);
    await daemon.stop();
    checkFileSystem(await readOverlay(daemon.changesPath, daemon.imagePath));
  });
});

describe("a QEMU guest", { skip: skipWithout(qemuUnavailable()) }, () => {
  test("keeps a file system on a disk in memory, on four packed rings", () =>
    withMemoryDisk(true, async (socketPath, disk) => {
      const result = await runQemuGuest({
        socketPath,
        timeoutMs,
        script: ext4RoundTrip,
        packed: true,
        queues: 4,
      });
      assert.ok(result.ok, result.console);
      checkFileSystem(await contentsOf(disk));
    }));

  test("keeps a file system on an overlay", async () => {
    await using daemon = await Vringd.start({ overlay: true, byteLength: DISK_SIZE });
    const result = await runQemuGuest({
      socketPath: daemon.socketPath,
      timeoutMs,
      script: ext4RoundTrip,
      queues: 2,
    });
    assert.ok(result.ok, result.console);
    await daemon.stop();
    checkFileSystem(await readOverlay(daemon.changesPath, daemon.imagePath));
  });
});
