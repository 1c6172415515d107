// Serial numbers: another one for each disk, and the same one after every restart.
import assert from "node:assert/strict";
import {
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { diskChoice, type FileOptions } from "../../host/library/serve-options.ts";
import { BlockSysfs } from "../../host/linux/block-sysfs.ts";
import { SILENT } from "../../host/process/log.ts";
import { deviceIdentity, serialFrom } from "../../host/storage/file/identity.ts";
import { openStorage } from "../../host/storage/open.ts";
import { LoopDevice, loopUnavailable, run } from "../support/loop-device.ts";
import { NbdServer, nbdUnavailable } from "../support/nbd-server.ts";
import { skipWithout } from "../support/skip.ts";

const directory = mkdtempSync(join(tmpdir(), "serial-"));
after(() => rmSync(directory, { recursive: true }));
process.env.STATE_DIRECTORY = join(directory, "state");

function makeImage(...names: readonly string[]): string {
  const path = join(directory, ...names);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, "");
  truncateSync(path, 1 << 20);
  return path;
}

async function serialOf(path: string, options: Partial<FileOptions> = {}): Promise<string> {
  const disk = await openStorage(diskChoice({ path, ...options }), new AbortController().signal, SILENT);
  await disk.close();
  return disk.facts.serial;
}

const FORM = /^[0-9a-f]{20}$/;

test("two images of one name have two, each the same every time, by every name and however it is opened", async () => {
  const [one, other] = [makeImage("a", "disk.img"), makeImage("b", "disk.img")];
  const serial = await serialOf(one);
  assert.match(serial, FORM);
  assert.notEqual(serial, await serialOf(other));
  const [link, hardLink, renamed] = ["link", "hard-link", "renamed"].map((name) => join(directory, name));
  symlinkSync(one, link!);
  linkSync(one, hardLink!);
  for (const path of [one, link!, hardLink!]) assert.equal(await serialOf(path), serial);
  assert.equal(await serialOf(one, { readOnly: true, blockSize: 4096 }), serial);
  renameSync(one, renamed!);
  truncateSync(renamed!, 2 << 20);
  assert.equal(await serialOf(renamed!), serial);
});

test("a copy is another disk, and --serial is what was asked for", async () => {
  const path = makeImage("original.img");
  const copy = join(directory, "copy.img");
  copyFileSync(path, copy);
  assert.notEqual(await serialOf(copy), await serialOf(path));
  assert.equal(await serialOf(copy, { serial: "mine" }), "mine");
});

test("two overlays over one base have two, and neither is the base's", async () => {
  const base = makeImage("base.img");
  const serials = [
    await serialOf(base),
    await serialOf(base, { overlay: join(directory, "first") }),
    await serialOf(base, { overlay: join(directory, "second") }),
  ];
  assert.equal(new Set(serials).size, 3);
  assert.equal(await serialOf(base, { overlay: join(directory, "first") }), serials[1]);
});

test("a disk in memory, which is another at each start, has none", async () => {
  assert.equal(await serialOf("memory:1M"), "");
});

test("exports have theirs by server and name, whatever connections there are", {
  skip: skipWithout(nbdUnavailable()),
}, async () => {
  await using server = await NbdServer.start({ args: () => ["memory", "1M"] });
  const serial = await serialOf(server.uri("a"));
  assert.match(serial, FORM);
  assert.equal(await serialOf(server.uri("a", "x-connections=2", "x-reconnect-timeout=1")), serial);
  assert.notEqual(await serialOf(server.uri("b")), serial);
});

test("a loop device has its file's, at whatever number", {
  skip: skipWithout(loopUnavailable()),
}, async () => {
  using first = new LoopDevice();
  using other = new LoopDevice();
  const serial = await serialOf(first.path);
  assert.notEqual(await serialOf(other.path), serial);
  const again = run("losetup", "--find", "--show", first.file);
  try {
    assert.notEqual(again, first.path);
    assert.equal(await serialOf(again), serial);
  } finally {
    run("losetup", "--detach", again);
  }
});

test("a device has the name that it or its maker gave it, and not its number", () => {
  const root = join(directory, "sys");
  const write = (file: string, text: string) => {
    const path = join(root, "dev/block", file);
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, `${text}\n`);
  };
  const serial = (number: string) => serialFrom(deviceIdentity(new BlockSysfs(number, root)).parts);
  write("252:0/dm/uuid", "LVM-aaaa");
  write("252:7/dm/uuid", "LVM-aaaa");
  write("252:1/dm/uuid", "LVM-bbbb");
  write("252:2/dm/uuid", "");
  write("252:2/dm/name", "plain");
  write("8:0/device/wwid", "naa.5000");
  write("259:0/wwid", "eui.0025");
  write("254:0/serial", "virtio-1");
  write("9:0/md/uuid", "cccc");
  const all = ["252:0", "252:1", "252:2", "8:0", "259:0", "254:0", "9:0"].map(serial);
  assert.equal(new Set(all).size, all.length);
  assert.equal(serial("252:7"), all[0]);
});
