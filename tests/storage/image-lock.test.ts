// Image locks, between ourselves and with QEMU's tools holding the image or wanting it.
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { StartError } from "../../host/errors.ts";
import { close } from "../../host/linux/libc.ts";
import { send, unixPair } from "../../host/linux/unix-socket.ts";
import type { Log } from "../../host/process/log.ts";
import { lockImage } from "../../host/storage/file/lock.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { Vringd } from "../support/vringd.ts";

const directory = mkdtempSync(join(tmpdir(), "image-lock-"));
const image = join(directory, "disk.img");
writeFileSync(image, "");
truncateSync(image, 1 << 20);
after(() => rmSync(directory, { recursive: true }));

const NEVER = new AbortController().signal;
/** Longer than the tests may take. */
const FOR_EVER_MS = 3_600_000;

interface Wait {
  timeoutMs?: number;
  stopping?: AbortSignal;
  /** Where log lines go. */
  lines?: string[];
}

/** Open files of the image, closed, and so unlocked, at the end of a test. */
class Opened {
  readonly fds: number[];

  constructor(count = 1, flags = constants.O_RDWR) {
    this.fds = Array.from({ length: count }, () => openSync(image, flags));
  }

  lock(isReader: boolean, { timeoutMs = 0, stopping = NEVER, lines = [] }: Wait = {}): Promise<void> {
    const log = { info: (fields: object, text: string) => lines.push(`${text} ${JSON.stringify(fields)}`) };
    return lockImage(this.fds, image, isReader, { timeoutMs, stopping }, log as unknown as Log);
  }

  [Symbol.dispose](): void {
    this.fds.splice(0).forEach(closeSync);
  }
}

const reader = true;
const writer = false;

/**
 * The open files of a process that has gone, kept by the kernel: descriptors on their way through a socket, which no
 * process has. What a killed process left in flight looks just like this.
 */
class LeftBehind {
  private readonly sockets = unixPair();

  static async lock(path = image): Promise<LeftBehind> {
    const left = new LeftBehind();
    const fd = openSync(path, constants.O_RDWR);
    const log = { info: () => {} } as unknown as Log;
    await lockImage([fd], path, writer, { timeoutMs: 0, stopping: NEVER }, log);
    send(left.sockets[0], Buffer.alloc(1), [fd]);
    closeSync(fd);
    return left;
  }

  [Symbol.dispose](): void {
    this.sockets.splice(0).forEach(close);
  }
}

test("a second writer is refused", async () => {
  using first = new Opened();
  using second = new Opened();
  await first.lock(writer);
  await assert.rejects(second.lock(writer), StartError);
});

test("readers share an image", async () => {
  using first = new Opened(1, constants.O_RDONLY);
  using second = new Opened(1, constants.O_RDONLY);
  await first.lock(reader);
  await second.lock(reader);
});

test("a reader keeps a writer away, and a writer a reader", async () => {
  using one = new Opened();
  using other = new Opened();
  await one.lock(reader);
  await assert.rejects(other.lock(writer), StartError);
  one[Symbol.dispose]();
  await other.lock(writer);
  using third = new Opened();
  await assert.rejects(third.lock(reader), StartError);
});

test("a predecessor that is just ending is waited for", async () => {
  using first = new Opened();
  using second = new Opened();
  await first.lock(writer);
  setTimeout(() => first[Symbol.dispose](), 200);
  await second.lock(writer);
});

test("a file that is open twice is locked twice, and either keeps others away", async () => {
  using both = new Opened(2);
  using other = new Opened();
  await both.lock(writer);
  closeSync(both.fds.shift()!);
  await assert.rejects(other.lock(writer), StartError);
});

test("nothing stays locked after a refusal", async () => {
  using first = new Opened();
  using refused = new Opened(2);
  using third = new Opened();
  await first.lock(writer);
  await assert.rejects(refused.lock(writer));
  first[Symbol.dispose]();
  await third.lock(writer);
});

test("I/O of a killed process is waited for, which one line of the log tells", async () => {
  using left = await LeftBehind.lock();
  using opened = new Opened();
  const lines: string[] = [];
  let hasEnded = false;
  setTimeout(() => {
    hasEnded = true;
    left[Symbol.dispose]();
  }, 2000);
  await opened.lock(writer, { timeoutMs: FOR_EVER_MS, lines });
  assert.ok(hasEnded);
  const text = "waiting for the I/O of a killed process, which still locks the image";
  assert.deepEqual(lines, [`${text} {"file":"${image}","forSeconds":${FOR_EVER_MS / 1000}}`]);
});

