// What vringd-rng reads from, as a sceptic would have it: sources that hang, end, have nothing or can't be read; and the traps of
// small rings, bits set unasked, and a process that dies.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  appendFileSync,
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { VIRTIO_F_RING_EVENT_IDX, VIRTIO_F_VERSION_1 } from "../../assembly/spec/virtqueue.ts";
import type { FrontEndOptions } from "../../host/front-end/front-end.ts";
import { ByteSource } from "../../host/linux/byte-source.ts";
import { featureMask } from "../../host/protocol/feature-bits.ts";
import * as m from "../../host/protocol/messages.ts";
import { ChainDriver, connectDevice } from "../support/chain-driver.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { whyNoFuse } from "../support/fuse.ts";
import { RNG_PROGRAM, startRng } from "../support/rng.ts";
import { skipWithout } from "../support/skip.ts";
import { until } from "../support/until.ts";
import type { Vringd } from "../support/vringd.ts";

const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
after(() => rmSync(directory, { recursive: true }));

const NOBODY = 65534;

async function drive(daemon: Vringd, options: FrontEndOptions & { bits?: readonly number[] } = {}) {
  const frontEnd = await connectDevice(daemon.socketPath, { queueSize: 16, ...options });
  return { frontEnd, requests: new ChainDriver(frontEnd, 0) };
}

function makePipe(name: string): string {
  const path = join(directory, name);
  if (!existsSync(path)) assert.equal(spawnSync("mkfifo", ["-m", "644", path]).status, 0);
  return path;
}

/** Root may do what others may not. */
function asNobody<T>(act: () => T): T {
  if (process.geteuid!() !== 0) return act();
  process.seteuid!(NOBODY);
  try {
    return act();
  } finally {
    process.seteuid!(0);
  }
}

function startFails(source: string): string {
  const [program, ...args] = [...RNG_PROGRAM, `--source=${source}`, `--socket-path=${join(directory, "s")}`];
  const { status, stdout, stderr } = spawnSync(program!, args, { encoding: "utf8", timeout: 60_000 });
  assert.deepEqual([status, stdout], [1, ""]);
  assert.match(stderr, /^vringd-rng: [^\n]*\n$/);
  return stderr;
}

describe("a source that does not answer", { skip: skipWithout(whyNoFuse()) }, () => {
  test("holds up neither the front-end nor a ring that stops, and nothing of it is lost", async () => {
    using storage = new FaultyDisk(1 << 20);
    storage.bytes.set(randomBytes(4096));
    storage.fault = () => "hold";
    await using daemon = await startRng(storage.path);
    const { frontEnd, requests } = await drive(daemon);
    const first = requests.post([], [64]);
    await until(() => storage.held.length > 0, "the source is asked");
    await frontEnd.getFeatures();
    const base = await frontEnd.stopQueue(0);
    assert.equal(requests.outstanding, 1);
    storage.release();
    await frontEnd.startQueue(0, base);
    assert.deepEqual((await requests.used(first)).bytes, storage.bytes.subarray(0, 64));
    assert.deepEqual(await requests.exchange([], [1000]), storage.bytes.subarray(64, 1064));
    frontEnd.close();
  });

  test("does not keep the program from its end", async () => {
    using storage = new FaultyDisk(1 << 20);
    storage.fault = () => "hold";
    await using daemon = await startRng(storage.path);
    const { frontEnd, requests } = await drive(daemon);
    requests.post([], [64]);
    await until(() => storage.held.length > 0, "the source is asked");
    const stopping = daemon.stop();
    // FUSE keeps the thread that reads; all else of the process has ended.
    await until(() => / Z /.test(daemon.proc("stat")), "the main thread has ended");
    storage.release();
    assert.equal(await stopping, 0);
    assert.deepEqual(daemon.linesLike(/stuck|error/), []);
    frontEnd.close();
  });

  test("that fails is asked again, and its driver gets no empty answer", async () => {
    using storage = new FaultyDisk(1 << 20);
    storage.bytes.set(randomBytes(64));
    storage.fault = () => ({ errno: 5 });
    await using daemon = await startRng(storage.path);
    const { frontEnd, requests } = await drive(daemon);
    const posted = requests.post([], [64]);
    await daemon.waitForLog(/ warn .*requests wait .*i\/o error/);
    assert.equal(requests.outstanding, 1);
    storage.fault = () => undefined;
    assert.deepEqual((await requests.used(posted)).bytes, storage.bytes.subarray(0, 64));
    frontEnd.close();
  });
});

test("what was read for a request that is given up goes to the next ones, and that alone", async () => {
  const path = join(directory, "file");
  const contents = randomBytes(5000);
  writeFileSync(path, contents);
  const source = ByteSource.open(path);
  const never = new AbortController().signal;
  const read: Uint8Array[] = [];
  while (Buffer.concat(read).length < contents.length) {
    const givenUp = new AbortController();
    const asked = source.some(700, givenUp.signal, assert.fail);
    givenUp.abort();
    await assert.rejects(asked, { name: "AbortError" });
    read.push(await source.some(300, never, assert.fail));
  }
  assert.deepEqual(Buffer.concat(read), contents);
  source.close();
});

