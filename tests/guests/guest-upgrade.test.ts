// Guests whose daemon is replaced under load: fio verifies all that it reads, and the front-end keeps its connection.
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { QEMUS, type Qemu, qemuUnavailable, startQemuGuest } from "../support/guest.ts";
import { askGuest, ordersUnderLoad } from "../support/guest-orders.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { UpgradedDaemon } from "../support/upgraded.ts";

const TIMES = Number(process.env.VRINGD_TEST_UPGRADES ?? 3);
/** On a machine that has much else to do. */
const LIFE_MS_MAX = 600_000;

/** What the guest has had of its disk so far: it grows with each upgrade that its requests outlive. */
const SECTORS_WRITTEN = "awk '{ print $7 }' /sys/block/vda/stat";
const LOOKS = 600;

async function upgradeUnderLoad(t: TestContext, qemu: Qemu): Promise<void> {
  await using upgraded = await UpgradedDaemon.start({});
  await using guest = await startQemuGuest({
    qemu,
    socketPath: upgraded.daemon.socketPath,
    script: ordersUnderLoad,
    programs: ["fio"],
    timeoutMs: LIFE_MS_MAX,
  });
  await guest.waitForReport("READY", LIFE_MS_MAX);
  const pauses: number[] = [];
  for (let i = 0; i < TIMES; i++) {
    const before = Number(await askGuest(guest, SECTORS_WRITTEN));
    pauses.push((await upgraded.upgrade()).pauseMs);
    const written = `$(${SECTORS_WRITTEN})`;
    await askGuest(
      guest,
      `n=0; while [ ${written} -le ${before} ] && [ $n -lt ${LOOKS} ]; do sleep 0.1; n=$((n + 1)); done`,
    );
    assert.ok(Number(await askGuest(guest, SECTORS_WRITTEN)) > before, "the guest writes on");
  }
  pauses.sort((a, b) => a - b);
  t.diagnostic(`pauses: median ${pauses[pauses.length >> 1]} ms, longest ${pauses.at(-1)} ms`);
  guest.send("end");
  const result = await guest.exit();
  assert.ok(result.ok, result.console);
  assert.equal(upgraded.daemon.linesLike(/ front-end connected/).length, 1);
  await upgraded.stop();
}

describe("a guest whose daemon is upgraded", { concurrency: 2, timeout: LIFE_MS_MAX }, () => {
  for (const qemu of QEMUS) {
    test(
      `goes on each time: QEMU of ${qemu.owner}`,
      { skip: skipWithout(qemuUnavailable(qemu), whyNoProgram("fio")) },
      (t) => upgradeUnderLoad(t, qemu),
    );
  }
});
