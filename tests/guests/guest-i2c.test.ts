// vringd-i2c under QEMU's own front-end and the kernel's own drivers: what is on the bus, contents that both sides write, groups that
// fail, a temperature that follows.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { limitTests } from "../support/bounded-test.ts";
import {
  QEMUS,
  type QemuGuest,
  qemuUnavailable,
  startQemuGuest,
  withGenericKernel,
} from "../support/guest.ts";
import { ask, tell } from "../support/guest-console.ts";
import {
  bindDriver,
  corruptions,
  detect,
  I2C_PROGRAMS,
  i2cGuest,
  sysfsOf,
  transfer,
} from "../support/guest-i2c.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { PROGRAM, Vringd } from "../support/vringd.ts";

const I2C_PROGRAM = [process.execPath, join(dirname(PROGRAM), "vringd-i2c.mjs")];
const TOOLBOX = join(dirname(PROGRAM), "vringd.mjs");

const EEPROM = 0x50;
const EEPROM_BYTES = 256;
/** Of offsets of two bytes. */
const LARGE = 0x54;
const LARGE_BYTES = 32768;
const THERMOMETER = 0x48;
const FAILING_GROUPS = 300;

/** On a machine that has much else to do. */
const BOOT_MS = 600_000;
const LIFE_MS_MAX = 1_800_000;
limitTests(600_000);

