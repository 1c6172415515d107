// An overlay that is handed over between two kernels, of which each trusts only what the other has flushed.
import assert from "node:assert/strict";
import { constants, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { MemoryDisk, OverlayDisk } from "vringd";
import { DiskFile } from "../../host/storage/file/disk-file.ts";
import { makeOverlay } from "../../host/storage/overlay/make.ts";
import type { Handover } from "../../host/storage/storage.ts";
import { tellSeed } from "../support/random.ts";

const BYTES = 4 << 20;
const BLOCK = 4096;

/** Whoever asks has it. */
const unlocked = (isOurs: boolean): Handover => ({
  isOurs,
  hasLock: false,
  patienceMs: 0,
  mayChangeSize: false,
  tryTake: async () => true,
  describeHolder: async () => "held by another",
  flush: async () => {},
  letGo: async () => {},
});

async function host(path: string, bootId: string, isOurs: boolean): Promise<OverlayDisk> {
  const storage = new DiskFile(openSync(path, constants.O_RDWR));
  const base = new MemoryDisk(BYTES);
  return OverlayDisk.over({ base, storage, bootId, readOnly: false, file: unlocked(isOurs) });
}

test("an overlay goes back and forth between two kernels whole", async (t) => {
  const random = tellSeed(t);
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  try {
    const path = join(directory, "changes");
    await makeOverlay(path, { byteLength: BigInt(BYTES), baseChangedNs: 0n });
    let [here, there] = [await host(path, "a".repeat(36), true), await host(path, "b".repeat(36), false)];
    const model = Buffer.alloc(BYTES);
    for (let i = 0; i < 20; i++) {
      for (let n = 0; n < 8; n++) {
        const at = random.below(BYTES / 512 - 32) * 512;
        const bytes = random.bytes(random.between(1, 32) * 512);
        await here.write(BigInt(at), [bytes]);
        bytes.copy(model, at);
      }
      await here.handover!.flush();
      await here.handover!.letGo();
      const before = readFileSync(path);
      assert.equal(await there.handover!.tryTake(), true);
      // The former's working map is another kernel's: only the durable one counts, and is made the new one's.
      assert.equal(readFileSync(path).equals(before), false);
      [here, there] = [there, here];
      for (let at = 0; at < BYTES; at += 64 * BLOCK) {
        const bytes = Buffer.alloc(64 * BLOCK);
        await here.read(BigInt(at), [bytes]);
        assert.ok(bytes.equals(model.subarray(at, at + bytes.length)), `${at} holds something else`);
      }
    }
    await here.close();
    await there.close();
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("an overlay that is another process's is not written when it is opened and closed", async () => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  try {
    const path = join(directory, "changes");
    await makeOverlay(path, { byteLength: BigInt(BYTES), baseChangedNs: 0n });
    const before = readFileSync(path);
    await (await host(path, "b".repeat(36), false)).close();
    assert.ok(readFileSync(path).equals(before));
  } finally {
    rmSync(directory, { recursive: true });
  }
});
