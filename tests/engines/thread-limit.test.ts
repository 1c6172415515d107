// A process that may make no more threads, which io_uring needs for whatever must wait.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import manifest from "../../package.json" with { type: "json" };
import { LimitedUser, whyNoLimitedUser } from "../support/limited-user.ts";
import { PidsLimit, whyNoPidsLimit } from "../support/pids-limit.ts";
import { skipWithout } from "../support/skip.ts";
import { PROGRAM, Vringd } from "../support/vringd.ts";

const SECTORS = 64;

describe("a daemon that may make no more threads", {
  skip: skipWithout(whyNoPidsLimit()),
  timeout: 60_000,
}, () => {
  const sets = [
    { name: "io_uring, from the first write on", args: ["--engine=io_uring"], writesBefore: 0 },
    { name: "io_uring, amid its work", args: ["--engine=io_uring"], writesBefore: 200 },
    {
      name: "io_uring, packed, past the page cache",
      args: ["--engine=io_uring", "--direct", "--packed"],
      writesBefore: 0,
    },
    { name: "threads", args: ["--engine=threads"], writesBefore: 0 },
  ];
  for (const { name, args, writesBefore } of sets) {
    test(`serves on with ${name}`, async () => {
      using limit = new PidsLimit();
      await using daemon = await Vringd.start({ args: [...args, "--threads=2"], onDisk: true });
      await using frontEnd = await FrontEnd.connect(daemon.socketPath, { queues: 2 });
      const disks = [frontEnd.disk(0), frontEnd.disk(1)];
      for (let i = 0; i < writesBefore; i++) await disks[i % 2]!.write(0, randomBytes(512));
      limit.freeze(daemon.pid);
      const blocks = Array.from({ length: 64 }, () => randomBytes(SECTORS * 512));
      await Promise.all(blocks.map((block, i) => disks[i % 2]!.write(i * SECTORS, block)));
      await Promise.all(disks.map((disk) => disk.flush()));
      await disks[0]!.discard([{ sector: 64 * SECTORS, sectors: 8 }]);
      await disks[1]!.writeZeroes([{ sector: 65 * SECTORS, sectors: 8 }]);
      for (const [i, block] of blocks.entries()) {
        assert.deepEqual(await disks[i % 2]!.read(i * SECTORS, SECTORS), block);
      }
      const warnings = daemon.linesLike(/can't make threads/);
      assert.ok(warnings.length <= 1, warnings.join("\n"));
      // Rings stop and start again, and the next front-end is served.
      frontEnd.close();
      await using next = await FrontEnd.connect(daemon.socketPath, { queues: 2 });
      assert.deepEqual(await next.disk(1).read(0, SECTORS), blocks[0]);
      next.close();
      assert.equal(await daemon.stop(), 0);
    });
  }

  test("says once that io_uring has no threads", async () => {
    using limit = new PidsLimit();
    await using daemon = await Vringd.start({ args: ["--engine=io_uring", "--threads=2"], onDisk: true });
    await using frontEnd = await FrontEnd.connect(daemon.socketPath, { queues: 2 });
    limit.freeze(daemon.pid);
    for (let i = 0; i < 4; i++) await frontEnd.disk(i % 2).flush();
    await daemon.waitForLog(/warn .*io_uring can't make threads of the kernel/);
    assert.equal(daemon.linesLike(/can't make threads/).length, 1);
    frontEnd.close();
    await daemon.stop();
  });
});

describe("a user's limit of processes (RLIMIT_NPROC)", {
  skip: skipWithout(whyNoLimitedUser()),
  timeout: 240_000,
}, () => {
  for (const limit of [3, 10]) {
    test(`of ${limit}, with which Node itself can't start, is told in a sentence by what starts Node`, () => {
      using user = new LimitedUser();
      const [command, ...args] = [...user.command(limit), user.program[1]!, ...user.args];
      const { status, stderr } = spawnSync(command!, args, { encoding: "utf8" });
      assert.equal(
        stderr,
        `vringd-blk: only ${limit} processes and threads are allowed, and Node alone takes 11: raise the limit (ulimit -u, LimitNPROC=)\n`,
      );
      assert.equal(status, 1);
    });
  }

  test("of root's own holds for nobody", () => {
    const { status, stdout } = spawnSync("prlimit", ["--nproc=3", PROGRAM, "--version"], {
      encoding: "utf8",
    });
    assert.deepEqual([status, stdout], [0, `${manifest.version}\n`]);
  });

  test("that is too low to start ends in a sentence, unless Node itself can't start", async () => {
    using user = new LimitedUser();
    const endings = new Map<number, string>();
    // With fewer Node ends or hangs before any of our code runs.
    for (let limit = 8; limit <= 40 && endings.get(limit - 1) !== "served"; limit++) {
      endings.set(limit, await startWith(user, limit));
    }
    const counts = [...endings].map(([limit, ending]) => `${limit}: ${ending}`).join("\n");
    assert.ok([...endings.values()].includes("served"), counts);
    assert.ok([...endings.values()].includes("sentence"), counts);
  });

  for (const engine of ["io_uring", "threads"]) {
    test(`that is reached while ${engine} serves leaves it at work`, async () => {
      using user = new LimitedUser();
      await using daemon = await Vringd.start({
        under: user.command(),
        program: user.program,
        args: [...user.args, `--engine=${engine}`, "--threads=2"],
      });
      await using frontEnd = await FrontEnd.connect(user.socketPath, { queues: 2 });
      // By the user itself: root may only where it has CAP_SYS_RESOURCE.
      const [program, ...words] = [...user.command(), "prlimit", "--pid", String(daemon.pid), "--nproc=1"];
      const { status } = spawnSync(program!, words);
      assert.equal(status, 0);
      const blocks = Array.from({ length: 32 }, () => randomBytes(SECTORS * 512));
      await Promise.all(blocks.map((block, i) => frontEnd.disk(i % 2).write(i * SECTORS, block)));
      await frontEnd.disk(0).flush();
      await frontEnd.disk(1).discard([{ sector: 64 * SECTORS, sectors: 8 }]);
      for (const [i, block] of blocks.entries()) {
        assert.deepEqual(await frontEnd.disk(i % 2).read(i * SECTORS, SECTORS), block);
      }
      const warnings = daemon.linesLike(/can't make threads/);
      assert.ok(warnings.length <= 1, warnings.join("\n"));
      frontEnd.close();
      assert.equal(await daemon.stop(), 0);
    });
  }
});

/** What comes of a start: "served", "sentence", or "Node" for an end that Node or libuv brought about. */
async function startWith(user: LimitedUser, limit: number): Promise<string> {
  const [program, ...args] = [...user.command(limit), ...user.program, ...user.args, "--threads=2"];
  const child = spawn(program!, args, { stdio: ["ignore", "ignore", "pipe"] });
  let errors = "";
  child.stderr.on("data", (part) => {
    errors += part;
    if (/ ready /.test(errors)) child.kill("SIGTERM");
  });
  const [status, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  if (/ ready /.test(errors) && status === 0) return "served";
  if (/^vringd-blk: can't start with --engine=auto: .+\n$/.test(errors) && status === 1) return "sentence";
  assert.equal(signal, "SIGABRT", `with ${limit} processes: status ${status}, ${errors}`);
  assert.doesNotMatch(errors, / ready |should not have happened/);
  return "Node";
}
