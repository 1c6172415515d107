// Waiting for what only looking can tell, with a bound.
import { setTimeout as sleep } from "node:timers/promises";

const LOOK_EVERY_MS = 2;
/** Long enough for a machine that has much else to do: only what fails takes so long. */
const TIMEOUT_MS = 20_000;

type Found<T> = T | undefined | false;

/** Looks until there is something other than undefined or false, and returns it. `what`: in the error, as it is at the end. */
export async function until<T>(
  look: () => Found<T> | Promise<Found<T>>,
  what: string | (() => string),
  timeoutMs = TIMEOUT_MS,
): Promise<T> {
  for (const deadline = performance.now() + timeoutMs; ; ) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline)
      throw new Error(`${typeof what === "string" ? what : what()}: not within ${timeoutMs} ms`);
    await sleep(LOOK_EVERY_MS);
  }
}
