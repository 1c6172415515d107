// A real browser for tests of pages: Chromium, with nothing of the user's, that speaks to nobody by itself.
import { existsSync } from "node:fs";
import type { Browser } from "playwright-core";

/** playwright-core is too large to bundle, so its name is kept from the bundler. */
const PLAYWRIGHT = "playwright-core";

const PATHS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const path = PATHS.find((candidate) => existsSync(candidate));

/** For the `skip` option of a test: false, or why. VRINGD_TEST_RUNTIMES is "required" or unset. */
export function chromiumSkip(): string | false {
  if (path !== undefined) return false;
  const reason = "Chromium is not installed";
  if (process.env.VRINGD_TEST_RUNTIMES === "required") throw new Error(`runtimes are required: ${reason}`);
  return reason;
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
