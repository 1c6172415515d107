// A raw disk is asked for, not guessed: images of other formats are refused, and guests write what they like.
import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { imageFormatOf } from "../../host/storage/file/format.ts";
import { LoopDevice, loopUnavailable, run } from "../support/loop-device.ts";
import { NbdServer, nbdUnavailable } from "../support/nbd-server.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { tryToStart } from "../support/start-attempt.ts";
import { Vringd } from "../support/vringd.ts";

const directory = mkdtempSync(join(tmpdir(), "image-format-"));
after(() => rmSync(directory, { recursive: true }));
const env = { STATE_DIRECTORY: join(directory, "state") };
const QCOW2 = Buffer.concat([Buffer.from("QFI\xfb\0\0\0\x03", "latin1"), Buffer.alloc(504)]);
const LUKS = Buffer.concat([Buffer.from("LUKS\xba\xbe\0\x02", "latin1"), Buffer.alloc(504)]);

let count = 0;
function makeFile(bytes: Uint8Array, byteLength = 1 << 20): string {
  const path = join(directory, `image-${count++}`);
  writeFileSync(path, bytes);
  truncateSync(path, byteLength);
  return path;
}

const attempt = (path: string, ...args: readonly string[]) =>
  tryToStart([`--blk-file=${path}`, ...args], { env });

function isServed(path: string, ...args: readonly string[]): void {
  const { status, stderr } = attempt(path, ...args);
  assert.equal(status, 0, stderr);
  assert.match(stderr, / ready /);
}

function isRefused(path: string, sentence: RegExp, ...args: readonly string[]): void {
  const { status, stderr } = attempt(path, ...args);
  assert.equal(status, 1, stderr);
  assert.match(stderr, sentence);
  assert.match(stderr, /^vringd-blk: [^\n]*--format=raw[^\n]*\n$/);
}

/** What a guest does to its own disk. */
async function guestWrites(path: string, bytes: Uint8Array): Promise<void> {
  await using daemon = await Vringd.start({ blkFile: path, env });
  await using frontEnd = await FrontEnd.connect(daemon.socketPath);
  await frontEnd.disk().write(0, bytes);
  await frontEnd.disk().flush();
}

describe("what qemu-img makes", { skip: skipWithout(whyNoProgram("qemu-img")) }, () => {
  const made: [format: string, name: RegExp, options?: string][] = [
    ["qcow", /^a qcow image$/],
    ["qcow2", /^a qcow2 image$/],
    ["qed", /^a QED image$/],
    ["vmdk", /^a VMDK image$/],
    ["vmdk", /^the description of a VMDK image$/, "subformat=monolithicFlat"],
    ["vhdx", /^a VHDX image$/],
    ["vpc", /^a VHD image$/],
    ["vpc", /^a VHD image of fixed size$/, "subformat=fixed"],
    ["vdi", /^a VDI image$/],
    ["parallels", /^a Parallels image$/],
  ];
  for (const [format, name, options] of made) {
    test(`is known by its bytes: ${format} ${options ?? ""}`, () => {
      const path = join(directory, `${format}-${count++}`);
      run("qemu-img", "create", "-q", "-f", format, ...(options ? ["-o", options] : []), path, "4M");
      const bytes = readFileSync(path);
      assert.match(imageFormatOf(bytes.subarray(0, 512), bytes.subarray(-512))!.name, name);
    });
  }

  test("is refused with a way to serve it, also as an odd size, under an overlay or by readers", () => {
    const path = join(directory, "disk.qcow2");
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "4M");
    const recipe =
      /disk.qcow2 is a qcow2 image, no raw disk: serve it with qemu-nbd --format=qcow2 .* --blk-file='nbd\+unix:/;
    isRefused(path, recipe);
    isRefused(path, recipe, "--read-only");
    isRefused(path, recipe, `--overlay=${join(directory, "changes")}`);
  });
});

test("a raw disk is nothing else: empty, with a partition table, or with a file system", () => {
  assert.equal(imageFormatOf(Buffer.alloc(512), Buffer.alloc(512)), undefined);
  assert.equal(imageFormatOf(Buffer.alloc(0), Buffer.alloc(0)), undefined);
  const boot = Buffer.alloc(512).fill("\xeb\x3c\x90mkfs.fat", 0, 11, "latin1");
  boot.writeUInt16LE(0xaa55, 510);
  assert.equal(imageFormatOf(boot, boot), undefined);
});

test("what is compressed, and an overlay, are refused with what to do with them", () => {
  isRefused(makeFile(Buffer.from([0x1f, 0x8b, 8, 0])), /is compressed by gzip, no raw disk: unpack it first/);
  isRefused(makeFile(Buffer.from("VRINGDOV")), /is an overlay of vringd's, .*: give it with --overlay/);
});

test("an image is served with --format=raw whatever it holds, and from then on without", () => {
  const path = makeFile(QCOW2);
  isRefused(path, /is a qcow2 image/);
  isServed(path, "--format=raw", "--read-only");
  isRefused(path, /is a qcow2 image/);
  isServed(path, "--format=raw");
  isServed(path);
});

describe("a guest that writes another format's first bytes into its own disk", { timeout: 120_000 }, () => {
  for (const [name, bytes] of [
    ["qcow2", QCOW2],
    ["LUKS", LUKS],
  ] as const) {
    test(`is not locked out of it (${name})`, async () => {
      const path = makeFile(Buffer.alloc(512));
      await guestWrites(path, bytes);
      isServed(path);
      isServed(path, "--read-only");
    });
  }

  test("leaves a copy of the image that is asked about anew, and another image in its place, too", async () => {
    const path = makeFile(Buffer.alloc(512));
    await guestWrites(path, QCOW2);
    const copy = join(directory, "copy.img");
    copyFileSync(path, copy);
    isRefused(copy, /is a qcow2 image/);
    truncateSync(path, 2 << 20);
    isRefused(path, /is a qcow2 image/);
  });

  test("is not locked out of a device, which has no attributes", {
    skip: skipWithout(loopUnavailable()),
  }, async () => {
    using device = new LoopDevice();
    await guestWrites(device.path, QCOW2);
    isServed(device.path);
    const { stderr } = tryToStart([`--blk-file=${device.path}`], {
      env: { STATE_DIRECTORY: join(directory, "other") },
    });
    assert.match(stderr, /is a qcow2 image, no raw disk/);
  });

  test("is not locked out of an export, and one of a qcow2 file is refused", {
    skip: skipWithout(nbdUnavailable()),
  }, async () => {
    await using server = await NbdServer.start({ args: () => ["memory", "1M"] });
    await guestWrites(server.uri("disk"), QCOW2);
    isServed(server.uri("disk"));
    isRefused(server.uri("other"), /other\?socket=\S+ is a qcow2 image, no raw disk/);
  });
});

test("a device that holds a LUKS volume is its guest's from the first day", {
  skip: skipWithout(loopUnavailable()),
}, () => {
  using device = new LoopDevice();
  writeFileSync(device.path, LUKS);
  isServed(device.path);
  isRefused(makeFile(LUKS), /is a LUKS volume, no raw disk/);
});

test("where nothing can be recorded, the log says what to do", {
  skip: skipWithout(loopUnavailable()),
}, () => {
  using device = new LoopDevice();
  const nowhere = { env: { STATE_DIRECTORY: "/proc/none" } };
  assert.match(tryToStart([`--blk-file=${device.path}`], nowhere).stderr, / info .*give --format=raw/);
});