test("a pipe with nothing in it makes its request wait, through stops; writers come and go", async () => {
  const path = makePipe("pipe");
  await using daemon = await startRng(path);
  const { frontEnd, requests } = await drive(daemon);
  const posted = requests.post([], [64]);
  for (let i = 0; i < 5; i++) {
    const base = await frontEnd.stopQueue(0);
    assert.equal(requests.outstanding, 1);
    await frontEnd.startQueue(0, base);
    await sleep(10);
  }
  writeFileSync(path, "first");
  assert.equal(String((await requests.used(posted)).bytes), "first");
  const another = requests.post([], [64]);
  writeFileSync(path, "second");
  assert.equal(String((await requests.used(another)).bytes), "second");
  assert.deepEqual(daemon.linesLike(/warn|error/), []);
  assert.equal(await daemon.stop(), 0);
  frontEnd.close();
});

test("a pipe that one may only read is read, and goes on with its next writer", async () => {
  const path = makePipe("pipe of another");
  if (process.geteuid!() === 0) assert.equal(spawnSync("chmod", ["755", directory]).status, 0);
  const source = asNobody(() => ByteSource.open(path));
  const never = new AbortController().signal;
  const reasons: string[] = [];
  const tell = (reason: string) => void reasons.push(reason);
  for (const text of ["first", "second"]) {
    const asked = source.some(64, never, tell);
    const writer = openSync(path, constants.O_RDWR);
    writeSync(writer, text);
    assert.equal(Buffer.from(await asked).toString(), text);
    closeSync(writer);
  }
  source.close();
  assert.ok(
    reasons.every((reason) => reason === "it has ended"),
    String(reasons),
  );
});

test("a source that ends is told of, once each time", async () => {
  const path = join(directory, "growing");
  writeFileSync(path, "short");
  await using daemon = await startRng(path);
  const { frontEnd, requests } = await drive(daemon);
  const dry = () => daemon.linesLike(/ warn .*no more random bytes: requests wait .*it has ended/).length;
  assert.equal(String(await requests.exchange([], [64])), "short");
  for (const times of [1, 2]) {
    const posted = requests.post([], [64]);
    await until(() => dry() === times, "it is told");
    appendFileSync(path, "more");
    assert.equal(String((await requests.used(posted)).bytes), "more");
    assert.equal(dry(), times);
  }
  frontEnd.close();
});

test("the kernel's own devices are sources", async () => {
  for (const source of ["/dev/random", "/dev/urandom", undefined]) {
    await using daemon = await startRng(source);
    const { frontEnd, requests } = await drive(daemon);
    const [one, other] = [await requests.exchange([], [64]), await requests.exchange([], [64])];
    assert.equal(one.length + other.length, 128);
    assert.notDeepEqual(one, other);
    frontEnd.close();
  }
});

test("what can't be read is told at the start, in a sentence", async () => {
  assert.match(startFails(directory), /it is a directory; give a file, a pipe or a device/);
  assert.match(startFails(join(directory, "absent")), /no such file or directory/);
  const secret = join(directory, "secret");
  writeFileSync(secret, "", { mode: 0 });
  assert.throws(() => asNobody(() => ByteSource.open(secret)), /can't read from .*secret: permission denied/);
  const socket = createServer().listen(join(directory, "socket"));
  await until(() => socket.listening, "it listens");
  assert.match(startFails(join(directory, "socket")), /no such device or address/);
  socket.close();
});

/** Bits of rings that QEMU 7.2 sets, whatever a back-end has offered. */
const SET_UNASKED = featureMask([
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_VERSION_1,
  m.VHOST_USER_F_PROTOCOL_FEATURES,
]);

test("a ring of 4 entries, as QEMU 7.2 has it with EVENT_IDX, is served in order and to the last byte", async () => {
  const path = join(directory, "for a small ring");
  const contents = randomBytes(64 * 200);
  writeFileSync(path, contents);
  await using daemon = await startRng(path);
  const { frontEnd, requests } = await drive(daemon, { queueSize: 4, features: SET_UNASKED });
  const read: Buffer[] = [];
  for (let i = 0; i < 50; i++) {
    const four = [1, 2, 3, 4].map(() => requests.post([], [64]));
    for (const posted of four) read.push((await requests.used(posted)).bytes);
  }
  assert.deepEqual(Buffer.concat(read), contents);
  frontEnd.close();
});

test("a chain of more buffers than a ring of 4 entries has is filled", async () => {
  await using daemon = await startRng("/dev/urandom");
  const { frontEnd, requests } = await drive(daemon, { queueSize: 4 });
  const room = [1, 64, 4096, 3, 128, 100];
  const posted = requests.post([], room, { indirect: true });
  assert.equal(
    (await requests.used(posted)).bytes.length,
    room.reduce((a, b) => a + b),
  );
  frontEnd.close();
});

test("neither config space nor inflight region is offered: front-ends warn of one, and can't use the other", async () => {
  await using daemon = await startRng();
  const { frontEnd } = await drive(daemon);
  for (const bit of [m.VHOST_USER_PROTOCOL_F_CONFIG, m.VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD])
    assert.equal((frontEnd.offeredProtocolFeatures! >> BigInt(bit)) & 1n, 0n);
  frontEnd.close();
});

test("a process that is killed leaves its requests to the next one", async () => {
  const path = makePipe("pipe of the killed");
  await using daemon = await startRng(path);
  const { frontEnd, requests } = await drive(daemon);
  const waiting = Array.from({ length: 5 }, () => requests.post([], [64]));
  writeFileSync(path, "one");
  assert.equal(String((await requests.used(waiting[0]!)).bytes), "one");
  await daemon.kill9();
  await daemon.restart();
  await frontEnd.reconnect(daemon.socketPath);
  for (const [i, posted] of waiting.slice(1).entries()) {
    writeFileSync(path, `after ${i}`);
    assert.equal(String((await requests.used(posted)).bytes), `after ${i}`);
  }
  assert.equal(requests.outstanding, 0);
  frontEnd.close();
});
