// Host sides of streams: each way to come there, who comes second, who goes, and who does not read.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  constants,
  lstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { StartError } from "../../host/errors.ts";
import type { HostSide } from "../../host/streams/host-side.ts";
import { openHostSide, openHostSides } from "../../host/streams/open.ts";
import { parseTarget } from "../../host/streams/target.ts";
import { until } from "../support/until.ts";

const MORE_THAN_FITS = 8 << 20;

function directoryFor(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "vringd-host-side-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A side until the test has ended, and all that came to it. */
async function sideAt(t: TestContext, target: string) {
  const side = await openHostSide(parseTarget(target)!);
  const received: Buffer[] = [];
  side.onInput = () => {
    while (side.hasInput) received.push(side.read(1000));
  };
  let isOpen = true;
  const close = async () => {
    if (isOpen) await side.close();
    isOpen = false;
  };
  t.after(close);
  return { side, received: () => Buffer.concat(received).toString(), close };
}

/** Its bytes go there once there is room. */
async function give(side: HostSide, bytes: Uint8Array): Promise<void> {
  side.write(bytes);
  await side.room();
}

/** Both ends of a connection, as of a terminal that is attached. */
async function connectionIn(directory: string): Promise<{ here: Socket; there: Socket }> {
  const server = createServer({ allowHalfOpen: true }).listen(join(directory, "terminal"));
  await once(server, "listening");
  const there = connect(join(directory, "terminal"));
  const [here] = (await once(server, "connection")) as [Socket];
  server.close();
  there.on("error", () => {});
  return { here, there };
}

describe("targets", () => {
  for (const text of [
    "unix:/run/a",
    "pty:/run/link",
    "file:/a:b",
    "tcp:127.0.0.1:80",
    "tcp:127.1.2.3:0",
    "stdio",
    "none",
  ]) {
    test(`${text} is one`, () => assert.ok(parseTarget(text)));
  }
  for (const text of [
    "",
    "unix:",
    "unix",
    "stdio:x",
    "none:x",
    "tcp:80",
    "tcp:0.0.0.0:80",
    "tcp:10.0.0.1:80",
    "tcp:127.0.0.1:65536",
    "fifo:/a",
    "tcp:localhost:1",
  ]) {
    test(`"${text}" is none`, () => assert.equal(parseTarget(text), undefined));
  }
});

test("a Unix socket is the owner's alone, takes one peer at a time, and is free for the next when that has gone", async (t) => {
  const path = join(directoryFor(t), "socket");
  const { side, received } = await sideAt(t, `unix:${path}`);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const first = connect(path);
  first.write("hello");
  await until(() => received() === "hello", "the first is heard");
  const second = connect(path);
  second.on("error", () => {});
  await once(second, "close");
  assert.ok(side.isTaken);
  const read = once(first, "data");
  await give(side, Buffer.from("answer"));
  assert.equal(String((await read)[0]), "answer");
  first.destroy();
  await until(() => !side.isTaken, "the first has gone");
  const third = connect(path);
  third.write("again");
  await until(() => received() === "helloagain", "the third is heard");
  third.destroy();
});

test("a socket's file goes with the way", async (t) => {
  const path = join(directoryFor(t), "socket");
  await (await openHostSide({ kind: "unix", where: path })).close();
  assert.equal(lstatSync(path, { throwIfNoEntry: false }), undefined);
});

test("who does not read is waited for, until there is room, they go, or the wait is ended", async (t) => {
  const path = join(directoryFor(t), "socket");
  const { side } = await sideAt(t, `unix:${path}`);
  const slow = connect(path);
  slow.on("error", () => {});
  await until(() => side.isTaken, "somebody is there");
  let isDone = false;
  const much = give(side, Buffer.alloc(MORE_THAN_FITS)).then(() => (isDone = true));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(isDone, false);
  slow.resume();
  await much;
  slow.pause();
  const again = give(side, Buffer.alloc(MORE_THAN_FITS));
  side.endWaits();
  await again;
  const last = give(side, Buffer.alloc(MORE_THAN_FITS));
  slow.destroy();
  await last;
  await give(side, Buffer.alloc(MORE_THAN_FITS));
});

test("a loopback port is one way, too", async (t) => {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as { port: number };
  probe.close();
  const { received } = await sideAt(t, `tcp:127.0.0.1:${port}`);
  const peer = connect(port, "127.0.0.1");
  peer.end("over tcp");
  await until(() => received() === "over tcp", "it is heard");
});

test("a file gets what is written behind what it has", async (t) => {
  const path = join(directoryFor(t), "log");
  writeFileSync(path, "before ");
  const { side } = await sideAt(t, `file:${path}`);
  await give(side, Buffer.from("after"));
  await until(() => readFileSync(path, "utf8") === "before after", "it is there");
});

test("a pseudo-terminal is raw, and free again when nobody has it open", async (t) => {
  const link = join(directoryFor(t), "link");
  const { side, received, close } = await sideAt(t, `pty:${link}`);
  assert.match(readlinkSync(link), /^\/dev\/pts\/\d+$/);
  await give(side, Buffer.alloc(MORE_THAN_FITS));
  for (const word of ["one", "two"]) {
    const fd = openSync(link, constants.O_RDWR | constants.O_NOCTTY);
    await until(() => side.isTaken, "it is open");
    writeSync(fd, `${word}\n\x03`);
    await until(() => received().endsWith(`${word}\n\x03`), "bytes come as they are");
    await give(side, Buffer.from("\r\nanswer\n"));
    const bytes = Buffer.alloc(64);
    assert.equal(bytes.toString("utf8", 0, readSync(fd, bytes)), "\r\nanswer\n");
    closeSync(fd);
    await until(() => !side.isTaken, "it is closed");
  }
  await close();
  assert.equal(lstatSync(link, { throwIfNoEntry: false }), undefined);
});

test("a pseudo-terminal's window is followed", async (t) => {
  const link = join(directoryFor(t), "link");
  const { side } = await sideAt(t, `pty:${link}`);
  const holder = spawn("sh", ["-c", `exec 3<>${link}; stty -F ${link} rows 33 cols 101; sleep 60`], {
    stdio: "ignore",
  });
  t.after(() => holder.kill());
  await until(() => side.size?.cols === 101 && side.size.rows === 33, "the size is told");
});

test("a pseudo-terminal that nobody reads is waited for until it is closed", async (t) => {
  const link = join(directoryFor(t), "link");
  const { side } = await sideAt(t, `pty:${link}`);
  const fd = openSync(link, constants.O_RDWR | constants.O_NOCTTY);
  await until(() => side.isTaken, "it is open");
  const much = give(side, Buffer.alloc(MORE_THAN_FITS));
  closeSync(fd);
  await much;
});

test("what is somebody else's is left alone, and the sentence says where", async (t) => {
  const path = join(directoryFor(t), "mine");
  writeFileSync(path, "mine");
  for (const kind of ["pty", "unix"] as const) {
    await assert.rejects(openHostSide({ kind, where: path }), (error) => {
      return error instanceof StartError && error.message.includes(path);
    });
  }
  assert.equal(readFileSync(path, "utf8"), "mine");
});

test("of several sides all are open, or none", async (t) => {
  const directory = directoryFor(t);
  writeFileSync(join(directory, "mine"), "mine");
  const targets = ["unix:a", "unix:mine"].map((name) => parseTarget(name.replace(":", `:${directory}/`))!);
  await assert.rejects(openHostSides(targets), StartError);
  assert.equal(lstatSync(join(directory, "a"), { throwIfNoEntry: false }), undefined);
});

test("a file has all that was written before its side was closed", async (t) => {
  const path = join(directoryFor(t), "log");
  const { side, close } = await sideAt(t, `file:${path}`);
  side.write(Buffer.alloc(MORE_THAN_FITS, "x"));
  side.write(Buffer.from("last words"));
  await close();
  assert.equal(readFileSync(path, "latin1").slice(-12), "xxlast words");
  assert.equal(statSync(path).size, MORE_THAN_FITS + 10);
});

test("a terminal is attached beside the way's peer: each sends, and both are sent the same", async (t) => {
  const directory = directoryFor(t);
  const path = join(directory, "log");
  const { side, received } = await sideAt(t, `file:${path}`);
  assert.equal(side.isAttached, false);
  const { here, there } = await connectionIn(directory);
  side.attach(here);
  assert.equal(side.isAttached, true);
  there.write("typed");
  await until(() => received() === "typed", "it is heard");
  const read = once(there, "data");
  await give(side, Buffer.from("answer"));
  assert.equal(String((await read)[0]), "answer");
  await until(() => readFileSync(path, "utf8") === "answer", "the file has it, too");
  there.destroy();
  await until(() => !side.isAttached, "the terminal has gone");
  await give(side, Buffer.from(" more"));
  await until(() => readFileSync(path, "utf8") === "answer more", "the file goes on");
});

test("whoever of the two has no room is waited for", async (t) => {
  const directory = directoryFor(t);
  const { side } = await sideAt(t, `file:${join(directory, "log")}`);
  const { here, there } = await connectionIn(directory);
  side.attach(here);
  side.write(Buffer.alloc(MORE_THAN_FITS));
  let isThere = false;
  const room = side.room().then(() => {
    isThere = true;
  });
  await until(() => statSync(join(directory, "log")).size === MORE_THAN_FITS, "the file has it");
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual([isThere, side.hasRoom], [false, false]);
  there.resume();
  await room;
});

test("a second terminal is sent away, and one that is detached leaves its place", async (t) => {
  const directory = directoryFor(t);
  const { side } = await sideAt(t, "none");
  const first = await connectionIn(directory);
  side.attach(first.here);
  const second = await connectionIn(directory);
  side.attach(second.here);
  await once(second.there.resume(), "close");
  side.detach();
  await once(first.there.resume(), "close");
  await until(() => !side.isTaken, "nobody is there");
  const third = await connectionIn(directory);
  side.attach(third.here);
  assert.ok(side.isAttached);
  third.there.destroy();
});

test("a terminal that has ended its input is let go once that was read, and no earlier", async (t) => {
  const { side, received } = await sideAt(t, "none");
  const take = side.onInput;
  side.onInput = () => {};
  const { here, there } = await connectionIn(directoryFor(t));
  side.attach(here);
  there.end("the last of it");
  await until(() => side.hasInput, "it has come");
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(side.isAttached);
  take();
  await once(there.resume(), "close");
  assert.equal(received(), "the last of it");
  await until(() => !side.isAttached, "it was let go");
});