for (const qemu of QEMUS.map(withGenericKernel)) {
  describe(`a guest's I2C bus under QEMU of ${qemu.owner}`, {
    skip: skipWithout(qemuUnavailable(qemu), whyNoProgram(...I2C_PROGRAMS)),
  }, () => {
    let daemon: Vringd;
    let guest: QemuGuest;
    const fileOf = (name: string) => join(daemon.directory, name);

    before(async () => {
      daemon = await Vringd.start({
        program: I2C_PROGRAM,
        args: ["--log-level=debug"],
        deviceArgs: (directory) => [
          `--emulate=at24:0x${EEPROM.toString(16)},file=${join(directory, "small")},size=${EEPROM_BYTES}`,
          `--emulate=at24:0x${LARGE.toString(16)},file=${join(directory, "large")},size=${LARGE_BYTES}`,
          `--emulate=lm75:0x${THERMOMETER.toString(16)},temperature=21.5`,
          `--control-socket=${join(directory, "control")}`,
        ],
      });
      guest = await startQemuGuest(i2cGuest(daemon.socketPath, { qemu, timeoutMs: LIFE_MS_MAX }));
      await guest.waitForReport("READY", BOOT_MS);
    });

    after(async () => {
      await guest?.[Symbol.asyncDispose]();
      await daemon?.[Symbol.asyncDispose]();
    });

    test("has what is there, and nothing else", async (t) => {
      t.diagnostic(daemon.linesLike(/ ring started /)[0]!.replace(/^.*ring started +/, ""));
      assert.equal(await ask(guest, "cat /sys/bus/i2c/devices/i2c-0/name"), "i2c_virtio at virtio bus 0");
      assert.deepEqual(await detect(guest), ["48", "50", "54"]);
    });

    test("has EEPROMs whose contents are the host's files, whoever writes", async () => {
      for (const [driver, address, name, size] of [
        ["24c02", EEPROM, "small", EEPROM_BYTES],
        ["24c256", LARGE, "large", LARGE_BYTES],
      ] as const) {
        await bindDriver(guest, driver, address);
        const file = `${sysfsOf(address)}/eeprom`;
        const sumInGuest = () => ask(guest, `sha256sum < ${file}`);
        const sumOnHost = () => sha256sum(readFileSync(fileOf(name)));
        assert.equal(await ask(guest, `stat -c %s ${file}`), String(size));
        assert.equal(await sumInGuest(), sumOnHost());
        // By the host, while the guest's driver has it.
        writeFileSync(fileOf(name), randomBytes(size), { flag: "r+" });
        assert.equal(await sumInGuest(), sumOnHost());
        // By the guest, some bytes in the middle and some over the end of the first page.
        const before = readFileSync(fileOf(name));
        await tell(
          guest,
          `head -c 100 /dev/urandom > said; dd if=said of=${file} bs=1 seek=90 conv=notrunc 2>/dev/null`,
        );
        const said = Buffer.from(await ask(guest, "od -An -v -tx1 said | tr -d ' \\n'"), "hex");
        assert.equal(said.length, 100);
        said.copy(before, 90);
        assert.deepEqual(readFileSync(fileOf(name)), before);
        assert.equal(await sumInGuest(), sumOnHost());
      }
    });

    test("does nothing of a group that fails, whatever of it can't be done", async () => {
      const before = readFileSync(fileOf("small"));
      const other = (before[0]! + 1) % 256;
      const write = `w2@0x${EEPROM.toString(16)} 0x00 0x${other.toString(16)}`;
      const nobody = "r1@0x33";
      for (const messages of [
        [write, nobody],
        [nobody, write],
        [write, write, nobody, write],
      ]) {
        const answer = await transfer(guest, messages.join(" "));
        assert.equal(answer, `Warning: only 0/${messages.length} messages were sent`);
        assert.deepEqual(readFileSync(fileOf("small")), before, answer);
      }
      const first = `w1@0x${EEPROM.toString(16)} 0x00 r2`;
      const wanted = [...before.subarray(0, 2)]
        .map((byte) => `0x${byte.toString(16).padStart(2, "0")}`)
        .join(" ");
      assert.equal(await transfer(guest, first), wanted);
    });

    test("has a thermometer that measures what the operator says", async () => {
      await bindDriver(guest, "lm75", THERMOMETER);
      const measured = () => ask(guest, `cat ${sysfsOf(THERMOMETER)}/hwmon/hwmon*/temp1_input`);
      assert.equal(await measured(), "21500");
      for (const [celsius, wanted] of [
        ["25.5", "25500"],
        ["-12.5", "-12500"],
        ["80", "80000"],
      ] as const) {
        assert.match(await ctl("temperature", "0x48", celsius), new RegExp(`temperature +${celsius}`));
        assert.equal(await measured(), wanted);
      }
    });

    // The emulation of QEMU 7.2 copies a kernel to where another has run the more slowly the longer that was, up to minutes.
    test("is as it was when the guest has been paused, and after its reset", async () => {
      await guest.qmp("stop");
      await guest.qmp("cont");
      assert.deepEqual(await detect(guest), ["UU", "UU", "UU"]);
      await guest.reset();
      await guest.waitForReport("READY", BOOT_MS);
      assert.deepEqual(await detect(guest), ["48", "50", "54"]);
    });

    test("leaves the kernel's memory whole when groups fail", async () => {
      const group = `w2@0x${EEPROM.toString(16)} 0x00 0x00 r1@0x33 r16@0x${EEPROM.toString(16)}`;
      const failed = `i2ctransfer -y -f 0 ${group} 2>&1 | grep -q 'only 0/3'`;
      await tell(guest, `n=0; while [ $n -lt ${FAILING_GROUPS} ]; do ${failed}; n=$((n + 1)); done`);
      assert.deepEqual(await detect(guest), ["48", "50", "54"]);
      assert.equal(await corruptions(guest), "0");
      guest.send("end");
      const { ok, console } = await guest.exit();
      assert.ok(ok, console);
      assert.deepEqual(daemon.linesLike(/warn|error/), []);
    });

    async function ctl(...args: string[]): Promise<string> {
      const all = [TOOLBOX, "ctl", fileOf("control"), ...args];
      return (await promisify(execFile)(process.execPath, all)).stdout;
    }
  });
}

function sha256sum(bytes: Buffer): string {
  return `${createHash("sha256").update(bytes).digest("hex")}  -`;
}
