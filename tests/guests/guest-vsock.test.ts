// vringd-vsock with Linux' own driver: under QEMU's own front-end of three releases, and in user-mode-linux.
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { after, before, describe, type TestContext, test } from "node:test";
import { VSOCK_CID_HOST } from "../../assembly/spec/virtio-vsock.ts";
import { SocketSet } from "../../host/linux/socket-set.ts";
import { limitTests } from "../support/bounded-test.ts";
import { type GuestProcess, QEMUS, qemuUnavailable, umlUnavailable } from "../support/guest.ts";
import {
  ANSWER_MS,
  ask,
  bytesToMove,
  callGuest,
  LIMIT_MS,
  listenForGuest,
  listenInGuest,
  reachGuest,
  sayRandom,
  startVsock,
  startVsockQemu,
  startVsockUml,
  sumOf,
  udsOf,
} from "../support/guest-vsock.ts";
import { MessageProgram } from "../support/message-program.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { until } from "../support/until.ts";
import type { Vringd } from "../support/vringd.ts";

limitTests(LIMIT_MS);

/** 1 GiB is 1073741824. */
const BYTES = bytesToMove(8 << 20);
const CONNECTIONS = 200;
const PROGRAMS = ["socat"];
const AF_VSOCK = 40;
const SOCK_SEQPACKET = 5;

type Start = (daemon: Vringd) => GuestProcess | Promise<GuestProcess>;

/** Sums what it passes on, of any size. */
const SUMMED_BY_HOST = (port: number) =>
  `mkfifo copy; (sha256sum < copy | cut -c1-64 > sum) & head -c ${BYTES} /dev/urandom | tee copy | ` +
  `socat -u - VSOCK-CONNECT:2:${port}; wait; rm copy; cat sum`;

async function heardBy(socket: Socket, byteLength: number): Promise<string> {
  let heard = "";
  socket.on("data", (bytes) => {
    heard += bytes;
  });
  await until(
    () => heard.length >= byteLength || socket.readableEnded,
    "the host hears its answer",
    ANSWER_MS,
  );
  return heard;
}

/** One guest for all that it outlives. */
function testGuest(start: Start): void {
  let daemon: Vringd;
  let guest: GuestProcess;

  before(async () => {
    daemon = await startVsock({ args: ["--log-level=debug"] });
    guest = await start(daemon);
    await guest.waitForReport("READY", LIMIT_MS);
  });

  after(async () => {
    await using _daemon = daemon;
    await using _guest = guest;
    guest.send("end");
    const { ok, console } = await guest.exit();
    assert.ok(ok, console);
    assert.deepEqual(daemon.linesLike(/ (warn|error) /), []);
  });

  test(`carries ${BYTES / 2 ** 20} MiB from the guest to the host, and back`, async (t) => {
    using listener = await listenForGuest(daemon, 5000);
    const said = ask(guest, SUMMED_BY_HOST(5000));
    const [heard, sum] = await Promise.all([listener.next().then(sumOf), timed(t, "to the host", said)]);
    assert.deepEqual(heard, { sum, byteLength: BYTES });

    guest.send("socat -u VSOCK-LISTEN:1234 - | sha256sum | cut -c1-64 > heard && report HEARD $(cat heard)");
    const socket = await reachGuest(daemon, 1234);
    const hearing = timed(t, "to the guest", guest.waitForReport("HEARD", ANSWER_MS));
    const [spoken, heardByGuest] = await Promise.all([sayRandom(socket, BYTES), hearing]);
    assert.equal(heardByGuest, spoken);
  });

  test(`has ${CONNECTIONS} connections at once, and either side ends its own direction`, async () => {
    guest.send("socat VSOCK-LISTEN:1234,fork,backlog=300 PIPE &");
    (await reachGuest(daemon, 1234)).destroy();
    const sockets = await Promise.all(Array.from({ length: CONNECTIONS }, () => callGuest(daemon, 1234)));
    const words = sockets.map((_, i) => `this is number ${i}: ${"x".repeat(i * 50)}`);
    for (const [i, socket] of sockets.entries()) socket.write(words[i]!);
    for (const [i, socket] of sockets.entries())
      assert.equal(await heardBy(socket, words[i]!.length), words[i]);
    for (const socket of sockets) socket.destroy();

    const asked = await listenInGuest(guest, daemon, 1235, "socat VSOCK-LISTEN:1235,fork SYSTEM:sha256sum");
    const sum = await sayRandom(asked, 1 << 20);
    assert.equal((await heardBy(asked, 64)).slice(0, 64), sum);
  });

  test("resets whoever calls where nobody listens", async () => {
    await assert.rejects(callGuest(daemon, 4321), /nobody answers/);
    assert.match(await ask(guest, "socat - VSOCK-CONNECT:2:4321 2>&1 < /dev/null"), /reset/i);
  });

  test("keeps the ends of messages", async () => {
    using messages = listenForMessages(daemon, 6000);
    // It reads four bytes at a time, and sends what it has read.
    guest.send(`printf 'one\\ntwo\\nsix\\n' | socat -u -b 4 - ${toHost(6000)}`);
    const speaker = await messages.next();
    for (const word of ["one", "two", "six"])
      assert.equal(String(await speaker.hear(ANSWER_MS)), `${word}\n`);
    assert.equal(await speaker.hear(ANSWER_MS), undefined);

    guest.send(
      `socat -u -v -b 65536 ${toHost(6000)} - 2>&1 > /dev/null | sed -n 's/.*length=\\([0-9]*\\).*/\\1/p' > lengths; report LENGTHS "$(echo $(cat lengths))"`,
    );
    const listener = await messages.next();
    const lengths = [5, 4096, 1, 60_000, 3000];
    for (const length of lengths) await listener.said(Buffer.alloc(length, "x"));
    listener.close();
    assert.equal(await guest.waitForReport("LENGTHS", ANSWER_MS), lengths.join(" "));
  });

  test("goes on for all others where one program of the host never reads", async () => {
    using stuck = await listenForGuest(daemon, 5001);
    guest.send("socat -u /dev/zero VSOCK-CONNECT:2:5001 & stuck=$!");
    const silent = await stuck.next();
    using listener = await listenForGuest(daemon, 5000);
    const said = ask(
      guest,
      "head -c 8000000 /dev/urandom > r; socat -u FILE:r VSOCK-CONNECT:2:5000; sha256sum < r | cut -c1-64",
    );
    const [{ sum }, spoken] = await Promise.all([listener.next().then(sumOf), said]);
    assert.equal(sum, spoken);
    silent.destroy();
    // Its writer hears that nobody reads any more.
    guest.send("wait $stuck || :; report WRITER over");
    assert.equal(await guest.waitForReport("WRITER", ANSWER_MS), "over");
  });

  test("leaves nothing behind when it is killed", async () => {
    await using daemon = await startVsock();
    const descriptors = daemon.procEntries("fd").length;
    const guest = await start(daemon);
    await guest.waitForReport("READY", LIMIT_MS);
    const socket = await listenInGuest(guest, daemon, 1234, "socat VSOCK-LISTEN:1234 PIPE");
    guest.kill();
    socket.resume();
    await until(() => socket.readableEnded || socket.closed, "the host's end", ANSWER_MS);
    socket.destroy();
    await guest[Symbol.asyncDispose]();
    await until(() => daemon.procEntries("fd").length <= descriptors, "all is closed", ANSWER_MS);
  });
}

