// The page of `vringd ctl NAME view` in a real browser: its canvas has what the driver has drawn, pixel by pixel.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import * as spec from "../../assembly/spec/virtio-gpu.ts";
import { limitTests } from "../support/bounded-test.ts";
import { launchChromium, whyNoChromium } from "../support/browser.ts";
import { FAINT_TEXTS } from "../support/contrast.ts";
import { startGpu } from "../support/gpu-daemon.ts";
import { connectGpu, GpuDriver } from "../support/gpu-driver.ts";
import { Random } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";
import { startView, type View } from "../support/view.ts";
import type { Vringd } from "../support/vringd.ts";

limitTests(300_000);

const { VIRTIO_GPU_RESP_OK_NODATA: OK, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM: PLAIN } = spec;
const [WIDTH, HEIGHT] = [320, 200];
const ALL = { x: 0, y: 0, width: WIDTH, height: HEIGHT };
const STEP_MS = 60_000;

/** Pixels of a canvas by its id, as base64 of red, green, blue and alpha. From a copy: Chromium complains of whoever reads the page's. */
const PIXELS_OF = (id: string) => `(() => {
  const canvas = document.getElementById("${id}");
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  let text = "";
  for (let at = 0; at < data.length; at += 8192) text += String.fromCharCode(...data.subarray(at, at + 8192));
  return btoa(text);
})()`;

/** As a canvas has it. */
function canvasOf(pixels: Buffer): Buffer {
  const colours = Buffer.from(pixels);
  for (let at = 0; at < colours.length; at += 4)
    colours.set([pixels[at + 2]!, pixels[at + 1]!, pixels[at]!, 255], at);
  return colours;
}

