// Where a process meets its surroundings: signals, limits, directories and outputs. One sentence, or it goes on.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import { close } from "../../host/linux/libc.ts";
import { connectUnix } from "../../host/linux/unix-socket.ts";
import { listensForDebuggers } from "../support/debugger.ts";
import { ask, Observed } from "../support/observed.ts";
import { TOOLBOX } from "../support/toolbox.ts";
import { until } from "../support/until.ts";
import { PROGRAM, Vringd } from "../support/vringd.ts";

const directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
after(() => rmSync(directory, { recursive: true }));
const image = join(directory, "disk.img");
writeFileSync(image, "");
truncateSync(image, 1 << 20);

/** Where daemons listen that are not meant to start. */
const DISK = [`--blk-file=${image}`, `--socket-path=${join(directory, "blk.sock")}`];

/** Runs shell code whose "$@" is the program. */
function shell(script: string, program: string, args: readonly string[], cwd = directory) {
  const words = ["-c", script, "sh", process.execPath, program, ...args];
  const { status, stdout, stderr } = spawnSync("bash", words, { cwd, encoding: "utf8", timeout: 60_000 });
  return { status, stdout, stderr };
}

describe("a signal", { timeout: 120_000 }, () => {
  test("SIGUSR1 logs what status says, as one line, and opens no debugger", async () => {
    await using observed = await Observed.start();
    await observed.ask("PUT", "/v1/log-level", '{"level":"error"}');
    const { daemon } = observed;
    process.kill(daemon.pid, "SIGUSR1");
    const line = await daemon.waitForLog(/ status /);
    const logged = JSON.parse(/status=(\{.*\})$/.exec(line)![1]!);
    const asked = await observed.get("/v1/status");
    assert.deepEqual({ ...logged, uptimeSeconds: 0 }, { ...asked, uptimeSeconds: 0 });
    assert.ok(!daemon.linesLike(/Debugger/).length && !listensForDebuggers(daemon.pid));
    // The level is what it was.
    assert.equal((await observed.get("/v1/status")).logLevel, asked.logLevel);
  });

  for (const [name, program, args] of [
    ["vringd-blk", PROGRAM, DISK],
    ["vringd", TOOLBOX, ["top", "--once", "--interval=60", join(directory, "none")]],
  ] as const) {
    test(`SIGUSR1 leaves no debugger with ${name}, however early it comes`, async () => {
      const child = spawn(process.execPath, [program, ...args], { stdio: ["ignore", "ignore", "pipe"] });
      let errors = "";
      child.stderr.on("data", (part) => {
        errors += part;
      });
      let hasEnded = false;
      child.once("close", () => {
        hasEnded = true;
      });
      // Before Node has its own handler the signal would end any process.
      await until(() => hasEnded || catches(child.pid!, 10), "Node listens to it");
      for (let i = 0; i < 50 && !hasEnded && child.kill("SIGUSR1"); i++) await new Promise(setImmediate);
      if (program === PROGRAM) {
        await until(() => / ready /.test(errors), "it serves");
        assert.ok(!listensForDebuggers(child.pid!), errors);
        child.kill("SIGTERM");
      }
      await until(() => hasEnded, "it ends");
      assert.equal(child.signalCode, null);
    });
  }

  test("SIGUSR2 does nothing", async () => {
    await using daemon = await Vringd.start();
    process.kill(daemon.pid, "SIGUSR2");
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    await frontEnd.disk().read(0, 8);
    assert.equal(await daemon.stop(), 0);
  });

  for (const [how, script] of [
    ["a shell that ignores it", `trap '' HUP; "$@" & echo $!; wait`],
    ["nohup in a shell", `nohup "$@"`],
    ["nohup, of which nothing but the signal tells", `shift; exec env -u _ nohup "$@"`],
  ] as const) {
    test(`SIGHUP is ignored when started by ${how}`, async () => {
      const child = spawn("bash", ["-c", script, "bash", process.execPath, PROGRAM, ...DISK], {
        stdio: ["ignore", "pipe", "pipe"],
      });
      let log = "";
      for (const output of [child.stdout, child.stderr]) output.on("data", (part) => (log += part));
      await until(() => / ready /.test(log), "it serves");
      const pid = childOf(child.pid!);
      process.kill(pid, "SIGHUP");
      process.kill(pid, "SIGUSR1");
      await until(() => / status /.test(log), "it goes on");
      assert.doesNotMatch(log, /stopping/);
      process.kill(pid, "SIGTERM");
      await until(() => /stopping {2}signal=SIGTERM/.test(log), "it ends");
      await new Promise((resolve) => (child.exitCode === null ? child.once("exit", resolve) : resolve(0)));
    });
  }
});

/** The process itself, or what it runs. */
function childOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim().split(" ")[0] || pid);
}

function endGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // All have ended.
  }
}

function catches(pid: number, signal: number): boolean {
  try {
    const caught = /^SigCgt:\s*(\w+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))![1]!;
    return ((BigInt(`0x${caught}`) >> BigInt(signal - 1)) & 1n) === 1n;
  } catch {
    return false;
  }
}

describe("an output", { timeout: 600_000 }, () => {
  const printed: [program: string, args: string[]][] = [
    [PROGRAM, ["--help"]],
    [PROGRAM, ["--version"]],
    [PROGRAM, ["--print-capabilities"]],
    [TOOLBOX, ["doctor"]],
    [TOOLBOX, ["completion", "bash"]],
  ];
  for (const [program, args] of printed) {
    const name = program === PROGRAM ? "vringd-blk" : "vringd";
    test(`that nobody reads is no failure of ${name} ${args.join(" ")}`, () => {
      const { status, stderr } = shell(`"$@" | true; exit \${PIPESTATUS[0]}`, program, args);
      assert.deepEqual([status, stderr], [0, ""]);
    });

    test(`that is full is one, in a sentence, of ${name} ${args.join(" ")}`, () => {
      const { status, stderr } = shell(`"$@" >/dev/full`, program, args);
      assert.equal(stderr, `${name}: can't write to standard output: no space left on device\n`);
      assert.equal(status, 1);
    });
  }

  test("for errors that is full or closed leaves the exit status as it is", () => {
    for (const redirect of ["2>/dev/full", "2>&-", "<&- >&- 2>&-"]) {
      assert.equal(shell(`"$@" ${redirect}`, PROGRAM, ["--no-such-option"]).status, 2, redirect);
      assert.equal(
        shell(`"$@" ${redirect}`, PROGRAM, [...DISK, "--blk-file=none"].slice(1)).status,
        1,
        redirect,
      );
      assert.equal(shell(`"$@" ${redirect}`, TOOLBOX, ["nothing"]).status, 2, redirect);
    }
  });

  for (const [what, redirect] of [
    ["full", "2>/dev/full"],
    ["closed", "<&- >&- 2>&-"],
    ["a pipe that nobody reads any more", "2> >(exec true)"],
    ["a pipe whose reader has stopped", "2> >(kill -STOP $BASHPID)"],
  ] as const) {
    test(`for the log that is ${what} holds up nothing`, async () => {
      const socketPath = join(directory, "silent.sock");
      const args = [`--blk-file=memory:1M`, `--socket-path=${socketPath}`, "--log-level=debug"];
      const child = spawn(
        "bash",
        ["-c", `exec "$@" ${redirect}`, "bash", process.execPath, PROGRAM, ...args],
        {
          stdio: "ignore",
          // A group of its own: the reader of its log outlives it.
          detached: true,
        },
      );
      try {
        // Enough lines to fill a pipe.
        for (let i = 0; i < 40; i++) {
          await using frontEnd = await FrontEnd.connect(socketPath);
          await frontEnd.disk().read(0, 8);
          for (let n = 0; n < 40; n++) await frontEnd.getFeatures();
        }
        child.kill("SIGTERM");
        await until(() => child.exitCode !== null, "it ends");
        assert.equal(child.exitCode, 0);
      } finally {
        endGroup(child.pid!);
      }
    });
  }
});

/**
 * What Node itself needs, and so where our sentences begin, is known of this release. A later one ends by itself under some of
 * these limits, before it runs a line of ours, and has enough with others.
 */
const isMeasured = process.versions.node.startsWith("20.");

