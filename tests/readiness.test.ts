// Waiting for descriptors in the event loop.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createEventfd, drainEventfd, signalEventfd } from "../host/linux/eventfd.ts";
import { close } from "../host/linux/libc.ts";
import { whenReadable } from "../host/linux/readiness.ts";

const ROUNDS = 5;

test("whoever awaits readiness goes on at once, not when a timer next wakes the loop", async () => {
  const fd = createEventfd();
  // The loop has something to sleep for, as a process with time limits always has.
  const timer = setInterval(() => {}, 1000);
  const start = performance.now();
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
  const tookMs = performance.now() - start;
  clearInterval(timer);
  close(fd);
  assert.ok(tookMs < 900, `it took ${Math.round(tookMs)} ms`);
});
