// The daemon's life: where front-ends come in, who comes when, and what is left when it ends.
import assert from "node:assert/strict";
import { existsSync, rmSync, statSync, writeSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { Memory } from "../../host/front-end/memory.ts";
import { close } from "../../host/linux/libc.ts";
import { connectUnix, listenUnix, unixPair } from "../../host/linux/unix-socket.ts";
import { until } from "../support/until.ts";
import { Vringd } from "../support/vringd.ts";

async function listening({ socketPath }: Vringd): Promise<void> {
  await until(() => existsSync(socketPath), "the socket is there");
}

for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
  test(`${signal} ends it with status 0, and removes the socket`, async () => {
    // These tests may run below nohup(1), whose ignored SIGHUP would stay ignored.
    await using daemon = await Vringd.start({ under: ["env", `--default-signal=${signal.slice(3)}`] });
    await listening(daemon);
    assert.equal(await daemon.stop(signal), 0);
    assert.ok(!existsSync(daemon.socketPath));
  });
}

test("it ends without waiting for its time limit with a front-end connected and its rings running", async () => {
  await using daemon = await Vringd.start();
  await using frontEnd = await FrontEnd.connect(daemon.socketPath);
  await frontEnd.disk().read(0, 8);
  // It would be 1 if the limit had ended it.
  assert.equal(await daemon.stop(), 0);
});

test("after one front-end has left it serves the next", async () => {
  await using daemon = await Vringd.start();
  for (let i = 0; i < 3; i++) {
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    await frontEnd.disk().write(i, Buffer.alloc(512, i));
  }
  await daemon.waitForLog(/front-end left/);
});

test("a second front-end may ask, and has its rings served once the first has left", async () => {
  await using daemon = await Vringd.start();
  const first = await FrontEnd.connect(daemon.socketPath);
  await using second = await FrontEnd.open(daemon.socketPath);
  await second.negotiate();
  await second.shareMemory(new Memory());
  let isServed = false;
  const queue = second.addQueue().finally(() => {
    isServed = true;
  });
  await sleep(100);
  assert.ok(!isServed);
  await first.disk().read(0, 1);
  first.close();
  await queue;
  await second.disk().read(0, 1);
});

test("the socket of a killed predecessor is replaced", async () => {
  await using daemon = await Vringd.start();
  await listening(daemon);
  await daemon.kill9();
  assert.ok(existsSync(daemon.socketPath));
  await daemon.restart();
  await using frontEnd = await FrontEnd.connect(daemon.socketPath);
  await frontEnd.disk().read(0, 1);
});

test("a successor's socket at the same path is not removed", async () => {
  await using daemon = await Vringd.start();
  await listening(daemon);
  rmSync(daemon.socketPath);
  const fd = listenUnix(daemon.socketPath);
  const { ino } = statSync(daemon.socketPath);
  assert.equal(await daemon.stop(), 0);
  assert.equal(statSync(daemon.socketPath).ino, ino);
  close(fd);
});

test("with a connected socket it serves that one front-end, then ends with status 0", async () => {
  const [near, far] = unixPair();
  await using daemon = await Vringd.start({ fd: near });
  close(near);
  const frontEnd = await FrontEnd.connect(far);
  await frontEnd.disk().write(0, Buffer.alloc(512, 1));
  assert.ok(!daemon.hasEnded);
  frontEnd.close();
  assert.equal(await daemon.end(), 0);
});

test("with a listening socket it serves all who connect", async () => {
  const path = `/tmp/daemon-test-${process.pid}.sock`;
  const listening = listenUnix(path);
  try {
    await using daemon = await Vringd.start({ fd: listening });
    close(listening);
    for (let i = 0; i < 2; i++) {
      await using frontEnd = await FrontEnd.connect(path);
      await frontEnd.disk().read(0, 1);
    }
    assert.equal(await daemon.stop(), 0);
    assert.ok(existsSync(path), "not ours to remove");
  } finally {
    rmSync(path);
  }
});

test("a front-end that leaves is logged with what was done for it alone", async () => {
  await using daemon = await Vringd.start();
  for (const count of [3, 5]) {
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    for (let i = 0; i < count; i++) await frontEnd.disk().write(i, Buffer.alloc(1024));
    await frontEnd.disk().flush();
  }
  const lines = await until(() => {
    const left = daemon.linesLike(/front-end left/);
    return left.length === 2 && left;
  }, "both have left");
  assert.match(lines[0]!, /reads=0 .*writes=3 .*writtenBytes=3072 .*flushes=1 .*failures=0/);
  assert.match(lines[1]!, /reads=0 .*writes=5 .*writtenBytes=5120 .*flushes=1 .*failures=0/);
});

test("a peer that sends rubbish is let go, and the next one served", async () => {
  await using daemon = await Vringd.start();
  await listening(daemon);
  const fd = connectUnix(daemon.socketPath);
  writeSync(fd, Buffer.alloc(64, 0xff));
  await daemon.waitForLog(/connection closed/);
  close(fd);
  await using frontEnd = await FrontEnd.connect(daemon.socketPath);
  await frontEnd.disk().read(0, 1);
});
