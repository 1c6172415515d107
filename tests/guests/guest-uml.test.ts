// A user-mode-linux guest with its disk on vringd: split rings, both engines.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { limitTests } from "../support/bounded-test.ts";
import { assertSound } from "../support/file-system.ts";
import {
  bootFromDisk,
  discardCheck,
  ext4RoundTrip,
  flushes,
  type GuestResult,
  makeRootImage,
  runUmlGuest,
  umlUnavailable,
} from "../support/guest.ts";
import { skipWithout } from "../support/skip.ts";
import { Vringd } from "../support/vringd.ts";

/** On a machine that has much else to do. */
limitTests(600_000);

const skip = skipWithout(umlUnavailable());
const DISK_SIZE = 256 << 20;

async function run(daemon: Vringd, script: string): Promise<GuestResult> {
  const result = await runUmlGuest({ socketPath: daemon.socketPath, script });
  assert.ok(result.ok, result.console);
  return result;
}

describe("a user-mode-linux guest", { skip }, () => {
  for (const engine of ["io_uring", "threads"]) {
    test(`keeps a file system over a check and a new mount, with ${engine}`, async (t) => {
      await using daemon = await Vringd.start({ byteLength: DISK_SIZE, args: [`--engine=${engine}`] });
      const { values } = await run(daemon, ext4RoundTrip);
      assertSound(daemon.imagePath);
      t.diagnostic(`${values.get("FILES")} files, ${values.get("KIBIBYTES")} KiB`);
    });
  }

  test("discards and zeroes what it names, and nothing beside it", async () => {
    await using daemon = await Vringd.start({ byteLength: DISK_SIZE });
    const { values } = await run(daemon, discardCheck);
    assert.equal(values.get("DISCARD"), "zeroed");
    assert.equal(values.get("WRITE_ZEROES"), "zeroed");
    assert.notEqual(values.get("WRITE_ZEROES_MAX"), "0");
  });

  test("sees each fsync become a flush", async () => {
    await using daemon = await Vringd.start({ byteLength: DISK_SIZE });
    const { values } = await run(daemon, flushes(20));
    assert.equal(values.get("WRITE_CACHE"), "write back");
    assert.equal(values.get("FLUSHES"), "20");
    const line = await daemon.waitForLog(/front-end left/);
    assert.ok(Number(/flushes=(\d+)/.exec(line)?.[1]) >= 20, line);
  });

  test("boots from it", async () => {
    await using daemon = await Vringd.start({ byteLength: DISK_SIZE });
    await daemon.stop();
    makeRootImage(daemon.imagePath);
    for (const boots of ["1", "2"]) {
      await daemon.restart();
      const options = { socketPath: daemon.socketPath, script: bootFromDisk, rootFromDisk: true };
      const result = await runUmlGuest(options);
      assert.ok(result.ok, result.console);
      assert.equal(result.values.get("BOOTS"), boots);
      await daemon.stop();
    }
  });
});
