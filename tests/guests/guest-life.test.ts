// A guest of each QEMU lives on its disk: boots from it, is reset, and keeps its files on a daemon that is killed again and again.
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { limitTests } from "../support/bounded-test.ts";
import { assertSound } from "../support/file-system.ts";
import {
  lifeOnDisk,
  makeRootImage,
  QEMUS,
  type Qemu,
  type QemuGuest,
  qemuUnavailable,
  startQemuGuest,
} from "../support/guest.ts";
import { type Random, tellSeed } from "../support/random.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const DISK_MIB = 192;
/** On a machine that has much else to do. */
const LIFE_MS_MAX = 600_000;
limitTests(LIFE_MS_MAX);
const RECONNECT_TIMEOUT_MS = 60_000;
/** Without a message from QEMU. */
const SETTLED_MS = 300;
const LOAD_MS_MAX = 1000;
/** Of the daemon's log, where a guest does not go on. */
const LAST_LINES = 80;
const PAUSE_MS_MAX = 500;

/** How often the daemon is killed: before the guest is stopped, between that and a reset, and after the reset. */
type Kills = readonly [number, number, number];

interface Life {
  packed: boolean;
  queues: number;
  kills: Kills;
}

const LIVES: readonly Life[] = [
  { packed: false, queues: 1, kills: [3, 3, 4] },
  { packed: true, queues: 4, kills: [2, 1, 2] },
  { packed: false, queues: 4, kills: [1, 0, 1] },
  { packed: true, queues: 1, kills: [1, 0, 1] },
];

for (const qemu of QEMUS) {
  const skip = skipWithout(qemuUnavailable(qemu), whyNoProgram("fio"));
  describe(`a guest of QEMU of ${qemu.owner}`, { skip, concurrency: 2 }, () => {
    for (const life of LIVES) {
      const { queues, packed, kills } = life;
      const rings = `${queues} ${packed ? "packed" : "split"} ring${queues > 1 ? "s" : ""}`;
      test(`lives on ${rings} through a reset and ${sum(kills)} kills of the daemon`, (t) =>
        live(t, qemu, life));
    }
  });
}

async function live(t: TestContext, qemu: Qemu, { packed, queues, kills }: Life): Promise<void> {
  const random = tellSeed(t);
  await using daemon = await Vringd.start({
    byteLength: DISK_MIB << 20,
    args: ["--packed", "--log-level=debug"],
  });
  await daemon.stop();
  makeRootImage(daemon.imagePath, DISK_MIB, ["fio"]);
  await daemon.restart();
  await using guest = await startQemuGuest({
    qemu,
    socketPath: daemon.socketPath,
    script: lifeOnDisk,
    rootFromDisk: true,
    packed,
    queues,
    reconnectSeconds: 1,
    timeoutMs: LIFE_MS_MAX,
  });
  try {
    await liveWith(daemon, guest, queues, kills, random);
  } catch (error) {
    t.diagnostic(`the daemon's last lines:\n${daemon.log.slice(-LAST_LINES).join("\n")}`);
    throw error;
  }
  guest.send("end");
  const result = await guest.exit();
  assert.ok(result.ok, result.console);
  assert.equal(result.values.get("PACKED"), packed ? "1" : "0");
  assert.equal(result.values.get("QUEUES"), String(queues));
  assertTracked(daemon);
  t.diagnostic(`${result.values.get("ROUND")} rounds of fio after the reset`);
  assertSound(daemon.imagePath);
}

async function liveWith(
  daemon: Vringd,
  guest: QemuGuest,
  queues: number,
  kills: Kills,
  random: Random,
): Promise<void> {
  assert.equal(await guest.waitForReport("BOOT"), "first");
  await killUnderLoad(daemon, queues, kills[0], random);
  await guest.qmp("stop");
  await sleep(random.below(PAUSE_MS_MAX));
  await guest.qmp("cont");
  await killUnderLoad(daemon, queues, kills[1], random);
  await sleep(random.below(LOAD_MS_MAX));
  await guest.reset();
  assert.equal(await guest.waitForReport("BOOT"), "second");
  await killUnderLoad(daemon, queues, kills[2], random);
  await guest.waitForReport("ROUND");
}

/**
 * Never while the device is stopped: QEMU before 9.1 then forgets to listen to the connection that it makes next
 * (vhost_user_async_close_bh, where vhost->vdev is NULL).
 */
async function killUnderLoad(daemon: Vringd, queues: number, kills: number, random: Random): Promise<void> {
  for (let i = 0; i < kills; i++) {
    await sleep(random.below(LOAD_MS_MAX));
    await killOnce(daemon, queues);
  }
}

/** Resolves when QEMU has come back to the successor. */
async function killOnce(daemon: Vringd, queues: number): Promise<void> {
  await daemon.kill9();
  assertTracked(daemon);
  await daemon.restart();
  await until(() => daemon.linesLike(/ ring started /).length >= queues, "rings start", RECONNECT_TIMEOUT_MS);
  // QEMU 7.2 ends by SIGSEGV where a back-end dies in the middle of its set-up, some of which follows the rings.
  for (let lines = 0; lines !== daemon.log.length; ) {
    lines = daemon.log.length;
    await sleep(SETTLED_MS);
  }
}

/** Whatever a QEMU asks for, there is room in its inflight region for each ring: no warning says otherwise. */
function assertTracked(daemon: Vringd): void {
  assert.deepEqual(daemon.linesLike(/ warn .*inflight/), []);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b);
}