describe("a limit", { timeout: 300_000 }, () => {
  const SENTENCE = /^vringd-blk: [^\n]*\n$/;

  for (const limit of isMeasured ? [19, 21, 24, 28, 32, 36, 40] : [32, 36, 40]) {
    test(`of ${limit} open files ends in a sentence, or is enough`, () => {
      const { status, stderr } = shell(
        `ulimit -n ${limit}; exec timeout 20 "$@"`,
        PROGRAM,
        [...DISK, "--fd=99"].filter((arg) => !arg.startsWith("--socket-path")),
      );
      assert.match(stderr, SENTENCE);
      assert.match(stderr, /raise the limit of open files|--fd=99 is not open/);
      assert.equal(status, 1);
    });
  }

  for (const [option, limits] of [
    ["-v", [1_000_000, 6_000_000, 11_000_000, 12_000_000, 12_400_000]],
    ["-d", [200_000, 2_000_000, 4_000_000]],
  ] as const) {
    for (const limit of isMeasured ? limits : []) {
      test(`of ${limit} KiB (ulimit ${option}) ends in a sentence, before anybody can connect`, () => {
        const { status, stderr } = shell(`ulimit ${option} ${limit}; exec timeout 20 "$@"`, PROGRAM, [
          ...DISK,
          "--threads=2",
        ]);
        assert.match(stderr, SENTENCE);
        assert.match(stderr, /not enough addresses .*ulimit -v/);
        assert.equal(status, 1);
      });
    }
  }

  test("of open files that is reached while it serves refuses who comes then, and nobody later", async () => {
    await using observed = await Observed.start();
    const { daemon } = observed;
    await (await FrontEnd.connect(daemon.socketPath)).close();
    await daemon.waitForLog(/front-end left/);
    const highest = Math.max(...daemon.procEntries("fd").map(Number));
    const setLimit = (limit: number) =>
      spawnSync("prlimit", ["--pid", String(daemon.pid), `--nofile=${limit}:`]);
    const fds = daemon.procEntries("fd").map(Number);
    const lowestFree = Array.from({ length: highest + 2 }, (_, fd) => fd).find((fd) => !fds.includes(fd))!;
    setLimit(lowestFree);
    for (let i = 0; i < 3; i++) {
      const fd = connectUnix(daemon.socketPath);
      await until(
        () => daemon.linesLike(/a front-end (was refused|can't be accepted)/).length > 0,
        "it says so",
      );
      close(fd);
    }
    // Sent away, rather than left without an answer.
    await assert.rejects(
      ask(observed.controlSocket, "GET", "/v1/status"),
      (error: Error) => error.message !== "no answer",
    );
    setLimit(1024);
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    await frontEnd.disk().read(0, 8);
    assert.equal((await ask(observed.controlSocket, "GET", "/v1/status")).status, 200);
    const told = daemon.linesLike(/a front-end (was refused|can't be accepted)/).length;
    assert.ok(told < 25, `${told} lines`);
  });
});

describe("a directory", { timeout: 120_000 }, () => {
  test("that has been deleted is no reason not to start, unless a path counts from it", async () => {
    const gone = join(directory, "gone");
    mkdirSync(gone);
    await using daemon = await Vringd.start({
      under: ["sh", "-c", `cd '${gone}' && rmdir '${gone}' && exec "$@"`, "sh"],
    });
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    await frontEnd.disk().read(0, 8);
    mkdirSync(gone);
    const args = ["--blk-file=disk.img", "--socket-path=blk.sock"];
    const { status, stderr } = shell(`cd gone && rmdir ../gone && exec "$@"`, PROGRAM, args);
    assert.match(stderr, /^vringd-blk: [^\n]*the working directory is gone[^\n]*\n$/);
    assert.equal(status, 1);
  });

  test("for temporary files, home and the environment may be missing", async () => {
    await using daemon = await Vringd.start({ under: ["env", "-i", "TMPDIR=/nonexistent"] });
    await using frontEnd = await FrontEnd.connect(daemon.socketPath);
    await frontEnd.disk().read(0, 8);
  });
});

test("ps, pgrep and the lock's message know it by its name and its options", async () => {
  await using daemon = await Vringd.start();
  assert.equal(daemon.proc("comm"), "vringd-blk\n");
  const found = spawnSync("pgrep", ["-x", "vringd-blk"], { encoding: "utf8" }).stdout.split("\n");
  assert.ok(found.includes(String(daemon.pid)));
  assert.ok(daemon.proc("cmdline").startsWith(`vringd-blk --blk-file=${daemon.imagePath} `));
  const { stderr } = shell(`exec "$@"`, PROGRAM, [`--blk-file=${daemon.imagePath}`, DISK[1]!]);
  const holder = `vringd-blk --blk-file=${daemon.imagePath}`;
  assert.ok(stderr.includes(`is in use by ${holder}`.slice(0, 100)), stderr);
});

for (const [program, args, option] of [
  [PROGRAM, ["--blk-file=a", "--blk-file=b"], "--blk-file"],
  [PROGRAM, ["--num-queues=1", "--num-queues", "1"], "--num-queues"],
  [TOOLBOX, ["ctl", "x", "status", "--timeout=1", "--timeout=2"], "--timeout"],
  [TOOLBOX, ["backends", "list", "--type=gpu", "--type=fs"], "--type"],
] as const) {
  test(`${option} is refused when it is given twice (${dirname(args[0])}${args.join(" ")})`, () => {
    const { status, stderr } = shell(`exec "$@"`, program, args);
    assert.match(stderr, new RegExp(`${option} is given twice`));
    assert.equal(status, 2);
  });
}

test("a front-end that sends 3 bytes and sleeps doesn't hold up the end", async () => {
  await using daemon = await Vringd.start();
  const fd = connectUnix(daemon.socketPath);
  writeFileSync(fd, "abc");
  await daemon.waitForLog(/front-end connected/);
  assert.equal(await daemon.stop(), 0);
  close(fd);
});
