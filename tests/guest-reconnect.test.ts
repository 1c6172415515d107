// A QEMU guest that keeps a file system on a daemon that is killed again and again: it notices a pause, nothing else.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { qemuUnavailable, startQemuGuest, verifiedLoad } from "./support/guest.ts";
import { findProgram } from "./support/guest-image.ts";
import { skipReason } from "./support/guest-skip.ts";
import { type Random, tellSeed } from "./support/random.ts";
import { Vringd } from "./support/vringd.ts";

const skip = skipReason(
  qemuUnavailable() ?? (findProgram("fio") === undefined ? "fio is not installed" : undefined),
);

const DISK_SIZE = 128 << 20;
const RECONNECT_TIMEOUT_MS = 20_000;
const LOAD_MS_MAX = 1000;
const PAUSE_MS_MAX = 500;
/** Before a stop of the guest, between that and a reset, and after the reset. */
const KILLS = [3, 3, 4] as const;

describe("a QEMU guest whose disk's daemon is killed", { skip }, () => {
  for (const packed of [false, true]) {
    test(`goes on, on ${packed ? "packed" : "split"} rings`, async (t) => {
      const random = tellSeed(t);
      await using daemon = await Vringd.start({ byteLength: DISK_SIZE, args: ["--packed"] });
      await using guest = await startQemuGuest({
        socketPath: daemon.socketPath,
        script: verifiedLoad,
        programs: ["fio"],
        packed,
        queues: 2,
        reconnectSeconds: 1,
      });
      assert.equal(await guest.waitForReport("BOOT"), "first");
      await killUnderLoad(daemon, KILLS[0], random);
      await guest.qmp("stop");
      await sleep(random.below(PAUSE_MS_MAX));
      await guest.qmp("cont");
      await killUnderLoad(daemon, KILLS[1], random);
      await sleep(random.below(LOAD_MS_MAX));
      await guest.reset();
      assert.equal(await guest.waitForReport("BOOT"), "second");
      await killUnderLoad(daemon, KILLS[2], random);
      await guest.waitForReport("ROUND");

      guest.send("end");
      const result = await guest.exit();
      assert.ok(result.ok, result.console);
      t.diagnostic(`${result.values.get("ROUND")} rounds of fio after the reset`);
      const check = spawnSync("e2fsck", ["-f", "-n", daemon.imagePath], { encoding: "utf8" });
      assert.equal(check.status, 0, check.stdout);
    });
  }
});

/**
 * Never while the device is stopped: QEMU before 9.1 then forgets to listen to the connection that it makes next
 * (vhost_user_async_close_bh, where vhost->vdev is NULL).
 */
async function killUnderLoad(daemon: Vringd, kills: number, random: Random): Promise<void> {
  for (let i = 0; i < kills; i++) {
    await sleep(random.below(LOAD_MS_MAX));
    await killOnce(daemon);
  }
}

/** Resolves when QEMU has come back to the successor. */
async function killOnce(daemon: Vringd): Promise<void> {
  await daemon.kill9();
  await daemon.restart();
  await daemon.waitForLog(/front-end connected/, RECONNECT_TIMEOUT_MS);
}
