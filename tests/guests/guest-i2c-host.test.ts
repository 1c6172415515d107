// vringd-i2c on buses of a host: inside a guest, which has i2c-stub and a bus from another vringd-i2c outside. What is done there, and to
// whom, is in tests/support/i2c-in-guest.ts.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { limitTests } from "../support/bounded-test.ts";
import { qemuUnavailable, startQemuGuest, TRIXIE_QEMU, withGenericKernel } from "../support/guest.ts";
import { i2cGuest } from "../support/guest-i2c.ts";
import { makeProjectImage } from "../support/guest-project.ts";
import { skipWithout } from "../support/skip.ts";
import { PROGRAM, Vringd } from "../support/vringd.ts";

const IN_GUEST = "i2c-in-guest";
const qemu = withGenericKernel(TRIXIE_QEMU);

/** On a machine that has much else to do, whose processor is emulated. */
const STEP_MS = 600_000;
const LIFE_MS_MAX = 1_800_000;
limitTests(1_200_000);

const SCRIPT = `
insmod /unloaded/i2c_stub.ko chip_addr=0x20,0x51
echo 24c02 0x51 > /sys/bus/i2c/devices/i2c-1/new_device
mkdir -p project
mount -t ext4 -o ro /dev/vda project
node project/build/tests/${IN_GUEST}.mjs 2>&1
`;

describe("I2C buses of a host", { skip: skipWithout(qemuUnavailable(qemu)) }, () => {
  test("are a guest's as far as they are listed, one transfer a group, and hang without hanging it", async () => {
    await using outside = await Vringd.start({
      program: [process.execPath, join(dirname(PROGRAM), "vringd-i2c.mjs")],
      deviceArgs: (directory) => [
        `--emulate=at24:0x54,file=${join(directory, "eeprom")},size=32768`,
        "--emulate=lm75:0x48,temperature=21.5",
      ],
    });
    const imagePath = join(outside.directory, "project.img");
    makeProjectImage(imagePath, [IN_GUEST]);
    await using guest = await startQemuGuest(
      i2cGuest(outside.socketPath, {
        qemu,
        modules: ["at24", "virtio_blk", "ext4", "crc32c_generic"],
        unloadedModules: ["i2c_stub"],
        memoryMiB: 1536,
        programs: ["node"],
        script: SCRIPT,
        extraArgs: [
          "-drive",
          `file=${imagePath},format=raw,if=none,id=project`,
          "-device",
          "virtio-blk-pci,drive=project",
        ],
        timeoutMs: LIFE_MS_MAX,
      }),
    );
    const told = (key: string) => guest.waitForReport(key, STEP_MS);
    await told("STARTED");
    assert.equal(await told("THERE"), "20 48 54");
    for (const part of ["SMBUS", "I2C", "GROUPS"]) assert.equal(await told(part), "as told");
    const eeprom = readFileSync(join(outside.directory, "eeprom"));
    assert.deepEqual([...eeprom.subarray(0x1234, 0x1237)], [0, 7, 14]);

    assert.equal(
      await told("TAKEN"),
      "vringd-i2c: can't have 0x51 on /dev/i2c-1: a driver of the host's kernel has it; unbind that driver, or leave the address out",
    );
    assert.match(
      await told("ABSENT"),
      /^vringd-i2c: can't open \/dev\/i2c-7: no such file or directory; modprobe i2c-dev /,
    );
    assert.equal(await told("NAMELESS"), `vringd-i2c: no I2C bus is called "no such bus": see i2cdetect -l`);

    await told("HANG");
    process.kill(outside.pid, "SIGSTOP");
    guest.send("it hangs");
    await told("GO_ON");
    process.kill(outside.pid, "SIGCONT");
    guest.send("it goes on");
    assert.equal(await told("HUNG"), "as told");
    const { ok, values, console } = await guest.exit();
    assert.ok(ok && values.has("DONE"), console);
  });
});