/** socat(1) has no name of its own for sockets of messages of this family: struct sockaddr_vm behind its family. */
function toHost(port: number): string {
  const address = Buffer.alloc(14);
  address.writeUInt32LE(port, 2);
  address.writeUInt32LE(VSOCK_CID_HOST, 6);
  return `SOCKET-CONNECT:${AF_VSOCK}:0:x${address.toString("hex")},type=${SOCK_SEQPACKET}`;
}

function listenForMessages(daemon: Vringd, port: number) {
  const set = new SocketSet();
  const listener = MessageProgram.listen(`${udsOf(daemon)}_${port}`);
  return {
    next: () => listener.next(set, ANSWER_MS),
    [Symbol.dispose]: () => {
      set.close();
      listener.close();
    },
  };
}

async function timed<T>(t: TestContext, what: string, work: Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await work;
  const seconds = (performance.now() - start) / 1000;
  t.diagnostic(`${(BYTES / 2 ** 20 / seconds).toFixed(1)} MiB/s ${what}`);
  return result;
}

const optionsOf = ({ socketPath, directory }: Vringd) => ({
  socketPath,
  directory,
  programs: PROGRAMS,
  timeoutMs: LIMIT_MS - 10_000,
});

for (const qemu of QEMUS) {
  const startQemu = (daemon: Vringd) => startVsockQemu(qemu, optionsOf(daemon));
  describe(`a guest of QEMU of ${qemu.owner}`, {
    skip: skipWithout(qemuUnavailable(qemu), whyNoProgram("socat")),
  }, () => {
    testGuest(startQemu);

    test("keeps its connections in a pause, and loses them with its memory", async () => {
      await using daemon = await startVsock();
      await using guest = await startQemu(daemon);
      await guest.waitForReport("READY", LIMIT_MS);
      const socket = await listenInGuest(guest, daemon, 1234, "socat VSOCK-LISTEN:1234 PIPE");
      for (let i = 0; i < 3; i++) {
        await guest.qmp("stop");
        socket.write("meanwhile");
        await guest.qmp("cont");
      }
      const heard = heardBy(socket, 27);
      assert.equal(await heard, "meanwhile".repeat(3));
      await guest.reset();
      await guest.waitForReport("READY", LIMIT_MS);
      await until(() => socket.readableEnded || socket.closed, "the host's end", ANSWER_MS);
      const next = await listenInGuest(guest, daemon, 1234, "socat VSOCK-LISTEN:1234 PIPE");
      next.end("hello");
      assert.equal(await heardBy(next, 5), "hello");
      guest.send("end");
      assert.ok((await guest.exit()).ok);
    });
  });
}

describe("a guest of user-mode-linux", { skip: skipWithout(umlUnavailable(), whyNoProgram("socat")) }, () => {
  testGuest((daemon) => startVsockUml(optionsOf(daemon)));
});