describe("the page", { skip: skipWithout(whyNoChromium()) }, () => {
  let browser: Browser;
  let daemon: Vringd;
  let driver: GpuDriver;
  let view: View;
  let page: Page;
  let gpa: number;
  const asked = new Set<string>();
  const complaints: string[] = [];
  const pixels = new Random(31).bytes(WIDTH * HEIGHT * 4);

  before(async () => {
    daemon = await startGpu("--headless");
    driver = new GpuDriver(await connectGpu(daemon.socketPath));
    view = await startView(daemon);
    browser = await launchChromium();
    page = await browser.newPage({ viewport: { width: 1000, height: 700 } });
    page.setDefaultTimeout(STEP_MS);
    page.on("request", (sent) => asked.add(sent.url().replace(/\?.*/, "")));
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(String(error.stack)));
    await page.goto(view.url.href);
  });
  after(async () => {
    await browser?.close();
    driver?.frontEnd.close();
    await view?.[Symbol.asyncDispose]();
    await daemon?.[Symbol.asyncDispose]();
  });

  const says = (sentence: string) => page.waitForSelector(`#state:text-is("${sentence}")`);

  /** Resolves when the page has all that has been drawn so far. */
  async function isCurrent(): Promise<void> {
    const { version } = (await view.changeSince(0)).head;
    await page.waitForSelector(`body[data-version="${version}"]`);
  }

  async function shows(drawn: Buffer): Promise<void> {
    await isCurrent();
    const shown = Buffer.from((await page.evaluate(PIXELS_OF("screen"))) as string, "base64");
    assert.ok(shown.equals(canvasOf(drawn)), "the pixels differ");
  }

  test("says that the screen is off", async () => {
    await says("The guest's screen is off.");
    assert.equal(await page.isVisible("#screen"), false);
    assert.match(await page.title(), /control 0/);
  });

  test("shows a picture pixel by pixel, and its size", async () => {
    gpa = await driver.draw(1, PLAIN, WIDTH, HEIGHT, pixels);
    assert.equal(await driver.show(0, 1, ALL), OK);
    await says(`${WIDTH} × ${HEIGHT}`);
    await shows(pixels);
  });

  test("shows what is drawn later, in its place", async () => {
    const other = new Random(32).bytes(pixels.length);
    driver.frontEnd.memory.write(gpa, other);
    for (const area of [
      { x: 7, y: 11, width: 100, height: 50 },
      { x: 319, y: 199, width: 1, height: 1 },
    ]) {
      const offset = (area.y * WIDTH + area.x) * 4;
      assert.equal(await driver.transfer(1, area, offset), OK);
      assert.equal(await driver.flush(1, area), OK);
      for (let y = area.y; y < area.y + area.height; y++) {
        const from = (y * WIDTH + area.x) * 4;
        other.copy(pixels, from, from, from + area.width * 4);
      }
    }
    await shows(pixels);
  });

  test("shows the pointer at its place, with its alpha", async () => {
    // Multiplied by their alpha: opaque red, half of white, nothing.
    const kinds = [
      [0, 0, 255, 255],
      [128, 128, 128, 128],
      [0, 0, 0, 0],
    ];
    const picture = Buffer.from(Array.from({ length: 64 * 64 }, (_, i) => kinds[i % 3]!).flat());
    await driver.draw(5, spec.VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, 64, 64, picture);
    const cursor = { id: 5, x: 100, y: 50, hotX: 4, hotY: 2 };
    assert.equal(await driver.cursor(spec.VIRTIO_GPU_CMD_UPDATE_CURSOR, cursor), OK);
    await isCurrent();
    const shown = Buffer.from((await page.evaluate(PIXELS_OF("pointer"))) as string, "base64");
    assert.deepEqual([...shown.subarray(0, 12)], [255, 0, 0, 255, 255, 255, 255, 128, 0, 0, 0, 0]);
    const [screen, pointer] = await Promise.all(
      ["#screen", "#pointer"].map(async (id) => (await page.locator(id).boundingBox())!),
    );
    const scale = screen!.width / WIDTH;
    assert.ok(Math.abs(pointer!.x - screen!.x - 100 * scale) < 1);
    assert.ok(Math.abs(pointer!.y - screen!.y - 50 * scale) < 1);
    assert.ok(Math.abs(pointer!.width - 64 * scale) < 1);
  });

  test("fits windows of any shape, or has its own size", async () => {
    const box = async () => (await page.locator("#screen").boundingBox())!;
    for (const [width, height] of [
      [1000, 700],
      [360, 740],
      [1600, 300],
    ] as const) {
      await page.setViewportSize({ width, height });
      const { x, y, width: shown, height: high } = await box();
      assert.ok(x >= 0 && x + shown <= width + 0.5 && y + high <= height + 0.5, `${width}x${height}`);
      assert.ok(Math.abs(shown / high - WIDTH / HEIGHT) < 0.02);
      assert.ok(shown > width - 1 || y + high > height - 1, "it is as large as can be");
      assert.equal(await page.evaluate("document.documentElement.scrollWidth"), width);
    }
    await page.click("#scale");
    const { width, height } = await box();
    assert.deepEqual([width, height], [WIDTH, HEIGHT]);
    await page.click("#scale");
    assert.deepEqual(await page.evaluate(FAINT_TEXTS), []);
  });

  test("follows another size, and a screen that goes off", async () => {
    const [width, height] = [64, 100];
    const tall = new Random(33).bytes(width * height * 4);
    await driver.draw(2, PLAIN, width, height, tall);
    assert.equal(await driver.show(0, 2, { x: 0, y: 0, width, height }), OK);
    await says(`${width} × ${height}`);
    await shows(tall);
    assert.equal(await driver.show(0, 0, { x: 0, y: 0, width: 0, height: 0 }), OK);
    await says("The guest's screen is off.");
    assert.equal(await driver.show(0, 1, ALL), OK);
    await shows(pixels);
  });

  test("has asked its own server alone, and has not complained", () => {
    const own = [...asked].filter((address) => !address.startsWith("data:"));
    assert.deepEqual(own, [view.url.href, `${view.url.href}changes`]);
    assert.deepEqual(complaints, []);
  });

  test("says that the daemon has ended, with the last picture", async () => {
    await daemon.stop();
    await says("The daemon has ended.");
    assert.equal(await page.isVisible("#screen"), true);
  });
});
