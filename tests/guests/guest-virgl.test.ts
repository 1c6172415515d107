// Three dimensions in a guest: its own Mesa draws by virgl, under QEMU's own front-end and Linux' own driver, and what it draws is what
// QEMU and a screenshot show, pixel by pixel.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { limitTests } from "../support/bounded-test.ts";
import { FRAMES, frameSize, rgbOf } from "../support/gl-frames.ts";
import { difference, type Pixels, readPng, readPpm, startGpu } from "../support/gpu-daemon.ts";
import { qemuUnavailable, startQemuGuest, TRIXIE_QEMU, withGenericKernel } from "../support/guest.ts";
import { makeProjectImage } from "../support/guest-project.ts";
import { MESA, whyNoMesa } from "../support/mesa.ts";
import { skipWithout } from "../support/skip.ts";
import { toolbox } from "../support/toolbox.ts";
import { whyNoVirgl } from "../support/virgl-commands.ts";

const qemu = withGenericKernel(TRIXIE_QEMU);

/** Node and Mesa on an emulated processor, on a machine that has much else to do. */
const STEP_MS = 900_000;
const LIFE_MS = 1_800_000;
limitTests(1_800_000);

const script = `
until [ -c /dev/dri/card0 ]; do sleep 0.1; done
mkdir -p project
mount -t ext4 -o ro "$DISK" project
export LD_LIBRARY_PATH=/run/project/libraries LIBGL_DRIVERS_PATH=/run/project/libraries/dri
export __EGL_VENDOR_LIBRARY_DIRS=/run/project/libraries/vendors HOME=/tmp MESA_SHADER_CACHE_DISABLE=true
node project/build/tests/gl-in-guest.mjs
`;

test("a guest's own Mesa draws by virgl, and its screen shows each pixel", {
  skip: skipWithout(qemuUnavailable(qemu), whyNoVirgl(), whyNoMesa()),
}, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const imagePath = join(directory, "project.img");
  makeProjectImage(imagePath, ["gl-in-guest"], MESA);
  await using daemon = await startGpu("--virgl", "--use-surfaceless", "--log-level=debug");
  const { width, height } = frameSize;
  await using guest = await startQemuGuest({
    qemu,
    imagePath,
    script,
    programs: ["node"],
    modules: ["virtio_gpu", "crc32c_generic"],
    memoryMiB: 1536,
    kernelArguments: ["vt.global_cursor_default=0"],
    extraArgs: [
      ["-chardev", `socket,id=gpu,path=${daemon.socketPath}`],
      ["-device", `vhost-user-gpu-pci,chardev=gpu,id=gpu0,xres=${width},yres=${height}`],
    ].flat(),
    timeoutMs: LIFE_MS,
  });

  const renderer = await guest.waitForReport("RENDERER", STEP_MS);
  t.diagnostic(renderer);
  assert.match(renderer, /^virgl \(LLVMPIPE/i);

  const dump = async (): Promise<Pixels> => {
    const filename = join(directory, "screen.ppm");
    await guest.qmp("screendump", { filename, device: "gpu0", head: 0 });
    return readPpm(filename);
  };
  const screenshot = async (): Promise<Pixels> => {
    const path = join(directory, "screen.png");
    const control = join(daemon.directory, "control");
    const { status, stderr } = await toolbox(["ctl", control, "screenshot", path, "--timeout=60"]);
    assert.equal(status, 0, stderr);
    return readPng(path);
  };
  for (const [i, frame] of FRAMES.entries()) {
    await guest.waitForReport(`DRAWN${i}`, STEP_MS);
    const expected = { width, height, rgb: rgbOf(frame) };
    // QEMU is told as its socket has room.
    let why: string | undefined = "not looked at";
    for (const end = performance.now() + STEP_MS; why && performance.now() < end; await sleep(100))
      why = difference(await dump(), expected);
    assert.equal(why, undefined, `frame ${i} of QEMU's differs`);
    assert.equal(difference(await screenshot(), expected), undefined, `frame ${i} of a screenshot differs`);
    guest.send("");
  }
  const { ok, console } = await guest.exit();
  assert.ok(ok, console);
  assert.deepEqual(daemon.linesLike(/warn|error/), []);
});
