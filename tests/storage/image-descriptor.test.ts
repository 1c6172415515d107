// An image that somebody else has opened: the descriptor is all the right that there is.
import assert from "node:assert/strict";
import {
  chmodSync,
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { O_PATH, openFlags } from "../../host/linux/status-flags.ts";
import { LoopDevice, loopUnavailable, run } from "../support/loop-device.ts";
import { reachableProgram } from "../support/reachable-program.ts";
import { skipWithout } from "../support/skip.ts";
import { tryToStart } from "../support/start-attempt.ts";
import { Vringd } from "../support/vringd.ts";

const directory = mkdtempSync(join(tmpdir(), "image-descriptor-"));
after(() => rmSync(directory, { recursive: true }));
const image = join(directory, "disk.img");
writeFileSync(image, "");
truncateSync(image, 1 << 20);
chmodSync(image, 0o600);

function withFd<T>(path: string, flags: number, use: (fd: number) => T): T {
  const fd = openSync(path, flags);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

const attempt = (inherit: number, ...args: readonly string[]) =>
  tryToStart(args, { inherit, env: { STATE_DIRECTORY: join(directory, "state") } });

const NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];
const cantBecome = process.getuid?.() === 0 ? false : "only root can open what nobody may";

for (const name of ["fd:4", "/dev/fd/4", "/proc/self/fd/4"]) {
  test(`${name} serves what the process itself may not open`, { skip: skipWithout(cantBecome) }, async () => {
    const fd = openSync(image, constants.O_RDWR);
    try {
      const [near, far] = (await import("../../host/linux/unix-socket.ts")).unixPair();
      const program = [process.execPath, reachableProgram()];
      const options = { blkFile: name, inherit: fd, under: NOBODY, program, fd: near };
      await using _daemon = await Vringd.start(options);
      await using frontEnd = await FrontEnd.connect(far);
      await frontEnd.disk().write(5, Buffer.alloc(512, 5));
      await frontEnd.disk().flush();
      assert.ok(
        readFileSync(image)
          .subarray(5 * 512, 6 * 512)
          .equals(Buffer.alloc(512, 5)),
      );
    } finally {
      closeSync(fd);
    }
  });
}

const refusals: [what: string, flags: number, args: readonly string[], sentence: RegExp][] = [
  [
    "for reading only",
    constants.O_RDONLY,
    [],
    /fd:4: it is open for reading only; --read-only may serve it$/m,
  ],
  ["for writing only", constants.O_WRONLY, [], /it is open for writing only; /],
  ["for appending", constants.O_RDWR | constants.O_APPEND, [], /it is open for appending, where every write/],
  ["as a path", O_PATH, ["--read-only"], /it is open as a path alone \(O_PATH\); /],
];
for (const [what, flags, args, sentence] of refusals) {
  test(`one that is open ${what} is refused with a sentence`, () => {
    const { status, stderr } = withFd(image, flags, (fd) => attempt(fd, "--blk-file=fd:4", ...args));
    assert.match(stderr, sentence);
    assert.equal(status, 1);
  });
}

test("one for reading is served with --read-only, and O_DIRECT is as --direct says", () => {
  withFd(image, constants.O_RDONLY, (fd) => {
    assert.equal(attempt(fd, "--blk-file=fd:4", "--read-only").status, 0);
  });
  withFd(image, constants.O_RDWR | constants.O_DIRECT, (fd) => {
    assert.equal(attempt(fd, "--blk-file=fd:4").status, 0);
    assert.equal(openFlags(fd) & constants.O_DIRECT, 0);
    assert.equal(attempt(fd, "--blk-file=fd:4", "--direct").status, 0);
    assert.notEqual(openFlags(fd) & constants.O_DIRECT, 0);
  });
});

test("what is no image is refused", () => {
  const neither = /^vringd-blk: fd:4 is neither a file nor a block device$/m;
  assert.match(withFd("/dev/null", constants.O_RDWR, (fd) => attempt(fd, "--blk-file=fd:4")).stderr, neither);
  const aDirectory = withFd(directory, constants.O_RDONLY, (fd) =>
    attempt(fd, "--blk-file=fd:4", "--read-only"),
  );
  assert.match(aDirectory.stderr, /^vringd-blk: fd:4 is a directory/m);
  assert.match(
    attempt(0, "--blk-file=fd:900").stderr,
    /^vringd-blk: can't use fd:900: bad file descriptor$/m,
  );
});

test("its image is locked against others", async () => {
  const fd = openSync(image, constants.O_RDWR);
  try {
    await using daemon = await Vringd.start({ blkFile: "fd:4", inherit: fd });
    const { stderr } = tryToStart([`--blk-file=${image}`]);
    assert.match(stderr, new RegExp(`disk.img is in use by .*process (${daemon.pid}|${process.pid})\\)`));
  } finally {
    closeSync(fd);
  }
});

test("a device that the host has mounted is refused, whoever opened it", {
  skip: skipWithout(loopUnavailable()),
}, () => {
  using device = new LoopDevice();
  run("mkfs.ext4", "-q", "-F", device.path);
  const point = mkdtempSync(join(directory, "mount-"));
  run("mount", device.path, point);
  try {
    const { stderr } = withFd(device.path, constants.O_RDWR, (fd) => attempt(fd, "--blk-file=fd:4"));
    assert.match(stderr, new RegExp(`fd:4 is mounted at ${point};`));
  } finally {
    run("umount", point);
  }
});
