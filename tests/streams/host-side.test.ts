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
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { StartError } from "../../host/errors.ts";
import { HostSide } from "../../host/streams/host-side.ts";
import { openWay } from "../../host/streams/open.ts";
import { parseTarget } from "../../host/streams/target.ts";
import { until } from "../support/until.ts";

const MORE_THAN_FITS = 8 << 20;

function directoryFor(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "vringd-host-side-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A side that a way leads to until the test has ended, and all that came from there. */
async function sideAt(t: TestContext, target: string) {
  const side = new HostSide();
  const received: Buffer[] = [];
  side.onInput = () => {
    for (let bytes = side.read(); bytes.length > 0; bytes = side.read()) received.push(bytes);
  };
  const end = await openWay(parseTarget(target)!, side);
  let isOpen = true;
  const close = () => {
    if (isOpen) end();
    isOpen = false;
    side.close();
  };
  t.after(close);
  return { side, received: () => Buffer.concat(received).toString(), close };
}

describe("targets", () => {
  for (const text of [
    "unix:/run/a",
    "pty:/run/link",
    "file:/a:b",
    "tcp:127.0.0.1:80",
    "tcp:127.1.2.3:0",
    "stdio",
  ]) {
    test(`${text} is one`, () => assert.ok(parseTarget(text)));
  }
  for (const text of [
    "",
    "unix:",
    "unix",
    "stdio:x",
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
  await side.write(Buffer.from("answer"));
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
  const side = new HostSide();
  (await openWay({ kind: "unix", where: path }, side))();
  assert.equal(lstatSync(path, { throwIfNoEntry: false }), undefined);
});

test("who does not read is waited for, until there is room, they go, or the wait is ended", async (t) => {
  const path = join(directoryFor(t), "socket");
  const { side } = await sideAt(t, `unix:${path}`);
  const slow = connect(path);
  slow.on("error", () => {});
  await until(() => side.isTaken, "somebody is there");
  let isDone = false;
  const much = side.write(Buffer.alloc(MORE_THAN_FITS)).then(() => (isDone = true));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(isDone, false);
  slow.resume();
  await much;
  slow.pause();
  const again = side.write(Buffer.alloc(MORE_THAN_FITS));
  side.endWaits();
  await again;
  const last = side.write(Buffer.alloc(MORE_THAN_FITS));
  slow.destroy();
  await last;
  await side.write(Buffer.alloc(MORE_THAN_FITS));
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
  await side.write(Buffer.from("after"));
  await until(() => readFileSync(path, "utf8") === "before after", "it is there");
});

test("a pseudo-terminal is raw, and free again when nobody has it open", async (t) => {
  const link = join(directoryFor(t), "link");
  const { side, received, close } = await sideAt(t, `pty:${link}`);
  assert.match(readlinkSync(link), /^\/dev\/pts\/\d+$/);
  await side.write(Buffer.alloc(MORE_THAN_FITS));
  for (const word of ["one", "two"]) {
    const fd = openSync(link, constants.O_RDWR | constants.O_NOCTTY);
    await until(() => side.isTaken, "it is open");
    writeSync(fd, `${word}\n\x03`);
    await until(() => received().endsWith(`${word}\n\x03`), "bytes come as they are");
    await side.write(Buffer.from("\r\nanswer\n"));
    const bytes = Buffer.alloc(64);
    assert.equal(bytes.toString("utf8", 0, readSync(fd, bytes)), "\r\nanswer\n");
    closeSync(fd);
    await until(() => !side.isTaken, "it is closed");
  }
  close();
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
  const much = side.write(Buffer.alloc(MORE_THAN_FITS));
  closeSync(fd);
  await much;
});

test("what is somebody else's is left alone, and the sentence says where", async (t) => {
  const path = join(directoryFor(t), "mine");
  writeFileSync(path, "mine");
  for (const kind of ["pty", "unix"] as const) {
    await assert.rejects(openWay({ kind, where: path }, new HostSide()), (error) => {
      return error instanceof StartError && error.message.includes(path);
    });
  }
  assert.equal(readFileSync(path, "utf8"), "mine");
});
