// A guest moves between two QEMUs, which have one back-end and so one disk, back and forth under a load that verifies what it wrote.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { QEMUS, type Qemu, qemuUnavailable, startQemuGuest } from "../support/guest.ts";
import { migrate, nextRound } from "../support/guest-migration.ts";
import { movedUnderLoad } from "../support/guest-scripts.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { Vringd } from "../support/vringd.ts";

const DISK_SIZE = 32 << 20;
const MEMORY_MIB = 512;
const MOVES = Number(process.env.VRINGD_TEST_MOVES ?? 2);
/** On a machine that has much else to do. */
const LIFE_MS_MAX = 1_800_000;

for (const qemu of QEMUS) {
  const skip = skipWithout(qemuUnavailable(qemu), whyNoProgram("fio"));
  describe(`a guest of QEMU of ${qemu.owner} moves ${MOVES} times under load`, {
    skip,
    timeout: LIFE_MS_MAX,
  }, () => {
    for (const packed of [false, true]) {
      test(`on ${packed ? "packed" : "split"} rings`, (t) => moveAround(t, qemu, packed));
    }
  });
}

async function moveAround(t: TestContext, qemu: Qemu, packed: boolean): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  await using daemon = await Vringd.start({ byteLength: DISK_SIZE, args: ["--packed", "--log-level=debug"] });
  const start = (incoming?: string) =>
    startQemuGuest({
      qemu,
      socketPath: daemon.socketPath,
      script: movedUnderLoad,
      programs: ["fio"],
      memoryMiB: MEMORY_MIB,
      packed,
      timeoutMs: LIFE_MS_MAX,
      ...(incoming && { extraArgs: ["-incoming", `unix:${incoming}`] }),
    });
  let guest = await start();
  try {
    await nextRound(guest);
    for (let i = 0; i < MOVES; i++) {
      const incoming = join(directory, `incoming-${i}`);
      const destination = await start(incoming);
      try {
        t.diagnostic(`downtime ${await migrate(guest, incoming)} ms`);
      } catch (error) {
        await destination[Symbol.asyncDispose]();
        throw error;
      }
      await guest.qmp("quit").catch(() => {});
      await guest.exit();
      guest = destination;
      await nextRound(guest);
    }
    guest.send("end");
    const result = await guest.exit();
    assert.ok(result.ok, result.console);
  } finally {
    await guest[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  }
  assert.equal(daemon.linesLike(/front-end connected/).length, 1 + MOVES);
  assert.deepEqual(daemon.linesLike(/ (warn|error) /), []);
}
