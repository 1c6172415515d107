// Waiting for descriptors in the event loop.
import assert from "node:assert/strict";
import { readdirSync, writeSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createEventfd, drainEventfd, signalEventfd } from "../../host/linux/eventfd.ts";
import { close } from "../../host/linux/libc.ts";
import { isWritable, whenReadable, whenWritable } from "../../host/linux/readiness.ts";
import { limitWithRoomFor, withDescriptorLimit } from "../support/descriptor-limit.ts";

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

/** An eventfd that is full. */
const FULL = new BigUint64Array([2n ** 64n - 2n]);
/** Several times as long as whoever has no watch takes between two looks. */
const WHILE_MS = 120;

for (const [how, spare] of [
  ["by the loop", 1],
  ["by looking, where no descriptor is to spare", 0],
] as const) {
  test(`room is waited for ${how}`, { timeout: 10_000 }, async () => {
    const fd = createEventfd();
    writeSync(fd, FULL);
    let calls = 0;
    let watch: { stop(): void } | undefined;
    const descriptors = () => readdirSync("/proc/self/fd").length;
    const before = descriptors();
    // The loop has its own descriptors by now.
    await sleep(1);
    await withDescriptorLimit(limitWithRoomFor(spare), async () => {
      watch = whenWritable(fd, () => calls++);
    });
    assert.equal(descriptors(), before + spare);
    await sleep(WHILE_MS);
    assert.equal(calls, 0, "it is full");
    assert.ok(drainEventfd(fd));
    assert.ok(isWritable(fd));
    for (const end = performance.now() + 5000; calls === 0 && performance.now() < end; ) await sleep(1);
    assert.ok(calls > 0);
    watch!.stop();
    const callsUntilThen = calls;
    await sleep(WHILE_MS);
    assert.equal(calls, callsUntilThen, "nobody waits any more");
    watch!.stop();
    close(fd);
  });
}
