// `vringd overlay` as its user meets it: what it shows, makes and refuses, and that a refusal changes nothing.
import assert from "node:assert/strict";
import {
  copyFileSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { describe, test } from "node:test";
import { OverlayDisk } from "vringd";
import { readOverlay } from "../support/overlay-contents.ts";
import { OverlayRig } from "../support/overlay-rig.ts";
import { onTerminal, toolbox } from "../support/toolbox.ts";

const BYTES = (2 << 20) + 512;

async function withRig(work: (rig: OverlayRig) => Promise<void>): Promise<void> {
  using rig = await OverlayRig.make(BYTES);
  await work(rig);
}

function overlay(...args: string[]) {
  return toolbox(["overlay", ...args]);
}

async function refuses(args: string[], reason: RegExp): Promise<void> {
  const { status, stdout, stderr } = await overlay(...args);
  assert.match(stderr, reason);
  assert.equal(stderr.trim().split("\n").length, 1, stderr);
  assert.deepEqual([status, stdout], [1, ""]);
}

describe("vringd overlay info", () => {
  test("shows an overlay that is in use, and its base", () =>
    withRig(async ({ path, base }) => {
      const disk = await OverlayDisk.open({ path, base });
      await disk.write(4096n * 16n, [Buffer.alloc(512, 1)]);
      const { status, stdout } = await overlay("info", path, "--json");
      await disk.close();
      const found = JSON.parse(stdout);
      assert.equal(status, 0);
      assert.equal(found.inUseBy.pid, process.pid);
      assert.ok(found.allocatedBytes > 0);
      delete found.inUseBy;
      delete found.allocatedBytes;
      assert.deepEqual(found, {
        overlay: path,
        base: { path: base, standing: "as-it-was" },
        sizeBytes: BYTES,
        blockBytes: 4096,
        blocks: 258,
        unflushedBlocks: 1,
        isCommitting: false,
      });
    }));

  test("fails for a base that has changed, and says what accepts it", () =>
    withRig(async ({ path, base }) => {
      utimesSync(base, 1, 1);
      const { status, stdout } = await overlay("info", path);
      assert.equal(status, 1);
      assert.ok(stdout.includes(`has changed, on 1970-01-01T00:00:01.000Z`), stdout);
      assert.ok(stdout.includes(`vringd overlay rebase --unsafe ${path} ${base}`), stdout);
    }));

  test("fails for a base that is not there, and for what is no overlay", () =>
    withRig(async ({ path, base }) => {
      const { status, stdout } = await overlay("info", path, `--base=${base}.gone`);
      assert.match(stdout, /can't open .*base\.img\.gone: no such file/);
      assert.equal(status, 1);
      await refuses(["info", base], /base\.img is no overlay/);
    }));

  for (const columns of [60, 80, 200]) {
    test(`fits a terminal of ${columns} columns`, () =>
      withRig(async ({ path }) => {
        const { stdout } = await onTerminal(columns, ["overlay", "info", path]);
        const lines = stdout.trimEnd().split("\r\n");
        assert.equal(lines.length, 8, stdout);
        // A path is one word, and stays whole.
        for (const line of lines) assert.ok(line.length <= columns || !line.slice(12).includes(" "), line);
      }));
  }
});

describe("vringd overlay commit", () => {
  test("leaves the base with all, and an overlay that is empty and goes on", () =>
    withRig(async (rig) => {
      const { status, stdout, stderr } = await overlay("commit", rig.path);
      assert.deepEqual([status, stderr], [0, ""]);
      assert.match(stdout, /base\.img has the 1 MiB of .*changes, which is empty now\.\n$/);
      assert.ok(rig.holdsBase().equals(rig.shown));
      assert.ok(statSync(rig.path).blocks * 512 <= 32 << 10);
      await rig.write(0, Buffer.alloc(512, "again"));
      await rig.end();
      assert.ok(rig.shown.equals(await readOverlay(rig.path, rig.base)));
    }));

  test("refuses an overlay and a base that are in use", () =>
    withRig(async ({ path, base, before }) => {
      const disk = await OverlayDisk.open({ path, base });
      await refuses(["commit", path], /base\.img is in use by .*; end that first$/m);
      await disk.close();
      assert.ok(readFileSync(base).equals(before));
    }));

  test("refuses a base that has changed", () =>
    withRig(async ({ path, base, before }) => {
      utimesSync(base, 1, 1);
      await refuses(["commit", path], /base\.img has changed .* accept it: vringd overlay rebase --unsafe/);
      assert.ok(readFileSync(base).equals(before));
    }));
});

describe("vringd overlay flatten", () => {
  test("makes a sparse image of what a guest sees, and never replaces one unasked", () =>
    withRig(async ({ path, base, directory, shown }) => {
      const output = `${directory}/flat.img`;
      assert.equal((await overlay("flatten", path, output)).status, 0);
      assert.ok(readFileSync(output).equals(shown));
      assert.ok(statSync(output).blocks * 512 < BYTES - (128 << 10));
      writeFileSync(output, "mine");
      await refuses(["flatten", path, output], /flat\.img is there already; .* --force/);
      assert.equal(readFileSync(output, "latin1"), "mine");
      assert.equal((await overlay("flatten", path, output, "--force")).status, 0);
      assert.ok(readFileSync(output).equals(shown));
      await refuses(["flatten", path, base, "--force"], /base\.img is what it would be made from/);
      assert.deepEqual(readdirSync(directory).sort(), ["base.img", "changes", "flat.img"]);
    }));

  test("leaves nothing of an image that can't be whole", () =>
    withRig(async ({ path, directory }) => {
      const limit = ["sh", "-c", 'ulimit -f 1000; exec "$@"', "sh"];
      const outcome = await toolbox(["overlay", "flatten", path, `${directory}/flat.img`], { under: limit });
      assert.equal(outcome.status, 1);
      assert.match(outcome.stderr, /can't make .*flat\.img: file too large/);
      assert.deepEqual(readdirSync(directory).sort(), ["base.img", "changes"]);
    }));
});

describe("vringd overlay rebase", () => {
  test("keeps what a guest sees, over a base that differs", () =>
    withRig(async ({ path, base, directory, before, shown }) => {
      const other = `${directory}/other.img`;
      const bytes = Buffer.from(before);
      bytes.fill("differs", 60 << 10, 200 << 10);
      bytes.fill("end", BYTES - 512);
      writeFileSync(other, bytes);
      const { status, stdout } = await overlay("rebase", path, other);
      assert.equal(status, 0);
      assert.match(stdout, /has taken 72 KiB over from .*base\.img/);
      assert.ok(shown.equals(await readOverlay(path, other)));
      await assert.rejects(readOverlay(path, base), /base\.img has changed/);
      assert.ok(readFileSync(base).equals(before));
    }));

  test("--unsafe accepts a base of which the time alone has changed", () =>
    withRig(async ({ path, base, shown }) => {
      utimesSync(base, 1, 1);
      await refuses(["rebase", path, base], /base\.img has changed/);
      assert.equal((await overlay("rebase", path, base, "--unsafe")).status, 0);
      assert.ok(shown.equals(await readOverlay(path, base)));
    }));

  test("refuses bases that can't be, and leaves the overlay as it was", () =>
    withRig(async ({ path, base, directory, shown }) => {
      const other = `${directory}/other.img`;
      copyFileSync(base, other);
      truncateSync(other, BYTES - 512);
      for (const how of [[], ["--unsafe"]]) {
        await refuses(
          ["rebase", path, other, ...how],
          /other\.img has \d+ bytes, .* name a base of that size/,
        );
        await refuses(["rebase", path, path, ...how], /changes is an overlay|the overlay is the base/);
        await refuses(["rebase", path, `${other}.gone`, ...how], /no such file/);
      }
      assert.ok(shown.equals(await readOverlay(path, base)));
    }));
});
