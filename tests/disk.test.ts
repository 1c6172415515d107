// Opening and measuring what lies behind the disk: files, and a loop device where there can be one.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Disk, type DiskOptions } from "../host/device/disk.ts";
import { createLog } from "../host/log.ts";
import { whyNoDirect, whyNoLoopDevices } from "./support/machine.ts";
import { skipWithout } from "./support/skip.ts";

const directory = mkdtempSync(join(tmpdir(), "disk-"));
after(() => rmSync(directory, { recursive: true }));
const log = await createLog("error", "text");

function makeFile(name: string, byteLength: number): string {
  const path = join(directory, name);
  writeFileSync(path, "");
  truncateSync(path, byteLength);
  return path;
}

async function open(path: string, changes: Partial<DiskOptions> = {}): Promise<Disk> {
  const defaults = {
    readOnly: false,
    direct: false,
    discard: "unmap",
    rangeSegments: 1,
    lock: "auto",
    lockTimeoutMs: 0,
  } as const;
  return Disk.open({ path, ...defaults, ...changes }, new AbortController().signal, log);
}

async function facts<T>(path: string, changes: Partial<DiskOptions>, look: (disk: Disk) => T): Promise<T> {
  const disk = await open(path, changes);
  try {
    return look(disk);
  } finally {
    disk.close();
  }
}

test("a file is a disk of its size in blocks of 512", async () => {
  const path = makeFile("plain.img", 1 << 20);
  await facts(path, {}, (disk) => {
    assert.equal(disk.capacitySectors, 2048n);
    assert.equal(disk.blockSize, 512);
    assert.equal(disk.directMask, 0);
    assert.equal(disk.unalignedFd, disk.fd);
    assert.equal(disk.readOnly, false);
    assert.equal(disk.discardUnmaps, true);
    assert.equal(disk.serial, "plain.img");
  });
});

test("options take precedence over what the file says", async () => {
  const path = makeFile("options.img", 1 << 20);
  await facts(path, { blockSize: 4096, serial: "abc", discard: "ignore", rangeSegments: 8 }, (disk) => {
    assert.equal(disk.blockSize, 4096);
    assert.equal(disk.serial, "abc");
    assert.equal(disk.discardUnmaps, false);
    assert.equal(disk.maxRanges, 8);
  });
});

test("the serial number is cut to what fits, and is never empty", async () => {
  const long = makeFile("a-name-of-more-than-20-bytes.img", 512);
  assert.equal(await facts(long, {}, ({ serial }) => serial), "a-name-of-more-than-");
  const foreign = makeFile("ディスク", 512);
  assert.equal(await facts(foreign, {}, ({ serial }) => serial), "vringd");
});

test("O_DIRECT comes with its alignment and a second descriptor for what it refuses", {
  skip: skipWithout(whyNoDirect(directory)),
}, async () => {
  const path = makeFile("direct.img", 1 << 20);
  const disk = await open(path, { direct: true });
  assert.ok(disk.directMask >= 511);
  assert.equal(disk.directMask & (disk.directMask + 1), 0, "a power of two less one");
  assert.ok(disk.blockSize >= 512);
  assert.notEqual(disk.unalignedFd, disk.fd);
  disk.close();
});

const refusals: [what: string, path: () => string, sentence: RegExp][] = [
  ["a missing file", () => join(directory, "none"), /^can't open .*none: no such file or directory$/],
  ["a path through a file", () => join(makeFile("file", 512), "x"), /^can't open .*: not a directory$/],
  ["a directory", () => directory, /is a directory; --blk-file takes a file or a block device$/],
  ["a character device", () => "/dev/null", /^\/dev\/null is neither a file nor a block device$/],
  ["an empty file", () => makeFile("empty.img", 0), /empty.img is empty; give it a size first/],
  ["an odd size", () => makeFile("odd.img", 513), /odd.img has 513 bytes, which is not a multiple/],
];
for (const [what, path, sentence] of refusals) {
  test(`${what} is refused, and nothing stays open`, async () => {
    const file = path();
    const before = readdirSync("/proc/self/fd").length;
    await assert.rejects(open(file), { name: "StartError", message: sentence });
    assert.equal(readdirSync("/proc/self/fd").length, before);
  });
}

test("a named pipe is refused without waiting for its writer", async () => {
  const path = join(directory, "pipe");
  spawnSync("mkfifo", [path]);
  await assert.rejects(open(path), /is neither a file nor a block device/);
});

test("a symbolic link is followed, and named by its own name", async () => {
  const path = join(directory, "link.img");
  symlinkSync(makeFile("target.img", 512), path);
  assert.equal(await facts(path, {}, ({ serial }) => serial), "link.img");
});

test("a writer is refused while another has the file, unless nobody looks", async () => {
  const path = makeFile("locked.img", 512);
  const first = await open(path);
  await assert.rejects(open(path), /is locked by no process/);
  const second = await open(path, { lock: "off" });
  second.close();
  first.close();
});

test("a block device is measured by what the kernel knows of it", {
  skip: skipWithout(whyNoLoopDevices()),
}, async () => {
  mkdirSync(join(directory, "loop"), { recursive: true });
  const image = makeFile("loop/backing.img", 1 << 20);
  const attached = spawnSync("losetup", ["--find", "--show", "--sector-size", "4096", image]);
  assert.equal(attached.status, 0, String(attached.stderr));
  const device = String(attached.stdout).trim();
  try {
    await facts(device, {}, (disk) => {
      assert.equal(disk.capacitySectors, 2048n);
      assert.equal(disk.blockSize, 4096);
    });
  } finally {
    spawnSync("losetup", ["--detach", device]);
  }
});
