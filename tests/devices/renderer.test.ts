// The renderer's process, as a device starts it: libvirglrenderer over Mesa's llvmpipe, without any graphics device.
import assert from "node:assert/strict";
import { closeSync, existsSync, writeSync } from "node:fs";
import { describe, type TestContext, test } from "node:test";
import { VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM as FORMAT } from "../../assembly/spec/virtio-gpu.ts";
import { createMemfd } from "../../host/linux/memfd.ts";
import {
  VIRGL_RENDERER_THREAD_SYNC,
  VIRGL_RENDERER_USE_EGL,
  VIRGL_RENDERER_USE_GLX,
  VIRGL_RENDERER_USE_SURFACELESS,
} from "../../host/linux/virglrenderer.ts";
import { whyNoNode } from "../../host/renderer/choice.ts";
import { RendererGone, RendererRefused } from "../../host/renderer/errors.ts";
import * as message from "../../host/renderer/messages.ts";
import { Renderer, type RendererOptions } from "../../host/renderer/renderer.ts";
import { SharedPixels } from "../../host/renderer/shared-pixels.ts";
import { limitTests } from "../support/bounded-test.ts";
import { words } from "../support/gpu-driver.ts";
import { skipWithout } from "../support/skip.ts";
import { until } from "../support/until.ts";
import { clearCommands, picture, whyNoVirgl } from "../support/virgl-commands.ts";

limitTests(300_000);

const SURFACELESS = VIRGL_RENDERER_USE_EGL | VIRGL_RENDERER_USE_SURFACELESS;
const [WIDTH, HEIGHT] = [64, 48];
const FRAME = WIDTH * HEIGHT * 4;
const GPA = 0x1_0000_0000n;

async function start(t: TestContext, flags = SURFACELESS, options: Partial<RendererOptions> = {}) {
  const passed: number[] = [];
  const ends: string[] = [];
  const renderer = await Renderer.start({
    flags,
    renderNode: undefined,
    maxMemory: 64 << 20,
    passed: (fence) => passed.push(fence),
    ended: (reason) => ends.push(reason),
    ...options,
  });
  t.after(() => renderer.close());
  return { renderer, passed, ends };
}

/** What the renderer has of a resource. */
async function pixelsOf(renderer: Renderer, resource: number): Promise<Buffer> {
  let shown: Promise<void> | undefined;
  const pixels = SharedPixels.create(FRAME, (fd) => {
    shown = renderer.askWith([fd], message.SHOW, [resource, WIDTH, HEIGHT]);
  });
  try {
    await shown;
    await renderer.ask(message.READ_PIXELS, [resource, 0, 0, WIDTH, HEIGHT]);
    return Buffer.from(pixels.bytes);
  } finally {
    pixels.release();
  }
}

const everyPixel = (pixel: readonly number[]) => Buffer.alloc(FRAME, Buffer.from(pixel));

