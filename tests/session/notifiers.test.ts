// What may stand for a kick, a call or an error: found out without touching it, and without /proc.
import assert from "node:assert/strict";
import { writeSync } from "node:fs";
import { test } from "node:test";
import { createEventfd, drainEventfd, isNotifier, signalEventfd } from "../../host/linux/eventfd.ts";
import { addressOf, close } from "../../host/linux/libc.ts";
import { readPeer } from "../../host/linux/peer-notifier.ts";
import { blockingEventfd, STRANGE_FILES } from "../support/strange-files.ts";

const REGION_BYTES = 4096;

const NOTIFIERS = new Set([
  "an eventfd",
  "a blocking eventfd",
  "a semaphore",
  "a pipe's end to read, without the other",
  "a pipe's end to write, without the other",
  "a socket, without the other end",
]);

for (const [name, open] of Object.entries(STRANGE_FILES)) {
  const isGood = NOTIFIERS.has(name);
  test(`${name} is ${isGood ? "a" : "no"} notifier`, () => {
    const fd = open(REGION_BYTES);
    assert.equal(isNotifier(fd), isGood);
    close(fd);
  });
}

test("an eventfd has the same value after the look", () => {
  const fd = createEventfd();
  assert.ok(isNotifier(fd));
  assert.equal(drainEventfd(fd), false);
  for (let i = 0; i < 3; i++) signalEventfd(fd);
  assert.ok(isNotifier(fd));
  const value = new BigUint64Array(1);
  assert.equal(readPeer(fd, addressOf(value), 8), 8);
  assert.equal(value[0], 3n);
  close(fd);
});

test("a blocking eventfd that is full holds nobody up", { timeout: 10_000 }, () => {
  const fd = blockingEventfd();
  const value = new BigUint64Array([2n ** 64n - 2n]);
  writeSync(fd, value);
  assert.ok(isNotifier(fd));
  close(fd);
});

test("a descriptor that isn't open is refused as the kernel says", () => {
  assert.throws(() => isNotifier(9999), { code: "EBADF" });
});
