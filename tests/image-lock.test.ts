// Image locks, between ourselves and with QEMU's tools holding the image or wanting it.
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { lockImage } from "../host/device/image-lock.ts";
import { StartError } from "../host/errors.ts";

const directory = mkdtempSync(join(tmpdir(), "image-lock-"));
const image = join(directory, "disk.img");
writeFileSync(image, "");
truncateSync(image, 1 << 20);
after(() => rmSync(directory, { recursive: true }));

/** Open files of the image, closed, and so unlocked, at the end of a test. */
class Opened {
  readonly fds: number[];

  constructor(count = 1, flags = constants.O_RDWR) {
    this.fds = Array.from({ length: count }, () => openSync(image, flags));
  }

  lock(isReader: boolean): Promise<void> {
    return lockImage(this.fds, image, isReader);
  }

  [Symbol.dispose](): void {
    this.fds.splice(0).forEach(closeSync);
  }
}

const reader = true;
const writer = false;

test("a second writer is refused within a second", async () => {
  using first = new Opened();
  using second = new Opened();
  await first.lock(writer);
  const startMs = performance.now();
  await assert.rejects(second.lock(writer), StartError);
  assert.ok(performance.now() - startMs < 1000);
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

const hasQemu = spawnSync("qemu-io", ["--version"]).status === 0;

describe("with QEMU", { skip: hasQemu ? false : "qemu-io is not installed" }, () => {
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
      message: `${image} is in use by qemu-io (process ${holder.pid}); it can be served when that has ended`,
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
