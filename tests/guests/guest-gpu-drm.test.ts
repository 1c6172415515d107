// vringd-gpu and Linux' own driver, by what programs use of it: every format that the driver has, on two screens, in two modes, and a
// pointer. What the guest draws is what QEMU and we show, pixel by pixel.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { limitTests } from "../support/bounded-test.ts";
import { difference, fromFrameBuffer, type Pixels, readPpm, startGpu } from "../support/gpu-daemon.ts";
import {
  type QemuGuest,
  qemuUnavailable,
  SID_QEMU,
  startQemuGuest,
  TRIXIE_QEMU,
  withGenericKernel,
} from "../support/guest.ts";
import { makeProjectImage } from "../support/guest-project.ts";
import { Random } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";
import { startView } from "../support/view.ts";

/** On a machine that has much else to do. */
const STEP_MS = 600_000;
const LIFE_MS = 1_800_000;
limitTests(1_850_000);

const script = `
mkdir -p project
mount -t ext4 -o ro "$DISK" project
until [ -c /dev/dri/card0 ]; do sleep 0.1; done
echo 0 > /sys/class/vtconsole/vtcon1/bind || true
node project/build/tests/drm-in-guest.mjs pictures /dev/dri/card0 2>&1
`;

/** Columns and rows of characters on a screen in text mode, and of pixels in each. */
const [COLUMNS, CELL_WIDTH, CELL_HEIGHT] = [80, 9, 16];

/** Each row of the screen's characters: "#" where something is written. */
function cellsOf({ width, height, rgb }: Pixels): string[] {
  const isWritten = (column: number, row: number) => {
    for (let y = row * CELL_HEIGHT; y < (row + 1) * CELL_HEIGHT; y++) {
      const from = (y * width + column * CELL_WIDTH) * 3;
      if (rgb.subarray(from, from + CELL_WIDTH * 3).some((byte) => byte > 0)) return true;
    }
    return false;
  };
  return Array.from({ length: Math.floor(height / CELL_HEIGHT) }, (_, row) =>
    Array.from({ length: COLUMNS }, (_, column) => (isWritten(column, row) ? "#" : " ")).join(""),
  );
}

for (const qemu of [TRIXIE_QEMU, SID_QEMU].map(withGenericKernel)) {
  describe(`a graphics card of QEMU of ${qemu.owner}`, { skip: skipWithout(qemuUnavailable(qemu)) }, () => {
    async function screendump(guest: QemuGuest, directory: string, head = 0): Promise<Pixels> {
      const filename = join(directory, "screen.ppm");
      await guest.qmp("screendump", { filename, device: "gpu0", head });
      return readPpm(filename);
    }

    test("shows the firmware's text, and then what programs draw: formats, screens, modes, a pointer", async (t) => {
      const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
      t.after(() => rmSync(directory, { recursive: true, force: true }));
      const imagePath = join(directory, "project.img");
      makeProjectImage(imagePath, ["drm-in-guest"]);
      await using daemon = await startGpu();
      await using guest = await startQemuGuest({
        qemu,
        imagePath,
        script,
        programs: ["node"],
        modules: ["virtio_gpu", "crc32c_generic"],
        memoryMiB: 1536,
        kernelArguments: ["vt.global_cursor_default=0", "video=Virtual-2:640x480e"],
        extraArgs: [
          ["-chardev", `socket,id=gpu,path=${daemon.socketPath}`],
          ["-device", "vhost-user-vga,chardev=gpu,id=gpu0,max_outputs=2,xres=640,yres=480"],
        ].flat(),
        timeoutMs: LIFE_MS,
      });

      // "SeaBIOS (version ...": by QEMU, before there is a driver.
      let text: string[] = [];
      const isFirmwares = (line: string) => /^#{7} #{8} #/.test(line);
      for (const end = performance.now() + STEP_MS; performance.now() < end; await sleep(20)) {
        const picture = await screendump(guest, directory);
        text = picture.width === COLUMNS * CELL_WIDTH ? cellsOf(picture) : [];
        if (text.some(isFirmwares)) break;
      }
      assert.ok(text.some(isFirmwares), text.join("\n"));

      const told = (key: string) => guest.waitForReport(key, STEP_MS);
      assert.equal(await told("HEADS"), "2");
      const formats = (await told("FORMATS")).split(",");
      t.diagnostic(`formats: ${formats}; of a pointer: ${await told("POINTER_FORMATS")}`);
      const seen = new Set<string>();
      const count = formats.length * 2 * 2;
      for (let seed = 1; seed <= count; seed++) {
        const shown = await told(`SHOWN${seed}`);
        const [head, , width, height] = shown.split(",").map(Number) as [number, number, number, number];
        await told(`LOOK${seed}`);
        const expected = fromFrameBuffer(width, height, new Random(seed).bytes(width * height * 4));
        let why: string | undefined = "not looked at";
        for (const end = performance.now() + STEP_MS; why && performance.now() < end; await sleep(100))
          why = difference(await screendump(guest, directory, head), expected);
        assert.equal(why, undefined, shown);
        seen.add(shown);
        guest.send("go on");
      }
      assert.equal(seen.size, count, [...seen].join(" "));
      assert.equal(await told("PICTURES"), String(count));

      await told("POINTER");
      await using view = await startView(daemon);
      const { head, pixels } = await view.changeUntil(({ pointer }) => pointer?.x === 40);
      assert.deepEqual([head.pointer!.x, head.pointer!.y], [40, 30]);
      // The picture may have come before its place.
      const whole = head.pointer!.pixels > 0 ? pixels : (await view.changeSince(0)).pixels;
      assert.ok(whole.subarray(-64 * 64 * 4).equals(new Random(1000).bytes(64 * 64 * 4)));
      guest.send("go on");
      const { ok, console } = await guest.exit();
      assert.ok(ok, console);
      assert.deepEqual(daemon.linesLike(/warn|error/), []);
    });
  });
}
