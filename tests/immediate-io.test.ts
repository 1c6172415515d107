// Reads that must not wait, of descriptors that would.
import assert from "node:assert/strict";
import { writeSync } from "node:fs";
import { test } from "node:test";
import { readNow } from "../host/linux/immediate-io.ts";
import { addressOf, close } from "../host/linux/libc.ts";
import { unixPair } from "../host/linux/unix-socket.ts";
import { blockingEventfd, pipe } from "./support/strange-files.ts";

const EAGAIN = 11;
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
    assert.equal(readNow(readable, addressOf(value), 8), 8);
    assert.equal(value[0], 1n);
    assert.equal(readNow(readable, addressOf(value), 8), -EAGAIN);
    for (const fd of new Set([readable, writable])) close(fd);
  });
}
