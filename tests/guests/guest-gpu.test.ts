// vringd-gpu under QEMU's own front-end and Linux' own driver: what the guest draws is what QEMU shows, pixel by pixel.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { limitTests } from "../support/bounded-test.ts";
import {
  difference,
  fromFrameBuffer,
  type Pixels,
  readPng,
  readPpm,
  startGpu,
} from "../support/gpu-daemon.ts";
import {
  type QemuGuest,
  qemuUnavailable,
  SID_QEMU,
  startQemuGuest,
  TRIXIE_QEMU,
  withGenericKernel,
} from "../support/guest.ts";
import { Random } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";
import { toolbox } from "../support/toolbox.ts";
import type { Vringd } from "../support/vringd.ts";

const [WIDTH, HEIGHT] = [800, 600];
const STRIDE = WIDTH * 4;
const FRAME_BYTES = STRIDE * HEIGHT;
/** A row and a half: Linux shows nothing of what is written in a row and ends with it. */
const PART_BYTES = STRIDE * 1.5;
const PARTS = FRAME_BYTES / PART_BYTES;
const HEADS = [0, 1];

/** On a machine that has much else to do. */
const BOOT_MS = 600_000;
const STEP_MS = 300_000;
const LIFE_MS = 1_800_000;
limitTests(900_000);

/** The console of the kernel, until it is taken away; then what the test says, until "end". */
const script = `
until [ -c /dev/fb0 ]; do sleep 0.1; done
report SIZE "$(cat /sys/class/graphics/fb0/virtual_size)"
# Of the first picture (0) or the second one (1): so many parts, from this one on.
part() { dd if=/dev/vda of=/dev/fb0 bs=${PART_BYTES} skip=$(($1 * ${PARTS} + $2)) seek=$2 count=$3 conv=notrunc; }
while read -r line && [ "$line" != end ]; do eval "$line"; done
`;

for (const qemu of [TRIXIE_QEMU, SID_QEMU].map(withGenericKernel)) {
  describe(`a graphics card of a guest of QEMU of ${qemu.owner}`, {
    skip: skipWithout(qemuUnavailable(qemu)),
  }, () => {
    let directory: string;
    let daemon: Vringd;
    let guest: QemuGuest;
    const [first, second] = [new Random(7).bytes(FRAME_BYTES), new Random(8).bytes(FRAME_BYTES)];

    before(async () => {
      directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
      const disk = join(directory, "disk");
      // Two pictures behind each other.
      writeFileSync(disk, Buffer.concat([first, second]));
      daemon = await startGpu("--log-level=debug");
      guest = await startQemuGuest({
        qemu,
        imagePath: disk,
        script,
        modules: ["virtio_gpu"],
        // The second screen is one that QEMU has nobody look at.
        kernelArguments: ["vt.global_cursor_default=0", `video=Virtual-2:${WIDTH}x${HEIGHT}e`],
        extraArgs: [
          ["-chardev", `socket,id=gpu,path=${daemon.socketPath}`],
          ["-device", `vhost-user-gpu-pci,chardev=gpu,id=gpu0,max_outputs=2,xres=${WIDTH},yres=${HEIGHT}`],
        ].flat(),
        timeoutMs: LIFE_MS,
      });
      assert.equal(await guest.waitForReport("SIZE", BOOT_MS), `${WIDTH},${HEIGHT}`);
    });

    after(async () => {
      await guest?.[Symbol.asyncDispose]();
      await daemon?.[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
    });

    /** Resolves when a screen shows this. */
    async function shows(expected: Pixels, head = 0): Promise<void> {
      let why: string | undefined = "not looked at";
      for (const end = performance.now() + STEP_MS; why && performance.now() < end; await sleep(100))
        why = difference(await screendump(head), expected);
      assert.equal(why, undefined, `screen ${head} differs`);
    }

    async function screendump(head: number): Promise<Pixels> {
      const filename = join(directory, "screen.ppm");
      await guest.qmp("screendump", { filename, device: "gpu0", head });
      return readPpm(filename);
    }

    async function screenshot(head: number): Promise<Pixels> {
      const path = join(directory, "screen.png");
      const control = join(daemon.directory, "control");
      const { status, stderr } = await toolbox([
        "ctl",
        control,
        "screenshot",
        path,
        String(head),
        "--timeout=60",
      ]);
      assert.equal(status, 0, stderr);
      return readPng(path);
    }

    test("shows its console", async () => {
      guest.send("printf '\\033[2J\\033[H\\033[31mHello from a guest\\033[0m\\n' > /dev/tty1");
      const isRed = (rgb: Buffer) => rgb.some((byte, i) => i % 3 === 0 && byte > 128 && rgb[i + 1]! < 16);
      while (!isRed((await screendump(0)).rgb)) await sleep(100);
    });

    test("shows each pixel that is written, on both screens, and in a screenshot", async () => {
      // The console goes, and what follows is nobody else's.
      guest.send(`echo 0 > /sys/class/vtconsole/vtcon1/bind; part 0 0 ${PARTS}`);
      const expected = fromFrameBuffer(WIDTH, HEIGHT, first);
      for (const head of HEADS) await shows(expected, head);
      for (const head of HEADS) assert.equal(difference(await screenshot(head), expected), undefined);
    });

    test("shows parts that are written, and goes on after a pause", async () => {
      const expected = Buffer.from(first);
      for (const [begin, count] of [
        [100, 33],
        [PARTS - 1, 1],
      ] as const) {
        guest.send(`part 1 ${begin} ${count}`);
        second.copy(expected, begin * PART_BYTES, begin * PART_BYTES, (begin + count) * PART_BYTES);
        await shows(fromFrameBuffer(WIDTH, HEIGHT, expected));
        // The front-end takes its display away, and brings another one.
        await guest.qmp("stop");
        await guest.qmp("cont");
      }
      assert.equal(daemon.linesLike(/ring started /).length, 6);
    });

    test("begins anew with the guest's driver", async () => {
      const driver = "/sys/bus/virtio/drivers/virtio_gpu";
      guest.send(
        `device=$(basename ${driver}/virtio*); echo $device > ${driver}/unbind; echo $device > ${driver}/bind`,
      );
      guest.send(
        "until [ -c /dev/fb0 ]; do sleep 0.1; done; echo 0 > /sys/class/vtconsole/vtcon1/bind || true",
      );
      guest.send(`part 1 0 ${PARTS}; report DRAWN yes`);
      await guest.waitForReport("DRAWN", STEP_MS);
      const expected = fromFrameBuffer(WIDTH, HEIGHT, second);
      for (const head of HEADS) await shows(expected, head);
    });

    test("leaves a guest that ends well", async () => {
      guest.send("end");
      const { ok, console } = await guest.exit();
      assert.ok(ok, console);
      assert.deepEqual(daemon.linesLike(/warn|error/), []);
    });
  });
}
