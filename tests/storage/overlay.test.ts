// An overlay as its user meets it: the base stays as it is, the changes stay, and what doesn't belong together is refused.
import assert from "node:assert/strict";
import {
  appendFileSync,
  linkSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { type BlockDisk, MemoryDisk, OverlayDisk, StartError } from "vringd";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { MixedLoad } from "../support/mixed-load.ts";
import { tellSeed } from "../support/random.ts";
import { skipWithout } from "../support/skip.ts";
import { whyNoStrace } from "../support/strace.ts";
import { Vringd } from "../support/vringd.ts";

const SECTORS = 4096;

/** A directory with a base and a place for the changes. */
async function withFiles(work: (files: { base: string; path: string }) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  try {
    const base = join(directory, "base.img");
    writeFileSync(base, Buffer.alloc(SECTORS * 512, "base"));
    await work({ base, path: join(directory, "changes") });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function read(disk: BlockDisk, offset: number, byteLength: number): Promise<Buffer> {
  const bytes = Buffer.alloc(byteLength);
  await disk.read(BigInt(offset), [bytes]);
  return bytes;
}

describe("--overlay", () => {
  test("keeps what any load writes, over a restart, and the base as it was", async (t) => {
    await using daemon = await Vringd.start({ overlay: true, byteLength: SECTORS * 512 });
    const before = statSync(daemon.imagePath, { bigint: true });
    const load = {
      random: tellSeed(t),
      count: 2000,
      depth: 16,
      firstSector: 0,
      sectors: SECTORS,
      indirect: true,
    };
    const frontEnd = await FrontEnd.connect(daemon.socketPath);
    const { model } = await MixedLoad.run(frontEnd.disk(), load);
    frontEnd.close();
    assert.equal(await daemon.stop(), 0);
    await daemon.restart();
    await using again = await FrontEnd.connect(daemon.socketPath);
    assert.ok((await again.disk().read(0, SECTORS)).equals(model));
    assert.equal(statSync(daemon.imagePath, { bigint: true }).mtimeNs, before.mtimeNs);
    assert.ok(readFileSync(daemon.imagePath).every((byte) => byte === 0));
  });

  test("refuses O_DIRECT, which would go past what it keeps together", async () => {
    await using daemon = await Vringd.start({ overlay: true });
    await daemon.stop();
    await assert.rejects(daemon.restart(["--direct"]), /is served without O_DIRECT, so leave out --direct/);
  });

  test("that is its own base, by whatever name, is refused at once", async () => {
    await using daemon = await Vringd.start();
    await daemon.stop();
    const directory = dirname(daemon.imagePath);
    const names = ["disk.img", "hard", "symbolic"].map((name) => join(directory, name));
    linkSync(daemon.imagePath, names[1]!);
    symlinkSync(daemon.imagePath, names[2]!);
    for (const name of names) {
      await assert.rejects(
        daemon.restart([`--overlay=${name}`]),
        /the overlay is the base; name another file/,
      );
      await assert.rejects(daemon.restart([`--overlay=${name}`, "--read-only"]), /the overlay is the base/);
    }
  });

  const calls = "renameat2,link,linkat";
  for (const [what, ...injections] of [
    ["renames with flags", "renameat2:error=EINVAL"],
    ["renames with flags, nor hard links", "renameat2:error=ENOSYS", "link,linkat:error=EPERM"],
  ]) {
    test(`is made where there are no ${what}`, { skip: skipWithout(whyNoStrace()) }, async () => {
      const inject = injections.flatMap((injection) => ["-e", `inject=${injection}`]);
      const strace = ["strace", "-D", "-f", "-o", "/dev/null", "-e", `trace=${calls}`, ...inject];
      await using daemon = await Vringd.start({ overlay: true, under: strace });
      assert.deepEqual(
        readdirSync(dirname(daemon.changesPath)).filter((name) => name.startsWith("changes")),
        ["changes"],
      );
      await using frontEnd = await FrontEnd.connect(daemon.socketPath);
      await frontEnd.disk().write(0, Buffer.alloc(512, 1));
    });
  }

  test("and its base are locked against another daemon", async () => {
    await using first = await Vringd.start({ overlay: true });
    await withFiles(async ({ base }) => {
      const second = await Vringd.start({ overlay: true });
      await second.stop();
      await assert.rejects(
        second.restart([`--blk-file=${base}`, `--overlay=${first.changesPath}`]),
        /changes is in use by .* end that first/,
      );
      await assert.rejects(second.restart([`--blk-file=${first.changesPath}`]), /changes is in use by/);
      await second[Symbol.asyncDispose]();
    });
  });
});

describe("an overlay", () => {
  test("shows the base until it is written, and takes space only for what is", () =>
    withFiles(async ({ base, path }) => {
      const disk = await OverlayDisk.open({ path, base });
      const untouched = statSync(path).blocks;
      await disk.write(1000n * 512n, [Buffer.alloc(512, 1)]);
      await disk.flush();
      assert.ok(statSync(path).blocks - untouched <= 64);
      const around = await read(disk, 999 * 512, 3 * 512);
      assert.deepEqual(
        around,
        Buffer.concat([Buffer.alloc(512, "base"), Buffer.alloc(512, 1), Buffer.alloc(512, "base")]),
      );
      await disk.close();
    }));

  test("of a discard gives back what it had, and zeroes what it must", () =>
    withFiles(async ({ base, path }) => {
      const disk = await OverlayDisk.open({ path, base });
      await disk.write(0n, [Buffer.alloc(64 * 1024, 1)]);
      await disk.flush();
      const full = statSync(path).blocks;
      await disk.discard(0n, 64n * 1024n);
      assert.ok(statSync(path).blocks < full);
      await disk.writeZeroes(100n * 1024n + 512n, 20n * 1024n);
      const zeroed = await read(disk, 100 * 1024, 21 * 1024);
      assert.deepEqual(zeroed, Buffer.alloc(21 * 1024, "base").fill(0, 512, 20 * 1024 + 512));
      await disk.close();
    }));

  test("goes over any disk", () =>
    withFiles(async ({ path }) => {
      const base = new MemoryDisk(4096 * 3 + 512);
      await base.write(4096n * 3n, [Buffer.alloc(512, "tail")]);
      let disk = await OverlayDisk.open({ path, base });
      await disk.write(4096n, [Buffer.alloc(1024, 7)]);
      await disk.close();
      disk = await OverlayDisk.open({ path, base });
      assert.deepEqual(await read(disk, 4096, 1024), Buffer.alloc(1024, 7));
      assert.deepEqual(await read(disk, 4096 * 3, 512), Buffer.alloc(512, "tail"));
      await disk.close();
    }));

  for (const [what, spoil, reason] of [
    [
      "a base that has been written",
      ({ base }) => utimesSync(base, 1, 1),
      /base\.img has changed \(1970-.*\) since .*changes was made over it/,
    ],
    [
      "a base of another size",
      ({ base }) => appendFileSync(base, Buffer.alloc(512)),
      /base\.img has another size than when/,
    ],
    [
      "a file that is no overlay",
      ({ path }) => writeFileSync(path, "something else"),
      /changes is no overlay; name one/,
    ],
    ["an empty file", ({ path }) => truncateSync(path, 0), /changes is no overlay/],
    ["a damaged header", ({ path }) => flip(path, 20), /damaged header/],
  ] as [string, (files: { base: string; path: string }) => void, RegExp][]) {
    test(`refuses ${what}`, () =>
      withFiles(async (files) => {
        const disk = await OverlayDisk.open(files);
        await disk.close();
        spoil(files);
        await assert.rejects(OverlayDisk.open(files), (error) => {
          assert.ok(error instanceof StartError);
          assert.match(error.message, reason);
          return true;
        });
      }));
  }

  test("fails every flush after one that failed: what is stable can't be known any more", () =>
    withFiles(async ({ path }) => {
      const base = new MemoryDisk(4096);
      const disk = await OverlayDisk.open({ path, base });
      const { storage } = (disk as unknown as { parts: { storage: { sync(): Promise<void> } } }).parts;
      const sync = storage.sync.bind(storage);
      storage.sync = async () => {
        storage.sync = sync;
        throw Object.assign(new Error("EIO"), { code: "EIO" });
      };
      await disk.write(0n, [Buffer.alloc(512)]);
      await assert.rejects(disk.flush(), /EIO/);
      await assert.rejects(disk.flush(), /EIO/);
      await disk.close();
    }));
});

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at]! ^= 1;
  writeFileSync(path, bytes);
}
