// The command line: what it prints, and what becomes of every wrong input.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import * as libc from "../../host/linux/libc.ts";
import { connectUnix, listenUnix, unixPair } from "../../host/linux/unix-socket.ts";
import manifest from "../../package.json" with { type: "json" };
import { PROGRAM } from "../support/vringd.ts";

const directory = mkdtempSync(join(tmpdir(), "cli-"));
after(() => rmSync(directory, { recursive: true }));

const image = join(directory, "disk.img");
writeFileSync(image, "");
truncateSync(image, 1 << 20);
writeFileSync(join(directory, "empty.img"), "");
writeFileSync(join(directory, "odd.img"), Buffer.alloc(300));
mkdirSync(join(directory, "folder"));

const socketPath = join(directory, "blk.sock");
const USAGE = 2;
const FAILED = 1;

function run(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  // A start that should have failed is ended, and seen, by the time limit.
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], {
    cwd: directory,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 10_000,
  });
  return { status, stdout: String(stdout), stderr: String(stderr) };
}

test("--print-capabilities prints exactly what management software expects", () => {
  const { status, stdout, stderr } = run("--print-capabilities");
  assert.equal(stdout, '{"type":"block","features":["read-only","blk-file"]}\n');
  assert.equal(stderr, "");
  assert.equal(status, 0);
});

test("--print-capabilities ignores everything else, right or wrong", () => {
  const { status, stdout } = run("--no-such-option", "--fd", "--print-capabilities", "--socket-path=x");
  assert.equal(JSON.parse(stdout).type, "block");
  assert.equal(status, 0);
  assert.ok(!readdirSync(directory).includes("x"));
});

test("--version prints the version", () => {
  const { status, stdout } = run("--version");
  assert.equal(stdout, `${manifest.version}\n`);
  assert.equal(status, 0);
});

for (const option of ["-h", "--help"]) {
  test(`${option} fits 80 columns and explains every option`, () => {
    const { status, stdout } = run(option);
    assert.equal(status, 0);
    for (const line of stdout.split("\n")) assert.ok(line.length <= 80, line);
    for (const name of [
      "socket-path",
      "fd",
      "print-capabilities",
      "blk-file",
      "read-only",
      "format",
      "force",
      "num-queues",
      "queue-size",
      "packed",
      "serial",
      "block-size",
      "direct",
      "discard",
      "range-segments",
      "lock",
      "lock-timeout",
      "engine",
      "threads",
      "log-level",
      "log-format",
    ]) {
      assert.match(stdout, new RegExp(`^  --${name}\\b.* \\S`, "m"));
    }
  });
}

const disk = `--blk-file=${image}`;
const socket = `--socket-path=${socketPath}`;

