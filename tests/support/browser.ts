// A real browser for tests of pages: Chromium, with nothing of the user's, that speaks to nobody by itself.
import { existsSync } from "node:fs";
import type { Browser } from "playwright-core";

/** playwright-core is too large to bundle, so its name is kept from the bundler. */
const PLAYWRIGHT = "playwright-core";

const PATHS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const path = PATHS.find((candidate) => existsSync(candidate));

export function whyNoChromium(): string | undefined {
  return path === undefined ? "Chromium is not installed" : undefined;
}

/** With a profile of its own, which goes when it is closed. */
export async function launchChromium(): Promise<Browser> {
  const { chromium } = (await import(PLAYWRIGHT)) as typeof import("playwright-core");
  const isRoot = process.getuid?.() === 0;
  return chromium.launch({
    executablePath: path!,
    headless: true,
    args: [
      // Its sandbox refuses to run for root.
      ...(isRoot ? ["--no-sandbox"] : []),
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-first-run",
    ],
  });
}
