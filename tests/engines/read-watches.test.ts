// Watches on kicks, which stay from one wait to the next, and must not stay on a descriptor that is closed.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { ReadWatches } from "../../host/engines/read-watches.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../../host/linux/eventfd.ts";
import { close } from "../../host/linux/libc.ts";
import { whenReadable } from "../../host/linux/readiness.ts";

let watches: ReadWatches;
let fd: number;
beforeEach(() => {
  watches = new ReadWatches();
  fd = createEventfd();
});
afterEach(() => {
  watches.close();
  close(fd);
});

/** Resolves when the eventfd can be read, and has been. */
function wait(): Promise<void> {
  return new Promise((resolve) => {
    watches.wait(fd, () => {
      drainEventfd(fd);
      resolve();
    });
  });
}

test("whoever waits again and again hears of each signal, once", { timeout: 10_000 }, async () => {
  for (let round = 0; round < 100; round++) {
    let isReady = false;
    const ready = wait().then(() => {
      isReady = true;
    });
    await nextTurn();
    assert.equal(isReady, false, "nobody has signalled");
    signalEventfd(fd);
    await ready;
  }
});

test("a signal between two waits is heard by the second", { timeout: 10_000 }, async () => {
  const first = wait();
  signalEventfd(fd);
  await first;
  signalEventfd(fd);
  // Long enough for the loop to find that nobody waits, and for the watch to end.
  await sleep(5);
  await wait();
});

test("a signal for which nobody waits doesn't keep the loop busy", { timeout: 10_000 }, async () => {
  const first = wait();
  signalEventfd(fd);
  await first;
  signalEventfd(fd);
  await sleep(5);
  const before = process.cpuUsage();
  await sleep(200);
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < 100_000, `${user + system} us of processor time in 200 ms`);
});

test("a wait that has ended is not called", { timeout: 10_000 }, async () => {
  let calls = 0;
  watches.wait(fd, () => calls++);
  watches.end(fd);
  signalEventfd(fd);
  await sleep(5);
  assert.equal(calls, 0);
});

test("a descriptor for which nobody waits is free for others once idle watches have ended", {
  timeout: 10_000,
}, async () => {
  const first = wait();
  signalEventfd(fd);
  await first;
  watches.endIdle();
  // A second watch of one descriptor in a loop would end the process.
  const heard = new Promise<void>((resolve) => {
    const other = whenReadable(fd, () => {
      other.stop();
      resolve();
    });
  });
  signalEventfd(fd);
  await heard;
});

test("a wait goes on when idle watches end", { timeout: 10_000 }, async () => {
  const pending = wait();
  watches.endIdle();
  signalEventfd(fd);
  await pending;
});
