// vringd-gpio under QEMU's own front-ends, with Linux' own driver and the tools of libgpiod: lines by name, levels both ways, and
// interrupts of which none is lost, also over a pause.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { limitTests } from "../support/bounded-test.ts";
import { startGpio } from "../support/gpio.ts";
import {
  GPIO,
  QEMUS,
  type QemuGuest,
  qemuUnavailable,
  startQemuGuest,
  withGenericKernel,
} from "../support/guest.ts";
import { askGuest, doAsTold, tellGuest } from "../support/guest-orders.ts";
import { ask } from "../support/observed.ts";
import { qemuVersion } from "../support/qemu-releases.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import type { Vringd } from "../support/vringd.ts";

const LINES = ["led", "button", "reset"];
const BOOT_MS = 600_000;
const LIFE_MS_MAX = 1_800_000;
const EDGES = 1000;
/** The guest's kernel keeps 16 edges for a program that has not read them yet. */
const BATCH = 8;
limitTests(900_000);

/**
 * Beside the helpers of every script:
 *   irqs         prints how many interrupts there were of the lines
 *   wait_irqs N  until there were so many, and gpiomon has nothing more to read
 */
const SCRIPT = `
irqs() { awk '/virtio-gpio/ { n += $2 } END { print n + 0 }' /proc/interrupts; }
wait_irqs() {
  until [ "$(irqs)" = "$1" ] && [ "$(cut -d' ' -f3 /proc/$monitor/stat)" = S ]; do sleep 0.02; done
}
${doAsTold}`;

