// A front-end that fills a blocking notifier of its own between the daemon's look at it and the daemon's write.
import assert from "node:assert/strict";
import { writeSync } from "node:fs";
import { describe, test } from "node:test";
import { encodeBlkHeader } from "../../host/front-end/blk-driver.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { addressOf, close } from "../../host/linux/libc.ts";
import { readPeer } from "../../host/linux/peer-notifier.ts";
import { isWritable } from "../../host/linux/readiness.ts";
import { rawSplitRing } from "../support/raw-ring.ts";
import { skipWithout } from "../support/skip.ts";
import { straceTo, whyNoStrace } from "../support/strace.ts";
import { blockingEventfd, pipe } from "../support/strange-files.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

/** Every look takes so long that the front-end can't miss the moment behind it. */
const LOOK_US = 300_000;
const SLOW_LOOKS = straceTo("/dev/null", "-e", "trace=poll", "-e", `inject=poll:delay_exit=${LOOK_US}`);

const FULL = new BigUint64Array([2n ** 64n - 2n]);
/** PIPE_BUF: what fits as a whole where there is room at all. */
const PIPE_PART = Buffer.alloc(4096);

const kinds: [name: string, make: () => [readable: number, writable: number]][] = [
  [
    "eventfd",
    () => {
      const fd = blockingEventfd();
      return [fd, fd];
    },
  ],
  ["pipe", pipe],
];

for (const [kind, make] of kinds) {
  describe(`a blocking ${kind} that is filled behind the daemon's look`, {
    skip: skipWithout(whyNoStrace()),
  }, () => {
    test("holds up no worker", { timeout: 60_000 }, async () => {
      const [readable, writable] = make();
      await using daemon = await Vringd.start({ args: ["--engine=threads"], under: SLOW_LOOKS });
      const frontEnd = await FrontEnd.connect(daemon.socketPath);
      assert.equal(await frontEnd.setVringCall(0, writable), 0n);
      // The daemon has called once unasked, since the descriptor is new.
      drain(readable);
      await until(startRead(frontEnd), "the request is used");
      fill(kind, writable);
      await until(startRead(frontEnd), "the next request is used");
      frontEnd.close();
      await using next = await FrontEnd.connect(daemon.socketPath);
      assert.equal((await next.disk().read(0, 1)).length, 512);
      next.close();
      assert.equal(await daemon.stop(), 0);
      for (const fd of new Set([readable, writable])) close(fd);
    });

    test("holds up no request of the front-end", { timeout: 60_000 }, async () => {
      const [readable, writable] = make();
      await using daemon = await Vringd.start({ args: ["--engine=threads"], under: SLOW_LOOKS });
      const frontEnd = await FrontEnd.connect(daemon.socketPath);
      const answered = frontEnd.setVringCall(0, writable);
      fill(kind, writable);
      assert.equal(await answered, 0n);
      frontEnd.close();
      assert.equal(await daemon.stop(), 0);
      for (const fd of new Set([readable, writable])) close(fd);
    });
  });
}

for (const [kind, make] of kinds) {
  test(`a broken ring is told to a blocking ${kind} that is filled behind the daemon's look, and others go on`, {
    skip: skipWithout(whyNoStrace()),
    timeout: 60_000,
  }, async () => {
    const [readable, writable] = make();
    await using daemon = await Vringd.start({ args: ["--engine=threads"], under: SLOW_LOOKS });
    const frontEnd = await FrontEnd.connect(daemon.socketPath, { queues: 2 });
    assert.equal(await frontEnd.setVringErr(0, writable), 0n);
    breakRing(frontEnd);
    // The line comes before the look.
    await daemon.waitForLog(/ring broken/);
    fill(kind, writable);
    // By the main thread, which has the error descriptor to write.
    assert.equal(await frontEnd.setVringEnable(1, true), 0n);
    assert.equal((await frontEnd.disk(1).read(0, 1)).length, 512);
    frontEnd.close();
    assert.equal(await daemon.stop(), 0);
    for (const fd of new Set([readable, writable])) close(fd);
  });
}

/** A head that the queue doesn't have. */
function breakRing({ queues }: FrontEnd): void {
  const queue = queues[0]!;
  rawSplitRing(queue).publishRaw(queue.size);
  queue.kick(true);
}

/** Sends a read; returns what says whether it has been used. The driver looks for itself. */
function startRead({ memory, queues }: FrontEnd): () => boolean {
  const queue = queues[0]!;
  const [header, data] = [memory.allocate(16), memory.allocate(513)];
  memory.write(header, encodeBlkHeader(0, 0));
  queue.add([
    { gpa: header, length: 16, writable: false },
    { gpa: data, length: 513, writable: true },
  ]);
  queue.publish();
  queue.kick(true);
  return () => queue.popUsed() >= 0;
}

/** Only while it is empty: more than there is room for would make us wait. */
function fill(kind: string, fd: number): void {
  if (kind === "pipe") while (isWritable(fd)) writeSync(fd, PIPE_PART);
  else if (isWritable(fd)) writeSync(fd, FULL);
}

function drain(fd: number): void {
  const value = new BigUint64Array(1);
  while (readPeer(fd, addressOf(value), 8) > 0);
}