const wrongUsage: [args: string[], sentence: RegExp][] = [
  [[], /--blk-file is missing/],
  [[disk], /--socket-path or --fd is missing/],
  [[socket], /--blk-file is missing/],
  [[disk, socket, "--fd=3"], /--socket-path and --fd exclude each other/],
  [[disk, socket, "--no-such-option"], /unknown option '--no-such-option'/],
  [[disk, socket, "--read-onyl"], /unknown option '--read-onyl' \(Did you mean --read-only\?\)/],
  [[disk, socket, "disk2.img"], /"disk2\.img" is no option: those begin with --/],
  [[socket, "--blkfile=disk.img"], /unknown option '--blkfile' \(Did you mean --blk-file\?\)/],
  [[disk, "--socket-path"], /argument missing/],
  [[disk, "--socket-path="], /a path is empty/],
  [[disk, "--fd=x"], /--fd takes a whole number from 0 to 2147483647, not "x"/],
  [[disk, "--fd=-1"], /--fd takes a whole number/],
  [[disk, socket, "--num-queues=0"], /--num-queues takes a whole number from 1 to 256, not "0"/],
  [[disk, socket, "--num-queues=1e1"], /--num-queues takes a whole number/],
  [[disk, socket, "--queue-size=3"], /--queue-size takes a whole number from 4 to 1024/],
  [[disk, socket, "--range-segments=257"], /--range-segments takes a whole number from 1 to 256/],
  [[disk, socket, "--threads=16"], /--threads takes a whole number from 1 to 13/],
  [[disk, socket, "--block-size=513"], /--block-size takes one of 512, 1024, 2048, 4096, not "513"/],
  [[disk, socket, "--serial=123456789012345678901"], /--serial takes at most 20 ASCII characters/],
  [[disk, socket, "--serial=é"], /--serial takes at most 20 ASCII characters/],
  [[disk, socket, "--discard=on"], /--discard takes one of unmap, ignore, not "on"/],
  [[disk, socket, "--lock-timeout=-1"], /--lock-timeout takes a whole number from 0 to 3600, not "-1"/],
  [[disk, socket, "--format=qcow2"], /--format takes one of raw, not "qcow2"/],
  [[disk, socket, "--lock=on"], /--lock takes one of auto, off, not "on"/],
  [
    [disk, socket, "--metrics=0.0.0.0:9100"],
    /--metrics takes unix:PATH, 127\.0\.0\.1:PORT or \[::1\]:PORT, where only this machine can ask, not "0\.0\.0\.0:9100"/,
  ],
  [[disk, socket, "--control-socket="], /a path is empty/],
  [[disk, socket, "--engine=aio"], /--engine takes one of auto, io_uring, threads, not "aio"/],
  [[disk, socket, "--log-level=loud"], /--log-level takes one of error, warn, info, debug, not "loud"/],
  [[disk, socket, "--log-format=xml"], /--log-format takes one of text, json, not "xml"/],
];