for (const release of QEMUS) {
  const qemu = withGenericKernel(release);
  const skip = skipWithout(qemuUnavailable(qemu), whyNoProgram("gpioinfo"));
  const hasInterrupts = (qemuVersion(qemu)?.[0] ?? 0) >= 8;
  describe(`a guest of QEMU of ${qemu.owner}`, { skip, timeout: LIFE_MS_MAX }, () => {
    let directory: string;
    let control: string;
    let daemon: Vringd;
    let guest: QemuGuest;

    before(async () => {
      directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
      control = join(directory, "pins.control");
      daemon = await startGpio(LINES, { args: [`--control-socket=${control}`] });
      guest = await startQemuGuest({
        qemu,
        socketPath: daemon.socketPath,
        device: GPIO,
        script: SCRIPT,
        programs: ["gpioinfo", "gpioset", "gpioget", "gpiomon"],
        timeoutMs: LIFE_MS_MAX,
      });
      await guest.waitForReport("READY", BOOT_MS);
    });
    after(async () => {
      await guest?.[Symbol.asyncDispose]();
      await daemon?.[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
    });

    const set = async (line: string, level: number) => {
      const body = JSON.stringify({ command: "set", arguments: [line, String(level)] });
      assert.equal((await ask(control, "POST", "/v1/commands", body)).status, 200);
    };
    const pulse = async (line: string) => {
      await set(line, 1);
      await set(line, 0);
    };
    const shown = async (line: string): Promise<string> =>
      JSON.parse((await ask(control, "GET", "/v1/status")).text).lines[line];
    /** Bounded by the test. */
    const untilShown = async (line: string, wanted: RegExp) => {
      while (!wanted.test(await shown(line))) await sleep(20);
    };

    test("has the lines by their names, and nothing to complain of", async () => {
      const info = await askGuest(guest, "gpioinfo gpiochip0 | tr -s ' \\t\\n' ' '");
      assert.match(info, /^gpiochip0 - 3 lines: line 0: "led" unused input active-high line 1: "button"/);
      assert.match(info, /line 2: "reset" unused input active-high$/);
      assert.equal(await askGuest(guest, "dmesg | grep -c 'virtio_gpio.*[Ff]ailed'"), "0");
    });

    test("sets a line as long as it has it", async () => {
      await tellGuest(guest, "gpioset --mode=signal gpiochip0 0=1 & holder=$!");
      await untilShown("led", /^out 1$/);
      assert.equal(await askGuest(guest, "gpioinfo gpiochip0 | grep -c 'led.*gpioset.*output'"), "1");
      await tellGuest(guest, "kill $holder; wait $holder || true");
      await untilShown("led", /^0$/);
      await tellGuest(guest, "gpioset gpiochip0 0=1");
    });

    test("gets what the host sets", async () => {
      for (const level of [1, 0, 1]) {
        await set("button", level);
        assert.equal(await askGuest(guest, "gpioget gpiochip0 1 2"), `${level} 0`);
      }
      await set("button", 0);
    });

    if (!hasInterrupts) {
      test("has no interrupts, since QEMU knows none", async () => {
        const features = "/sys/bus/virtio/drivers/gpio_virtio/virtio*/features";
        assert.equal(await askGuest(guest, `cut -c1 ${features}`), "0");
        assert.equal(
          await askGuest(guest, "gpiomon -n 1 gpiochip0 1 > /dev/null 2>&1 || echo refused"),
          "refused",
        );
      });
      return;
    }

    /** gpiomon counts from here on, and the guest's interrupts of the lines are so many. */
    async function startMonitor(): Promise<number> {
      await tellGuest(guest, "gpiomon --rising-edge gpiochip0 1 > edges & monitor=$!");
      await untilShown("button", /\(rising, armed\)/);
      return Number(await askGuest(guest, "irqs"));
    }

    async function stopMonitor(): Promise<string> {
      await tellGuest(guest, "kill -INT $monitor; wait $monitor || true");
      await untilShown("button", /^[01]$/);
      return askGuest(guest, "grep -c 'RISING EDGE' edges; wc -l < edges");
    }

    test(`counts ${EDGES} edges exactly`, async () => {
      const before = await startMonitor();
      for (let sent = 0; sent < EDGES; sent += BATCH) {
        for (let i = 0; i < BATCH; i++) await pulse("button");
        await tellGuest(guest, `wait_irqs ${before + sent + BATCH}`);
      }
      assert.equal(await stopMonitor(), `${EDGES} ${EDGES}`);
    });

    test("has an armed interrupt after pauses, and the edges of meanwhile", async () => {
      const before = await startMonitor();
      for (let round = 0; round < 10; round++) {
        await guest.qmp("stop");
        await untilShown("button", /\(rising, masked\)/);
        await guest.qmp("cont");
        await untilShown("button", /\(rising, armed\)/);
      }
      await pulse("button");
      await tellGuest(guest, `wait_irqs ${before + 1}`);
      await guest.qmp("stop");
      await untilShown("button", /\(rising, masked\)/);
      for (let i = 0; i < BATCH; i++) await pulse("button");
      await guest.qmp("cont");
      await tellGuest(guest, `wait_irqs ${before + 1 + BATCH}`);
      assert.equal(await stopMonitor(), `${1 + BATCH} ${1 + BATCH}`);
    });

    test("has lines as new after a reset", async () => {
      await tellGuest(
        guest,
        "gpioset --mode=signal gpiochip0 0=1 & gpiomon --rising-edge gpiochip0 1 > edges & true",
      );
      await untilShown("led", /^out 1$/);
      await guest.reset();
      await guest.waitForReport("READY", BOOT_MS);
      for (let i = 0; i < BATCH; i++) await pulse("button");
      const before = await startMonitor();
      assert.equal(before, 0);
      await pulse("button");
      await tellGuest(guest, "wait_irqs 1");
      assert.equal(await stopMonitor(), "1 1");
    });

    test("was told of no failure", async () => {
      assert.equal(await askGuest(guest, "dmesg | grep -ciE 'virtio_gpio.*(fail|timed|incorrect)'"), "0");
      assert.deepEqual(daemon.linesLike(/warn|error/), []);
      guest.send("end");
      assert.ok((await guest.exit()).ok);
    });
  });
}
