// A page in a headless Chromium, served on loopback by this process.
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** playwright-core is too large to bundle, so its name is kept from the bundler. */
const PLAYWRIGHT = "playwright-core";

export interface ServedFile {
  type: string;
  content: string | Uint8Array;
}

/** Isolated from other origins, which is what shared memory asks for. */
const HEADERS = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
};

/** Nothing of the browser's own may go out: tests speak to loopback alone. */
const ARGUMENTS = [
  "--no-sandbox",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
];

const TIMEOUT_MS = 60_000;

/** Opens `path` and resolves with the body's text once the page has set its data-state to "done". */
export async function textOfPage(
  chromium: string,
  files: ReadonlyMap<string, ServedFile>,
  path: string,
): Promise<string> {
  const { chromium: browserType } = (await import(PLAYWRIGHT)) as typeof import("playwright-core");
  const server = createServer((request, response) => {
    const file = files.get(new URL(request.url!, "http://localhost").pathname);
    response.writeHead(file ? 200 : 404, { ...HEADERS, "content-type": file?.type ?? "text/plain" });
    response.end(file?.content);
  });
  const directory = mkdtempSync(join(tmpdir(), "vringd-chromium-"));
  try {
    await new Promise<void>((resolve) => {
      server.listen(0, "127.0.0.1", resolve);
    });
    const { port } = server.address() as AddressInfo;
    const options = { executablePath: chromium, args: ARGUMENTS, timeout: TIMEOUT_MS };
    await using browser = await browserType.launchPersistentContext(directory, options);
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${port}${path}`, { timeout: TIMEOUT_MS });
    await page.waitForSelector("body[data-state=done]", { timeout: TIMEOUT_MS });
    return (await page.textContent("body")) ?? "";
  } finally {
    server.closeAllConnections();
    server.close();
    rmSync(directory, { recursive: true, force: true });
  }
}
