// `vringd demo ring` in a real browser: what the page shows, by keyboard, from a file and from its server.
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { launchChromium, whyNoChromium } from "../support/browser.ts";
import { FAINT_TEXTS } from "../support/contrast.ts";
import { skipWithout } from "../support/skip.ts";
import { PROGRAM } from "../support/vringd.ts";

const TOOLBOX = join(dirname(PROGRAM), "vringd.mjs");
const scratch = mkdtempSync(join(tmpdir(), "vringd-demo-"));
const FILE = join(scratch, "ring.html");
const FILE_URL = pathToFileURL(FILE).href;
after(() => rmSync(scratch, { recursive: true }));

function toolbox(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [TOOLBOX, "demo", "ring", ...args], {
    encoding: "utf8",
    timeout: 60_000,
  });
  return { status, stdout, stderr };
}

interface Served {
  url: URL;
  child: ChildProcess;
}

const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill("SIGKILL");
});

async function serve(): Promise<Served> {
  const child = spawn(process.execPath, [TOOLBOX, "demo", "ring"], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const [line] = await once(child.stdout!, "data", { signal: AbortSignal.timeout(30_000) });
  return { url: new URL(String(line).split(" ")[0]!), child };
}

async function end({ child }: Served, signal: NodeJS.Signals): Promise<unknown[]> {
  child.kill(signal);
  return once(child, "exit", { signal: AbortSignal.timeout(10_000) });
}

test("--output writes the page, and nothing over a file that is there", () => {
  const first = toolbox("--output", FILE);
  assert.deepEqual([first.status, first.stderr], [0, ""]);
  const second = toolbox("--output", FILE);
  assert.equal(second.status, 1);
  assert.equal(second.stderr, `vringd: can't write ${FILE}: file already exists\n`);
});

test("a port that is no port, or taken, is a sentence", async () => {
  assert.equal(toolbox("--port", "70000").status, 2);
  const served = await serve();
  const { status, stderr } = toolbox("--port", served.url.port);
  assert.equal(status, 1);
  assert.equal(
    stderr,
    `vringd: can't listen on port ${served.url.port} of 127.0.0.1: address already in use\n`,
  );
  await end(served, "SIGTERM");
});

test("the server has one page, for its own names, and ends on SIGTERM", async () => {
  const served = await serve();
  const { port, hostname } = served.url;
  assert.equal(hostname, "127.0.0.1");
  const ask = async (path: string, host: string, method = "GET"): Promise<number | undefined> => {
    const sent = request({ hostname, port, path, method, headers: { host }, agent: false }).end();
    const [response] = await once(sent, "response", { signal: AbortSignal.timeout(10_000) });
    response.resume();
    return response.statusCode;
  };
  assert.equal(await ask("/", `127.0.0.1:${port}`), 200);
  assert.equal(await ask("/", `localhost:${port}`, "HEAD"), 200);
  assert.equal(await ask("/", `rebound.example:${port}`), 421);
  assert.equal(await ask("/", "127.0.0.1"), 421);
  assert.equal(await ask("/../package.json", `127.0.0.1:${port}`), 404);
  assert.equal(await ask("/favicon.ico", `127.0.0.1:${port}`), 404);
  assert.equal(await ask("/", `127.0.0.1:${port}`, "POST"), 405);
  // As a shell tells it: 128 and the signal's number.
  assert.deepEqual(await end(served, "SIGTERM"), [143, null]);
});

describe("the page", { skip: skipWithout(whyNoChromium()) }, () => {
  let browser: Browser;
  before(async () => {
    toolbox("--output", FILE);
    browser = await launchChromium();
  });
  after(() => browser.close());

  /** Opens the page, uses it, and makes sure that it asked for nothing and complained of nothing. */
  async function using(
    url: string,
    options: BrowserContextOptions,
    use: (page: Page) => Promise<void>,
  ): Promise<void> {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    const asked: string[] = [];
    const complaints: string[] = [];
    page.on("request", (sent) => asked.push(sent.url()));
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(String(error.stack)));
    await page.goto(url);
    await page.waitForSelector("#main:not([hidden])");
    await use(page);
    // Its icon lies in it.
    const fetched = asked.filter((address) => !address.startsWith("data:"));
    assert.deepEqual(
      [fetched.map((address) => address.split("#")[0]), complaints],
      [[url.split("#")[0]], []],
    );
    await context.close();
  }

  const press = async (page: Page, keys: string) => {
    for (const key of keys.split(" ")) await page.keyboard.press(key);
  };
  const text = async (page: Page, selector: string) => (await page.textContent(selector))?.trim();
  const field = (page: Page, name: string) =>
    page.evaluate(`document.querySelector('[data-field="${name}"]').firstChild.textContent`);
  const outcomes = (page: Page) => page.locator("#requests .outcome").allTextContents();

  test("shows a whole request in a split ring, by keyboard alone", async () => {
    await using(FILE_URL, {}, async (page) => {
      await press(page, "a");
      assert.equal(await field(page, "avail.idx"), "1");
      assert.deepEqual(await outcomes(page), ["in the ring"]);
      await press(page, "k s");
      assert.equal(await field(page, "entry[0].inflight"), "1");
      assert.match((await text(page, "#operations"))!, /#1WRITE 512 B at 2560/);
      assert.equal(await field(page, "used.idx"), "0");
      await press(page, "c s");
      assert.equal(await field(page, "used.idx"), "1");
      assert.equal(await field(page, "entry[0].inflight"), "0");
      // What changed is marked, and says what it was.
      const changed = page.locator('[data-field="used.idx"]');
      assert.match((await changed.getAttribute("class"))!, /changed/);
      assert.equal(await changed.getAttribute("title"), "was 0");
      await press(page, "u");
      assert.deepEqual(await outcomes(page), ["OK"]);
      assert.match((await page.locator("#disk li").allTextContents())[5]!, /sector 5: A/);
      assert.match((await text(page, "#headline"))!, /driver takes back #1/);
    });
  });

  test("shows a whole request in a packed ring, reached with Tab and Enter from its server", async () => {
    const served = await serve();
    await using(`${served.url}#packed,8,events`, {}, async (page) => {
      await page.keyboard.press("Tab");
      // The link past the settings: it leads to the button that is due next.
      await page.keyboard.press("Enter");
      assert.equal(await page.evaluate("document.activeElement.id"), "next");
      for (const expected of ["adds a request", "kicks", "steps", "does WRITE", "steps", "takes back"]) {
        assert.match((await text(page, "#next"))!, new RegExp(expected));
        await page.keyboard.press("Enter");
      }
      assert.deepEqual(await outcomes(page), ["OK"]);
      assert.equal(await field(page, "inflight.old_used_idx"), "3");
      assert.equal(await field(page, "desc[0].flags"), "WRITE AVAIL USED");
    });
    await end(served, "SIGTERM");
  });

  for (const format of ["split", "packed"]) {
    test(`a crash between two stores and a recovery lose nothing of a ${format} ring`, async () => {
      const hash = `#${format},8,events,w2.r9.k.s.c0`;
      await using(`${FILE_URL}${hash}`, {}, async (page) => {
        const stores = await page.locator("#stores code").allTextContents();
        const publish = stores.findIndex((code) => /^(used\.idx|desc\[0\]\.flags) =/.test(code));
        assert.ok(publish > 0, stores.join("; "));
        // Published, and not committed.
        await page
          .locator("#stores .crash")
          .nth(publish + 1)
          .click();
        assert.match((await text(page, "#core-state"))!, /dead/);
        assert.match((await text(page, "#operations"))!, /Nothing asked for/);
        await press(page, "v");
        assert.match((await text(page, "#headline"))!, /finds 1 request in flight/);
        await press(page, "n n n n n n");
        assert.deepEqual(await outcomes(page), ["OK: ·", "OK"]);
        assert.match((await page.locator("#disk li").allTextContents())[2]!, /sector 2: A/);
      });
    });
  }

  test("a hostile head breaks the ring, and a reset mends it", async () => {
    await using(FILE_URL, {}, async (page) => {
      await press(page, "h s");
      assert.match((await text(page, "#core-state"))!, /ring is broken/);
      assert.match((await text(page, "#log"))!, /a head lies past the end of the queue/);
      await press(page, "a");
      assert.match((await text(page, "#requests"))!, /No requests/);
      await press(page, "z a n n n n n");
      assert.deepEqual(await outcomes(page), ["OK"]);
    });
  });

  test("an address leads to the same state, and Back takes the last action back", async () => {
    await using(FILE_URL, {}, async (page) => {
      await press(page, "a k s");
      const hash = await page.evaluate("location.hash");
      assert.equal(hash, "#split,8,events,w5.k.s");
      const log = await text(page, "#log");
      await press(page, "c b");
      assert.equal(await page.evaluate("location.hash"), hash);
      assert.equal(await text(page, "#log"), log);
    });
  });

  test("a tour can be walked to its end and back", async () => {
    await using(FILE_URL, {}, async (page) => {
      await page.selectOption("#tours", { label: "A crash, and recovery" });
      for (let stop = 2; stop <= 6; stop++) {
        await page.keyboard.press("Enter");
        assert.match((await text(page, "#tour"))!, new RegExp(`^${stop}/6`));
      }
      assert.deepEqual(await outcomes(page), ["OK: ·", "OK"]);
      for (let stop = 5; stop >= 3; stop--) await page.click("#tour-back");
      assert.match((await text(page, "#core-state"))!, /dead/);
      assert.equal(await page.locator(".looked-at").count(), 1);
    });
  });

  for (const colorScheme of ["light", "dark"] as const) {
    test(`fits ${colorScheme} screens from 360 to 1600 pixels, in contrast`, async () => {
      const busy = `${FILE_URL}#packed,16,events,w3.ir5x2.f.k.s.c0.s`;
      await using(busy, { colorScheme, reducedMotion: "reduce" }, async (page) => {
        for (const width of [360, 390, 760, 1160, 1280, 1600]) {
          await page.setViewportSize({ width, height: 800 });
          assert.equal(await page.evaluate("document.documentElement.scrollWidth"), width);
        }
        assert.deepEqual(await page.evaluate(FAINT_TEXTS), []);
        const ground = await page.evaluate("getComputedStyle(document.body).backgroundColor");
        assert.equal(ground, colorScheme === "dark" ? "rgb(18, 19, 22)" : "rgb(247, 245, 240)");
        await page.click("#theme");
        assert.equal(await text(page, "#theme"), "Theme: light");
        await page.click("#theme");
        assert.deepEqual(await page.evaluate(FAINT_TEXTS), []);
        assert.equal(
          await page.evaluate("getComputedStyle(document.body).backgroundColor"),
          "rgb(18, 19, 22)",
        );
      });
    });
  }

  test("runs by itself until it is paused", async () => {
    await using(FILE_URL, {}, async (page) => {
      await press(page, "r");
      await page.locator("#log > li").nth(4).waitFor();
      await press(page, "r");
      assert.match((await text(page, "#run"))!, /^Run/);
    });
  });
});
