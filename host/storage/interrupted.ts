// Calls that the kernel asks to have made again.
import { setTimeout as sleep } from "node:timers/promises";

const PAUSE_MAX_MS = 100;
const PATIENCE_MS = 10_000;

/** Makes the call again at EINTR, and at EAGAIN after a pause; after 10 s of that it fails with what it failed with. */
export async function untilNotInterrupted<T>(call: () => Promise<T>): Promise<T> {
  let deadline: number | undefined;
  for (let pauseMs = 1; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MAX_MS)) {
    try {
      return await call();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "EINTR" && code !== "EAGAIN") throw error;
      deadline ??= performance.now() + PATIENCE_MS;
      if (performance.now() > deadline) throw error;
      if (code === "EAGAIN") await sleep(pauseMs);
    }
  }
}
