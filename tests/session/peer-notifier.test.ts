// Reads and writes of the peer's notifiers, which must not wait where read(2) and write(2) would.
import assert from "node:assert/strict";
import { readlinkSync, writeSync } from "node:fs";
import { test } from "node:test";
import { EAGAIN } from "../../host/linux/errno.ts";
import { addressOf, close } from "../../host/linux/libc.ts";
import { readPeer, signalPeer } from "../../host/linux/peer-notifier.ts";
import { isWritable } from "../../host/linux/readiness.ts";
import { unixPair } from "../../host/linux/unix-socket.ts";
import { blockingEventfd, pipe } from "../support/strange-files.ts";

const ONE = new BigUint64Array([1n]);

const kinds: [name: string, make: () => [readable: number, writable: number]][] = [
  [
    "a blocking eventfd",
    () => {
      const fd = blockingEventfd();
      return [fd, fd];
    },
  ],
  ["a blocking pipe", pipe],
  ["a socket", unixPair],
];
for (const [name, make] of kinds) {
  test(`${name} is read as far as there is something in it`, () => {
    const [readable, writable] = make();
    const value = new BigUint64Array(1);
    writeSync(writable, ONE);
    assert.equal(readPeer(readable, addressOf(value), 8), 8);
    assert.equal(value[0], 1n);
    assert.equal(readPeer(readable, addressOf(value), 8), -EAGAIN);
    for (const fd of new Set([readable, writable])) close(fd);
  });
}

for (const [name, make] of kinds) {
  test(`${name} that is full is left alone`, () => {
    const [readable, writable] = make();
    const value = new BigUint64Array(1);
    assert.equal(signalPeer(writable), 8);
    assert.equal(readPeer(readable, addressOf(value), 8), 8);
    assert.equal(value[0], 1n);
    fill(writable);
    assert.equal(signalPeer(writable), -EAGAIN);
    for (const fd of new Set([readable, writable])) close(fd);
  });
}

/** Without waiting: a thread of its own would wait for ever. */
function fill(fd: number): void {
  const isEventfd = readlinkSync(`/proc/self/fd/${fd}`) === "anon_inode:[eventfd]";
  const value = isEventfd ? new BigUint64Array([0xffff_ffff_ffff_fffen]) : ONE;
  while (isWritable(fd)) writeSync(fd, value);
}