test("it is not waited for any longer than asked, and the refusal says why", async () => {
  using _left = await LeftBehind.lock();
  using opened = new Opened();
  const startMs = performance.now();
  await assert.rejects(opened.lock(writer, { timeoutMs: 1500 }), {
    name: "StartError",
    message:
      `${image} is locked by no process that can be seen from here: I/O of a killed one may take longer than the ` +
      "1.5 s of lockTimeoutMs",
  });
  const tookMs = performance.now() - startMs;
  // That it ends is the upper bound.
  assert.ok(tookMs > 1500, `${tookMs} ms`);
});

test("a signal ends the wait", async () => {
  using _left = await LeftBehind.lock();
  using opened = new Opened();
  const stopping = AbortSignal.timeout(1000);
  await assert.rejects(opened.lock(writer, { timeoutMs: FOR_EVER_MS, stopping }), { name: "AbortError" });
});

describe("the daemon", () => {
  const args = [`--blk-file=${image}`];

  test("is ready once the I/O of its killed predecessor has ended", async () => {
    await using daemon = await Vringd.start({ args });
    await daemon.stop();
    using left = await LeftBehind.lock();
    const restarted = daemon.restart();
    await daemon.waitForLog(/waiting for the I\/O/);
    left[Symbol.dispose]();
    await restarted;
    assert.equal(daemon.linesLike(/waiting for the I\/O/).length, 1);
  });

  test("is refused when that takes longer than --lock-timeout", async () => {
    using _left = await LeftBehind.lock();
    await assert.rejects(Vringd.start({ args: [...args, "--lock-timeout=1"] }), {
      message: /ended with 1: .*longer than the 1 s of --lock-timeout/s,
    });
  });

  test("ends with status 0 at a signal while it waits", async () => {
    await using daemon = await Vringd.start({ args });
    await daemon.stop();
    using _left = await LeftBehind.lock();
    const restarted = daemon.restart().catch((error: Error) => error.message);
    await daemon.waitForLog(/waiting for the I\/O/);
    assert.equal(await daemon.stop(), 0);
    assert.match(String(await restarted), /ended with 0/);
  });

  test("is refused within a second of a living holder's", async () => {
    await using first = await Vringd.start({ args });
    const second = Vringd.start({ args });
    await assert.rejects(second, {
      message: new RegExp(`in use by vringd-blk .* \\(process ${first.pid}\\)`),
    });
  });

  test("wins alone when two start at once", async () => {
    for (let i = 0; i < 3; i++) {
      const starts = await Promise.allSettled([Vringd.start({ args }), Vringd.start({ args })]);
      const winners = starts.filter((start) => start.status === "fulfilled");
      for (const { value } of winners) await value[Symbol.asyncDispose]();
      assert.equal(winners.length, 1);
      const loser = starts.find((start) => start.status === "rejected");
      assert.match(String(loser?.reason), /is in use by vringd-blk .* \(process \d+\)/);
    }
  });

  test("wins alone when two wait for the I/O of a killed one", async () => {
    using left = await LeftBehind.lock();
    const starts = Promise.allSettled([Vringd.start({ args }), Vringd.start({ args })]);
    setTimeout(() => left[Symbol.dispose](), 2000);
    const winners = (await starts).filter((start) => start.status === "fulfilled");
    for (const { value } of winners) await value[Symbol.asyncDispose]();
    assert.equal(winners.length, 1);
  });
});

describe("with QEMU", { skip: skipWithout(whyNoProgram("qemu-io")) }, () => {
  let holder: ChildProcess;

  before(async () => {
    holder = spawn("qemu-io", ["-f", "raw", image], { stdio: ["pipe", "pipe", "inherit"] });
    // The prompt comes once the image is open.
    await once(holder.stdout!, "data");
  });

  after(async () => {
    holder.stdin!.end("quit\n");
    if (holder.exitCode === null) await once(holder, "exit");
  });

  test("an image that QEMU writes is refused, with the file's name and the holder's", async () => {
    using opened = new Opened();
    await assert.rejects(opened.lock(writer), {
      name: "StartError",
      message: `${image} is in use by qemu-io (process ${holder.pid}); end that first`,
    });
    await assert.rejects(opened.lock(reader), StartError);
  });

  test("QEMU refuses an image that we write or read", async () => {
    holder.stdin!.end("quit\n");
    await once(holder, "exit");
    for (const role of [writer, reader]) {
      using opened = new Opened();
      await opened.lock(role);
      const { status, stderr } = spawnSync("qemu-io", ["-f", "raw", "-c", "write 0 512", image]);
      assert.notEqual(status, 0);
      assert.match(String(stderr), /Failed to get "write" lock/);
    }
  });

  test("QEMU reads an image that we read", async () => {
    using opened = new Opened(1, constants.O_RDONLY);
    await opened.lock(reader);
    const { status } = spawnSync("qemu-io", ["-r", "-f", "raw", "-c", "read 0 512", image]);
    assert.equal(status, 0);
  });
});
