// Waiting for descriptors in the event loop.
import { test } from "node:test";
import { createEventfd, drainEventfd, signalEventfd } from "../../host/linux/eventfd.ts";
import { close } from "../../host/linux/libc.ts";
import { whenReadable } from "../../host/linux/readiness.ts";

const ROUNDS = 5;
/** What the loop would sleep for. The test fails long before. */
const FAR_AWAY_MS = 600_000;

test("whoever awaits readiness goes on at once, not when a timer next wakes the loop", {
  timeout: 60_000,
}, async () => {
  const fd = createEventfd();
  // The loop has something to sleep for, as a process with time limits always has.
  const timer = setTimeout(() => {}, FAR_AWAY_MS);
  for (let round = 0; round < ROUNDS; round++) {
    const readable = new Promise<void>((resolve) => {
      const watch = whenReadable(fd, () => {
        watch.stop();
        resolve();
      });
    });
    signalEventfd(fd);
    await readable;
    drainEventfd(fd);
  }
  clearTimeout(timer);
  close(fd);
});
