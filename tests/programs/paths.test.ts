// Names of files that are no text: they are opened, and messages show them without harm.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { diskChoice } from "../../host/library/serve-options.ts";
import { SILENT } from "../../host/process/log.ts";
import { formatText } from "../../host/process/log-format.ts";
import { bytesOfText, filePath, printable, textOfBytes } from "../../host/process/paths.ts";
import { openStorage } from "../../host/storage/open.ts";
import { tryToStart } from "../support/start-attempt.ts";

const directory = mkdtempSync(join(tmpdir(), "paths-"));
after(() => rmSync(directory, { recursive: true }));

const NAMES = ["", "plain", "ディスク", "d\\xff", "\u{1f4be}"].map((text) => Buffer.from(text));
const RAW_NAMES = ["d\xff.img", "\xc3", "a\xe3\x83", "\xed\xb2\x80", "\xf5\x80\x80\x80", "\xc0\xaf"].map(
  (text) => Buffer.from(text, "latin1"),
);

test("any bytes become a string and the same bytes again", () => {
  for (const bytes of [...NAMES, ...RAW_NAMES]) assert.deepEqual(bytesOfText(textOfBytes(bytes)), bytes);
  const all = Buffer.from(Array.from({ length: 512 }, (_, i) => (i * 7) % 256));
  assert.deepEqual(bytesOfText(`a/${textOfBytes(all)}`), Buffer.concat([Buffer.from("a/"), all]));
  for (const bytes of NAMES) assert.equal(textOfBytes(bytes), bytes.toString());
  assert.equal(filePath("ディスク"), "ディスク");
});

test("what is shown has no controls, and escapes that are true", () => {
  assert.equal(printable("ディスク \u{1f4be} a\\b"), "ディスク \u{1f4be} a\\b");
  assert.equal(printable(textOfBytes(Buffer.from("d\xff.img", "latin1"))), "d\\xff.img");
  assert.equal(printable("\x1b[31m\n\u202e"), "\\u{1b}[31m\\u{a}\\u{202e}");
  assert.equal(printable("a\\x1b\x1b"), "a\\\\x1b\\u{1b}");
});

test("a line of the log has one line, and its names no controls", () => {
  const line = formatText(JSON.stringify({ level: "info", time: 0, msg: "a\nb", file: 'x"\x1b[31m \x9b' }));
  assert.match(line, / info {2}a\\u\{a\}b {2}file="x\\"\\u\{1b\}\[31m \\u\{9b\}"\n$/);
});

const shellBytes = (path: string) => `$(printf '${path}')`;

test("an image whose name is not UTF-8 is served, over an overlay and a socket of such names", () => {
  const raw = (name: string) => Buffer.from(join(directory, name), "latin1");
  writeFileSync(raw("d\xff\x1b.img"), "");
  truncateSync(raw("d\xff\x1b.img"), 1 << 20);
  const served = tryToStart([], { shellPath: `--blk-file=${shellBytes(`${directory}/d\\377\\033.img`)}` });
  assert.equal(served.status, 0, served.stderr);
  assert.match(served.stderr, / ready .*\/d\\xff\\u\{1b\}\.img /);

  const options = [`--blk-file=${join(directory, "base.img")}`];
  writeFileSync(join(directory, "base.img"), Buffer.alloc(4096));
  const overlaid = tryToStart(options, { shellPath: `--overlay=${shellBytes(`${directory}/o\\377`)}` });
  assert.equal(overlaid.status, 0, overlaid.stderr);
  assert.ok(existsSync(raw("o\xff")));

  const controlled = tryToStart(options, {
    shellPath: `--control-socket=${shellBytes(`${directory}/c\\377`)}`,
  });
  assert.equal(controlled.status, 0, controlled.stderr);
  assert.ok(!existsSync(raw("c\xff")), "the socket stayed behind");
});

test("a program that uses the library gives such a name as bytes", async () => {
  const path = Buffer.from(join(directory, "library\xff"), "latin1");
  writeFileSync(path, Buffer.alloc(1024));
  const disk = await openStorage(diskChoice({ path }), new AbortController().signal, SILENT);
  assert.equal(disk.facts.byteLength, 1024n);
  await disk.close();
});

test("a complaint shows the name that was given", () => {
  mkdirSync(join(directory, "none"));
  const { status, stderr } = tryToStart([], {
    shellPath: `--blk-file=${shellBytes("none/e\\377\\033[31m.img")}`,
  });
  assert.equal(stderr, "vringd-blk: can't open none/e\\xff\\u{1b}[31m.img: no such file or directory\n");
  assert.equal(status, 1);
  const usage = tryToStart(["--blk-file=x"], { shellPath: `--lock=${shellBytes("\\033[31m")}` });
  assert.match(usage.stderr, /not "\\u\{1b\}\[31m" \(see --help\)\n$/);
});
