// `npm run sea`: the single executable, where there is nothing else.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import manifest from "../../package.json" with { type: "json" };
import { listensForDebuggers } from "../support/debugger.ts";
import { ROOT } from "../support/installation.ts";
import { skipWithout } from "../support/skip.ts";
import { Vringd } from "../support/vringd.ts";

const BUILD_TIMEOUT_MS = 240_000;

/** A Node that loads itself from a library has no place for an application. */
const FUSE = "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2";
const canHold = readFileSync(process.execPath).includes(FUSE);

describe("the single executable", {
  skip: skipWithout(!canHold && `${process.execPath} can't hold an application`),
  timeout: BUILD_TIMEOUT_MS + 120_000,
}, () => {
  let directory: string;
  let program: string;

  before(() => {
    const { status, stderr } = spawnSync(process.execPath, ["host/packaging/sea/build.mjs"], {
      cwd: ROOT,
      encoding: "utf8",
      timeout: BUILD_TIMEOUT_MS,
    });
    assert.equal(status, 0, stderr);
    directory = mkdtempSync(join(tmpdir(), "vringd-sea-"));
    program = join(directory, "vringd-blk");
    copyFileSync(join(ROOT, "build/sea/vringd-blk"), program);
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  function run(path: string, ...args: string[]) {
    const options = { cwd: directory, env: { HOME: directory }, encoding: "utf8" } as const;
    const { status, stdout, stderr } = spawnSync(path, args, options);
    return { status, stdout, stderr };
  }

  test("comes with the licences of what is in it", () => {
    const text = readFileSync(join(ROOT, "build/sea/THIRD-PARTY.txt"), "utf8");
    for (const name of ["koffi", "commander", "pino"]) assert.match(text, new RegExp(`^${name} \\d`, "m"));
  });

  test("is vringd-blk", () => {
    assert.deepEqual(run(program, "--version"), { status: 0, stdout: `${manifest.version}\n`, stderr: "" });
    assert.equal(JSON.parse(run(program, "--print-capabilities").stdout).type, "block");
    const { status, stderr } = run(program, "--engine=x");
    assert.deepEqual([status, stderr.split(":")[0]], [2, "vringd-blk"]);
  });

  test("is vringd, by that name, and makes itself known as vringd-blk", () => {
    const toolbox = join(directory, "vringd");
    symlinkSync("vringd-blk", toolbox);
    const { status, stdout, stderr } = run(toolbox, "backends", "install", "--directory=known");
    assert.deepEqual([status, stderr], [0, ""]);
    assert.ok(stdout.includes(program));
    assert.equal(run(toolbox, "backends", "check", "--binary", "known").status, 0);
    rmSync(toolbox);
    rmSync(join(directory, "known"), { recursive: true });
  });

  for (const engine of ["io_uring", "threads"]) {
    test(`serves a front-end with --engine=${engine}, and leaves nothing behind`, async () => {
      const alone = ["env", "-i", "-C", directory, "PATH=", `TMPDIR=${directory}`, program];
      await using daemon = await Vringd.start({ program: alone, args: [`--engine=${engine}`] });
      const frontEnd = await FrontEnd.connect(daemon.socketPath, { queues: 2 });
      const bytes = Buffer.alloc(4096, "all in one. ");
      await frontEnd.disk(0).write(8, bytes);
      assert.deepEqual(await frontEnd.disk(1).read(8, 8), bytes);
      frontEnd.close();
      assert.deepEqual(readdirSync(directory), ["vringd-blk"]);
      assert.equal(await daemon.stop(), 0);
    });
  }

  test("tells its status at SIGUSR1, and opens no debugger", async () => {
    await using daemon = await Vringd.start({ program: [program] });
    process.kill(daemon.pid, "SIGUSR1");
    const line = await daemon.waitForLog(/ status /);
    assert.equal(JSON.parse(/status=(\{.*\})$/.exec(line)![1]!).pid, daemon.pid);
    assert.deepEqual(daemon.linesLike(/Debugger/), []);
    assert.ok(!listensForDebuggers(daemon.pid));
    assert.equal(await daemon.stop(), 0);
  });

  test("starts as the package does, in the time that it prints", async (t) => {
    for (const [name, chosen] of [
      ["executable", [program]],
      ["package", undefined],
    ] as const) {
      const times: number[] = [];
      for (let round = 0; round < 5; round++) {
        const start = performance.now();
        await using _daemon = await Vringd.start({
          ...(chosen && { program: chosen }),
          readyWhen: "accepting",
        });
        times.push(performance.now() - start);
      }
      t.diagnostic(
        `${name}, start to accept: ${times
          .map(Math.round)
          .sort((a, b) => a - b)
          .join(", ")} ms`,
      );
    }
  });
});
