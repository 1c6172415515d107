// Guests whose disk grows under load: Linux takes over the new size while it runs, and after a pause of its machine.
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { describe, type TestContext, test } from "node:test";
import {
  type GuestProcess,
  QEMUS,
  qemuUnavailable,
  startQemuGuest,
  startUmlGuest,
  umlUnavailable,
} from "../support/guest.ts";
import { askGuest, ordersUnderLoad } from "../support/guest-orders.ts";
import { Observed } from "../support/observed.ts";
import { resize } from "../support/resize-rig.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";

const MIB = 1 << 20;
const FIRST_MIB = 32;
/** How often it grows under load. */
const TIMES = Number(process.env.VRINGD_TEST_RESIZES ?? 5);
/** On a machine that has much else to do. */
const LIFE_MS_MAX = 600_000;
/** A tenth of a second each. */
const LOOKS = 600;

type Guest = GuestProcess & { qmp?(command: string): Promise<unknown> };

async function grow(t: TestContext, start: (socketPath: string) => Promise<Guest>): Promise<void> {
  await using observed = await Observed.start({ byteLength: FIRST_MIB * MIB });
  await using guest = await start(observed.daemon.socketPath);
  await guest.waitForReport("READY", LIFE_MS_MAX);
  let size = FIRST_MIB;
  let longestMs = 0;
  for (let i = 0; i < TIMES; i++) {
    const startMs = performance.now();
    await give(observed, ++size);
    await sees(guest, size);
    longestMs = Math.max(longestMs, performance.now() - startMs);
  }
  t.diagnostic(`the guest's answer came ${Math.round(longestMs)} ms after a resize at the latest`);
  await writesTheEnd(guest, size);
  if (guest.qmp) {
    await guest.qmp("stop");
    await give(observed, ++size);
    await guest.qmp("cont");
    await sees(guest, size);
    await writesTheEnd(guest, size);
  }
  guest.send("end");
  const result = await guest.exit();
  assert.ok(result.ok, result.console);
  assert.equal(statSync(observed.daemon.imagePath).size, size * MIB);
}

async function give(observed: Observed, mib: number): Promise<void> {
  assert.equal((await resize(observed, `--size=${mib}M`)).status, 200);
}

/** The guest looks for itself, so that a slow console does not count. */
async function sees(guest: GuestProcess, mib: number): Promise<void> {
  const size = "$(cat /sys/block/vda/size)";
  const wait = `n=0; while [ ${size} != ${mib * 2048} ] && [ $n -lt ${LOOKS} ]; do sleep 0.1; n=$((n + 1)); done`;
  assert.equal((await askGuest(guest, `${wait}; echo ${size}`)).trim(), String(mib * 2048));
}

async function writesTheEnd(guest: GuestProcess, mib: number): Promise<void> {
  const at = (mib * MIB) / 4096 - 1;
  const write = `dd if=/dev/urandom of=noise bs=4k count=1; dd if=noise of=$DISK bs=4k seek=${at} conv=notrunc,fsync`;
  const read = `blockdev --flushbufs $DISK; dd if=$DISK bs=4k skip=${at} count=1`;
  const answer = await askGuest(
    guest,
    `(${write}) 2>/dev/null; (${read}) 2>/dev/null | cmp - noise && echo same`,
  );
  assert.equal(answer.trim(), "same");
}

describe("a guest whose disk grows", { concurrency: 2, timeout: LIFE_MS_MAX }, () => {
  const fio = whyNoProgram("fio");
  for (const qemu of QEMUS) {
    test(
      `takes over each size: QEMU of ${qemu.owner}`,
      { skip: skipWithout(qemuUnavailable(qemu), fio) },
      (t) =>
        grow(t, (socketPath) =>
          startQemuGuest({
            qemu,
            socketPath,
            script: ordersUnderLoad,
            programs: ["fio"],
            timeoutMs: LIFE_MS_MAX,
          }),
        ),
    );
  }

  test("takes over each size: user-mode-linux", { skip: skipWithout(umlUnavailable(), fio) }, (t) =>
    grow(t, async (socketPath) =>
      startUmlGuest({ socketPath, script: ordersUnderLoad, programs: ["fio"], timeoutMs: LIFE_MS_MAX }),
    ),
  );
});