describe("a renderer", { skip: skipWithout(whyNoVirgl()) }, () => {
  for (const [how, flags] of [
    ["by a descriptor", SURFACELESS | VIRGL_RENDERER_THREAD_SYNC],
    ["by looking", SURFACELESS],
  ] as const) {
    test(`commands draw on llvmpipe, and their fence is passed: ${how}`, async (t) => {
      const { renderer, passed } = await start(t, flags);
      const capsets = renderer.capsets.map(({ id, version }) => [id, version]);
      assert.deepEqual(capsets, [
        [1, 1],
        [2, 2],
      ]);
      assert.match(renderer.capsets[1]!.bytes.toString("latin1"), /llvmpipe/i);
      await renderer.ask(message.CREATE_CONTEXT, [1], Buffer.from("test"));
      await renderer.ask(message.CREATE_RESOURCE, picture(7, FORMAT, WIDTH, HEIGHT));
      await renderer.ask(message.ATTACH_RESOURCE, [1, 7]);
      const fences = [renderer.nextFence(), renderer.nextFence()];
      await renderer.ask(message.SUBMIT, [1], clearCommands(10, 7, FORMAT, [0.2, 0.4, 0.6, 1]), fences[0]);
      await until(() => passed.includes(fences[0]!), "the fence is passed");
      assert.deepEqual(await pixelsOf(renderer, 7), everyPixel([153, 102, 51, 255]));
      await renderer.ask(message.SUBMIT, [1], clearCommands(11, 7, FORMAT, [1, 0, 0, 1]), fences[1]);
      await until(() => passed.includes(fences[1]!), "the second fence is passed");
      assert.deepEqual(await pixelsOf(renderer, 7), everyPixel([0, 0, 255, 255]));
    });
  }

  test("pictures come from guest memory and go back to it, row by row", async (t) => {
    const { renderer } = await start(t);
    const memory = createMemfd("guest", 1 << 20);
    t.after(() => closeSync(memory));
    const pattern = Buffer.from(Uint8Array.from({ length: FRAME }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
    writeSync(memory, pattern, 0, FRAME, 0);
    const region = [GPA, 1n << 20n, 0n].flatMap(message.halves);
    await renderer.askWith([memory], message.SET_MEMORY, [...region, 4096]);
    await renderer.ask(message.CREATE_RESOURCE, picture(7, FORMAT, WIDTH, HEIGHT));
    // In two ranges.
    const entries = words(GPA, 5000, 0, GPA + 5000n, FRAME - 5000, 0);
    await renderer.ask(message.ATTACH_BACKING, [7], entries);
    const all = [7, 0, 0, 0, 0, WIDTH, HEIGHT, 1, 0, 0, 0, 0, 0];
    await renderer.ask(message.TRANSFER_TO_HOST, all);
    assert.deepEqual(await pixelsOf(renderer, 7), pattern);
    // Memory that moves is found again, and memory that goes is missed.
    const other = createMemfd("guest", 1 << 20);
    t.after(() => closeSync(other));
    await renderer.askWith([other], message.SET_MEMORY, [...region, 4096]);
    writeSync(other, Buffer.alloc(FRAME, 0x55), 0, FRAME, 0);
    await renderer.ask(message.TRANSFER_TO_HOST, all);
    assert.deepEqual(await pixelsOf(renderer, 7), Buffer.alloc(FRAME, 0x55));
    await renderer.ask(message.SET_MEMORY, []);
    await assert.rejects(renderer.ask(message.TRANSFER_TO_HOST, all), RendererRefused);
    await renderer.ask(message.DETACH_BACKING, [7]);
    await assert.rejects(renderer.ask(message.ATTACH_BACKING, [7], entries), { status: message.NO_MEMORY });
  });

  test("commands that are none are refused, and others go on", async (t) => {
    const { renderer, ends } = await start(t);
    for (const context of [1, 2]) await renderer.ask(message.CREATE_CONTEXT, [context], Buffer.from("test"));
    await renderer.ask(message.CREATE_RESOURCE, picture(7, FORMAT, WIDTH, HEIGHT));
    await renderer.ask(message.ATTACH_RESOURCE, [2, 7]);
    await assert.rejects(renderer.ask(message.SUBMIT, [1], Buffer.alloc(64, 0xff)), RendererRefused);
    await assert.rejects(renderer.ask(message.SUBMIT, [99], Buffer.alloc(4)), RendererRefused);
    await renderer.ask(message.SUBMIT, [2], clearCommands(10, 7, FORMAT, [0, 1, 0, 1]));
    assert.deepEqual(await pixelsOf(renderer, 7), everyPixel([0, 255, 0, 255]));
    await renderer.ask(message.RESET, []);
    await assert.rejects(renderer.ask(message.SUBMIT, [2], Buffer.alloc(4)), RendererRefused);
    assert.deepEqual(ends, []);
  });

  test("who waits for a renderer that dies is told, and why", async (t) => {
    const { renderer, ends } = await start(t);
    process.kill(renderer.pid!, "SIGSEGV");
    await assert.rejects(renderer.ask(message.RESET, []), RendererGone);
    await until(() => ends.length > 0, "the end is told");
    assert.match(ends[0]!, /^it was ended by SIGSEGV/);
    assert.equal(renderer.isGone, true);
    await assert.rejects(renderer.ask(message.RESET, []), RendererGone);
  });

  test("one that hangs is ended", async (t) => {
    const { renderer, ends } = await start(t, SURFACELESS, { silentMs: 500 });
    process.kill(renderer.pid!, "SIGSTOP");
    await assert.rejects(renderer.ask(message.RESET, []), RendererGone);
    assert.deepEqual(ends, ["it has not answered for 0.5 s"]);
    await until(() => !existsSync(`/proc/${renderer.pid}/fd`), "its process has gone");
  });

  test("one that takes too much memory is ended", async (t) => {
    const ends: string[] = [];
    const untilItEnds = async () => {
      const options = { maxMemory: -(510 << 20), ended: (reason: string) => ends.push(reason) };
      const { renderer } = await start(t, SURFACELESS, options);
      while (true) await renderer.ask(message.RESET, []);
    };
    await assert.rejects(untilItEnds(), RendererGone);
    assert.deepEqual(ends, ["it took more than 2 MiB of memory"]);
  });

  test("where nothing can draw, the reason is told", async () => {
    const started = Renderer.start({
      flags: VIRGL_RENDERER_USE_GLX,
      renderNode: undefined,
      maxMemory: 0,
      passed: () => {},
      ended: () => {},
    });
    await assert.rejects(started, { name: "RendererRefused", message: /virgl_renderer_init/ });
  });

  test("a render node must be one", () => {
    assert.equal(whyNoNode("/dev/null"), "/dev/null is no graphics device");
    assert.equal(whyNoNode("/dev/dri/none"), "/dev/dri/none can't be used: no such file or directory");
    assert.equal(
      whyNoNode(import.meta.filename ?? process.execPath),
      `${import.meta.filename ?? process.execPath} is no graphics device`,
    );
  });
});
