// Opening and measuring what lies behind the disk: files, and a loop device where there can be one.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { createLog } from "../../host/process/log.ts";
import { FileStorage, type FileStorageOptions } from "../../host/storage/file/file-storage.ts";
import { whyNoDirect } from "../support/machine.ts";
import { skipWithout } from "../support/skip.ts";

const directory = mkdtempSync(join(tmpdir(), "disk-"));
after(() => rmSync(directory, { recursive: true }));
const log = await createLog("error", "text");

function makeFile(name: string, byteLength: number): string {
  const path = join(directory, name);
  writeFileSync(path, "");
  truncateSync(path, byteLength);
  return path;
}

async function open(path: string, changes: Partial<FileStorageOptions> = {}): Promise<FileStorage> {
  const defaults = {
    readOnly: false,
    direct: false,
    discard: "unmap",
    rangeSegments: 1,
    lock: "auto",
    lockTimeoutMs: 0,
  } as const;
  return FileStorage.open({ path, ...defaults, ...changes }, new AbortController().signal, log);
}

async function facts<T>(
  path: string,
  changes: Partial<FileStorageOptions>,
  look: (storage: FileStorage) => T,
): Promise<T> {
  const disk = await open(path, changes);
  try {
    return look(disk);
  } finally {
    await disk.close();
  }
}

test("a file is a disk of its size in blocks of 512", async () => {
  const path = makeFile("plain.img", 1 << 20);
  await facts(path, {}, ({ facts: disk, file }) => {
    assert.equal(disk.byteLength, 1n << 20n);
    assert.equal(disk.blockSize, 512);
    assert.equal(disk.direct, false);
    assert.equal(file.directMask, 0);
    assert.equal(file.unalignedFd, file.fd);
    assert.equal(disk.readOnly, false);
    assert.equal(disk.discard, "unmap");
    assert.match(disk.serial, /^[0-9a-f]{20}$/);
  });
});

test("options take precedence over what the file says", async () => {
  const path = makeFile("options.img", 1 << 20);
  await facts(
    path,
    { blockSize: 4096, serial: "abc", discard: "ignore", rangeSegments: 8 },
    ({ facts: disk }) => {
      assert.equal(disk.blockSize, 4096);
      assert.equal(disk.serial, "abc");
      assert.equal(disk.discard, "ignore");
      assert.equal(disk.rangeSegments, 8);
    },
  );
});

test("O_DIRECT comes with its alignment and a second descriptor for what it refuses", {
  skip: skipWithout(whyNoDirect(directory)),
}, async () => {
  const path = makeFile("direct.img", 1 << 20);
  const disk = await open(path, { direct: true });
  const { directMask, fd, unalignedFd } = disk.file;
  assert.ok(directMask >= 511);
  assert.equal(directMask & (directMask + 1), 0, "a power of two less one");
  assert.ok(disk.facts.direct);
  assert.ok(disk.facts.blockSize >= 512);
  assert.notEqual(unalignedFd, fd);
  await disk.close();
});

const refusals: [what: string, path: () => string, sentence: RegExp][] = [
  ["a missing file", () => join(directory, "none"), /^can't open .*none: no such file or directory$/],
  ["a path through a file", () => join(makeFile("file", 512), "x"), /^can't open .*: not a directory$/],
  ["a directory", () => directory, /is a directory; path takes a file or a block device$/],
  ["a character device", () => "/dev/null", /^\/dev\/null is neither a file nor a block device$/],
  ["one without an end", () => "/dev/zero", /^\/dev\/zero is neither a file nor a block device$/],
  ["the directory of a descriptor", () => "/dev/fd", /^\/dev\/fd is a directory; /],
  ["a descriptor that isn't open", () => "fd:9999", /^can't use fd:9999: bad file descriptor$/],
  ["an empty file", () => makeFile("empty.img", 0), /empty.img is empty; give it a size first/],
  [
    "less than a sector",
    () => makeFile("short.img", 511),
    /short.img has 511 bytes, less than one block of 512; make it longer: truncate -s %512/,
  ],
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

test("a symbolic link is followed", async () => {
  const path = join(directory, "link.img");
  symlinkSync(makeFile("target.img", 512), path);
  assert.equal(await facts(path, {}, ({ facts: { byteLength } }) => byteLength), 512n);
});

test("a writer is refused while another has the file, unless nobody looks", async () => {
  const path = makeFile("locked.img", 512);
  const first = await open(path);
  await assert.rejects(open(path), /is in use by this process itself/);
  const second = await open(path, { lock: "off" });
  await second.close();
  await first.close();
});
