// Memory is plugged into guests under load: the back-end maps it as it comes, and the guest's disk goes on, also over a kill of the daemon.
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { QEMUS, type Qemu, type QemuGuest, qemuUnavailable, startQemuGuest } from "../support/guest.ts";
import { askGuest, ordersUnderLoad } from "../support/guest-orders.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

const MEMORY_MIB = 512;
/** What Linux takes at the least. */
const DIMM_MIB = 128;
const TIMES = Number(process.env.VRINGD_TEST_PLUGS ?? 20);
/** Of these, how many follow a kill. */
const KILL_EVERY = 5;
/** On a machine that has much else to do. */
const LIFE_MS_MAX = 1_200_000;
const RECONNECT_MS_MAX = 60_000;
/** A tenth of a second each. */
const LOOKS = 600;

for (const qemu of QEMUS) {
  const skip = skipWithout(qemuUnavailable(qemu), whyNoProgram("fio"));
  describe(`a guest of QEMU of ${qemu.owner}`, { skip, timeout: LIFE_MS_MAX }, () => {
    test(`has memory plugged in ${TIMES} times under load`, (t) => plug(t, qemu, false));
    test(`the same while the daemon is killed in between`, (t) => plug(t, qemu, true));
  });
}

async function plug(t: TestContext, qemu: Qemu, kills: boolean): Promise<void> {
  await using daemon = await Vringd.start({ args: ["--log-level=debug"] });
  await using guest = await startQemuGuest({
    qemu,
    socketPath: daemon.socketPath,
    script: ordersUnderLoad,
    programs: ["fio"],
    memoryMiB: MEMORY_MIB,
    // What programs have is taken from what was plugged in, where that is possible.
    kernelArguments: ["memhp_default_state=online_movable"],
    extraArgs: ["-m", `slots=${TIMES},maxmem=${MEMORY_MIB + (TIMES + 1) * DIMM_MIB}M`],
    reconnectSeconds: 1,
    timeoutMs: LIFE_MS_MAX,
  });
  await guest.waitForReport("READY", LIFE_MS_MAX);
  const before = await memoryOf(guest);
  for (let i = 0; i < TIMES; i++) {
    if (kills && i % KILL_EVERY === KILL_EVERY - 1) await killOnce(daemon);
    await plugOne(guest, daemon, i);
    await sees(guest, before, i + 1);
  }
  t.diagnostic(`${await memoryOf(guest)} KiB instead of ${before} KiB`);
  guest.send("end");
  const result = await guest.exit();
  assert.ok(result.ok, result.console);
  assert.deepEqual(daemon.linesLike(/ (warn|error) /), []);
}

/** Resolves when the daemon has the region. */
async function plugOne(guest: QemuGuest, daemon: Vringd, i: number): Promise<void> {
  const regions = () => daemon.linesLike(/ request +request=ADD_MEM_REG /).length;
  const had = regions();
  const size = DIMM_MIB << 20;
  await guest.qmp("object-add", { "qom-type": "memory-backend-memfd", id: `memory${i}`, size, share: true });
  await guest.qmp("device_add", { driver: "pc-dimm", id: `dimm${i}`, memdev: `memory${i}` });
  await until(() => regions() > had, "the daemon is given the region");
}

/** The guest looks for itself, so that a slow console does not count. */
async function sees(guest: QemuGuest, before: number, dimms: number): Promise<void> {
  // What the kernel needs for itself is less than a tenth.
  const least = Math.floor(before + dimms * DIMM_MIB * 1024 * 0.9);
  const memory = "$(awk '/^MemTotal/ { print $2 }' /proc/meminfo)";
  const wait = `n=0; while [ ${memory} -lt ${least} ] && [ $n -lt ${LOOKS} ]; do sleep 0.1; n=$((n + 1)); done`;
  await askGuest(guest, wait);
  const now = await memoryOf(guest);
  assert.ok(now >= least, `${now} KiB with ${dimms} more`);
}

async function memoryOf(guest: QemuGuest): Promise<number> {
  return Number(await askGuest(guest, "awk '/^MemTotal/ { print $2 }' /proc/meminfo"));
}

/** Resolves when QEMU has come back to the successor, with all regions. */
async function killOnce(daemon: Vringd): Promise<void> {
  await daemon.kill9();
  await daemon.restart();
  await daemon.waitForLog(/ ring started /, RECONNECT_MS_MAX);
}