const wrongInput: [args: string[], sentence: RegExp][] = [
  [["--blk-file=http://a/b", socket], /http:\/\/ is not served: give a file, nbd:\/\/, /],
  [["--blk-file=none.img", socket], /can't open none.img: no such file or directory/],
  [["--blk-file=folder", socket], /folder is a directory; --blk-file takes a file or a block device/],
  [["--blk-file=empty.img", socket], /empty.img is empty; give it a size first/],
  [["--blk-file=odd.img", socket], /odd.img has 300 bytes, less than one block of 512/],
  [
    [disk, "--socket-path=none/blk.sock"],
    /the directory none of the socket none\/blk.sock does not exist: make it/,
  ],
  [[disk, "--socket-path=odd.img"], /odd.img exists and is no socket/],
  [[disk, `--socket-path=${"x".repeat(108)}`], /the socket path has 108 bytes, more than the 107/],
  [[disk, "--fd=99"], /--fd=99 is not open: start the program with a Unix stream socket there/],
  [[disk, "--fd=0"], /--fd=0 is no socket: start the program with a Unix stream socket there/],
];

function refuses(args: string[], sentence: RegExp, expected: number): void {
  const shown = args.map((arg) => arg.replace(directory, "").slice(0, 40)).join(" ");
  test(`one sentence, status ${expected} and nothing left: ${shown || "(nothing)"}`, () => {
    const before = readdirSync(directory);
    const { status, stdout, stderr } = run(...args);
    assert.equal(status, expected, stderr);
    assert.match(stderr, sentence);
    assert.match(stderr, /^vringd-blk: [^\n]*\n$/);
    assert.equal(stdout, "");
    assert.deepEqual(readdirSync(directory), before);
  });
}

for (const [args, sentence] of wrongUsage) refuses(args, sentence, USAGE);
for (const [args, sentence] of wrongInput) refuses(args, sentence, FAILED);

describe("--fd refuses in one sentence", () => {
  const AF_UNIX = 1;
  const SOCK_STREAM = 1;
  const file = openSync(image, "r");
  const unconnected = libc.socket(AF_UNIX, SOCK_STREAM, 0);
  after(() => {
    for (const fd of [file, unconnected]) libc.close(fd);
  });

  for (const [what, fd, sentence] of [
    [
      "a socket that neither listens nor is connected",
      unconnected,
      /is a socket that neither listens nor is connected:/,
    ],
    ["a file", file, /is no socket:/],
    ["a device", "ignore", /is no socket:/],
  ] as const) {
    test(what, () => {
      const { status, stderr } = spawnSync(process.execPath, [PROGRAM, disk, "--fd=3"], {
        stdio: ["ignore", "ignore", "pipe", fd],
        timeout: 20_000,
      });
      assert.equal(status, FAILED);
      assert.match(String(stderr), /^vringd-blk: --fd=3 [^\n]*\n$/);
      assert.match(String(stderr), sentence);
    });
  }
});

/** Serves a front-end that has left already, and ends. */
function logOf(...args: string[]): string[] {
  const [near, far] = unixPair();
  libc.close(far);
  const stdio = ["ignore", "ignore", "pipe", near] as const;
  const { stderr } = spawnSync(process.execPath, [PROGRAM, disk, "--fd=3", ...args], { stdio: [...stdio] });
  libc.close(near);
  return String(stderr).trimEnd().split("\n");
}

test("a text log has the time, the level, what happened, and the details", () => {
  const line = logOf().find((line) => line.includes("fd=3"));
  // A pipe may lead to a file, which is read another day.
  assert.match(
    line!,
    /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d info {2}ready {2}fd=3 {2}file=\S+disk.img {2}sectors=2048$/,
  );
});

test("a JSON log has one object a line", () => {
  const { level, time, msg, ...details } = JSON.parse(logOf("--log-format=json")[1]!);
  assert.equal(level, "info");
  assert.ok(Math.abs(Date.now() - time) < 60_000);
  assert.equal(msg, "ready");
  const { pid, hostname: host, ...others } = details;
  assert.ok(Number.isInteger(pid) && host === hostname());
  assert.deepEqual(others, { fd: 3, file: image, sectors: 2048 });
  const named = logOf("--log-format=json", `--control-socket=${join(directory, "vm1.control")}`);
  assert.ok(named.every((line) => JSON.parse(line).name === "vm1"));
});

test("a log in the journal has priorities, and leaves the time to it", () => {
  const path = join(directory, "journal");
  const fd = openSync(path, "w");
  const { dev, ino } = fstatSync(fd, { bigint: true });
  const logTo = (stream: string, ...args: string[]) => {
    const env = { ...process.env, JOURNAL_STREAM: stream };
    const [near, far] = unixPair();
    libc.close(far);
    ftruncateSync(fd);
    spawnSync(process.execPath, [PROGRAM, disk, "--fd=3", ...args], {
      stdio: ["ignore", "ignore", fd, near],
      env,
    });
    libc.close(near);
    return readFileSync(path, "utf8").replace(/^\0+/, "").trimEnd().split("\n");
  };
  try {
    assert.ok(logTo(`${dev}:${ino}`).some((line) => /^<6>info {2}ready {2}fd=3 /.test(line)));
    assert.ok(
      logTo(`${dev}:${ino}`, "--log-format=json").every((line) =>
        /^<[46]>\{"level":"(warn|info)",/.test(line),
      ),
    );
    // A service's output may lead elsewhere.
    assert.ok(logTo(`${dev}:${ino + 1n}`).some((line) => /^\d{4}-\d\d-\d\d \S+ info {2}ready/.test(line)));
  } finally {
    closeSync(fd);
  }
});

test("--log-level decides what is worth a line", () => {
  assert.deepEqual(logOf("--log-level=warn"), [""]);
});

test("a socket path that someone listens at is refused, and left alone", () => {
  const path = join(directory, "taken.sock");
  const fd = listenUnix(path);
  try {
    const { status, stderr } = run(disk, `--socket-path=${path}`);
    assert.equal(status, FAILED);
    assert.equal(stderr, `vringd-blk: ${path} is in use: another process listens there\n`);
    assert.ok(readdirSync(directory).includes("taken.sock"));
  } finally {
    libc.close(fd);
    rmSync(path);
  }
});

test("a socket path whose backlog is full is in use, too", () => {
  const path = join(directory, "crowded.sock");
  const fds = [listenUnix(path)];
  try {
    assert.throws(() => {
      while (fds.length < 100) fds.push(connectUnix(path));
    }, /EAGAIN/);
    assert.equal(
      run(disk, `--socket-path=${path}`).stderr,
      `vringd-blk: ${path} is in use: another process listens there\n`,
    );
  } finally {
    fds.forEach(libc.close);
    rmSync(path);
  }
});
