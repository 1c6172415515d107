// Waiting for what only looking can tell, with a bound.
import { setTimeout as sleep } from "node:timers/promises";

const LOOK_EVERY_MS = 2;
/** Long enough for a machine that has much else to do: only what fails takes so long. */
const TIMEOUT_MS = 20_000;

/** Looks until there is something other than undefined or false, and returns it. */
export async function until<T>(
  look: () => T | undefined | false,
  what: string,
  timeoutMs = TIMEOUT_MS,
): Promise<T> {
  for (const deadline = performance.now() + timeoutMs; ; ) {
    const found = look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await sleep(LOOK_EVERY_MS);
  }
}
