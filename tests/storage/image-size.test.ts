// Images that end within a sector: ISO images, squashfs, downloads that were cut short.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { Vringd } from "../support/vringd.ts";

const directory = mkdtempSync(join(tmpdir(), "image-size-"));
after(() => rmSync(directory, { recursive: true }));

function makeImage(byteLength: number): { path: string; bytes: Buffer } {
  const path = join(directory, `image-${byteLength}`);
  const bytes = Buffer.from(Array.from({ length: byteLength }, (_, i) => 1 + (i % 255)));
  writeFileSync(path, bytes);
  return { path, bytes };
}

for (const option of ["--discard=unmap", "--direct"]) {
  test(`a reader sees zeroes behind the end, as a whole sector (${option})`, async () => {
    const { path, bytes } = makeImage(10_000);
    await using daemon = await Vringd.start({ blkFile: path, args: ["--read-only", option] });
    const warning = await daemon.waitForLog(/ends within a block/);
    assert.match(warning, / warn .*zeroes fill; .*truncate -s %512 .*bytes=272$/);
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    assert.equal(frontEnd.capacity, 20);
    assert.ok((await frontEnd.disk().read(0, 20)).equals(Buffer.concat([bytes, Buffer.alloc(240)])));
  });
}

test("a writer sees whole sectors, and what lies behind stays", async () => {
  const { path, bytes } = makeImage(10_001);
  await using daemon = await Vringd.start({ blkFile: path });
  assert.match(await daemon.waitForLog(/ends within a block/), / warn .*is not served; .*truncate -s %512 /);
  await using frontEnd = await FrontEnd.connect(daemon.socketPath);
  assert.equal(frontEnd.capacity, 19);
  await frontEnd.disk().write(18, Buffer.alloc(512, 9));
  await assert.rejects(frontEnd.disk().write(19, Buffer.alloc(512, 9)), /status 1/);
  await frontEnd.disk().flush();
  assert.ok(readFileSync(path).equals(Buffer.from(bytes).fill(9, 18 * 512, 19 * 512)));
});

test("whole blocks are what --block-size says", async () => {
  const { path } = makeImage(10_240);
  await using daemon = await Vringd.start({ blkFile: path, args: ["--block-size=4096"] });
  await daemon.waitForLog(/no multiple of 4096/);
  await using frontEnd = await FrontEnd.connect(daemon.socketPath);
  assert.equal(frontEnd.capacity, 16);
});

test("an overlay has its base with the zeroes", async () => {
  const { path, bytes } = makeImage(10_002);
  const overlay = join(directory, "changes");
  await using daemon = await Vringd.start({ blkFile: path, args: [`--overlay=${overlay}`] });
  await using frontEnd = await FrontEnd.connect(daemon.socketPath);
  await frontEnd.disk().write(19, Buffer.alloc(512, 9));
  const expected = Buffer.concat([bytes, Buffer.alloc(238)]).fill(9, 19 * 512);
  assert.ok((await frontEnd.disk().read(0, 20)).equals(expected));
  assert.ok(readFileSync(path).equals(bytes));
});
