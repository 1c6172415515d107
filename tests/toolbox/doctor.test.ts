// `vringd doctor`: what it finds where all is well, and where the kernel, the limits or the image are not.
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, describe, test } from "node:test";
import { processes } from "../../host/toolbox/doctor/processes.ts";
import { textWidth } from "../../host/toolbox/terminal.ts";
import { BackendFiles } from "../support/backend-files.ts";
import { LimitedUser, whyNoLimitedUser } from "../support/limited-user.ts";
import { skipWithout } from "../support/skip.ts";
import { straceTo, whyNoStrace } from "../support/strace.ts";
import { onTerminal, type ToolboxOptions, toolbox } from "../support/toolbox.ts";
import { PROGRAM, Vringd } from "../support/vringd.ts";

const files = new BackendFiles();
after(() => files[Symbol.dispose]());

interface Finding {
  check: string;
  status: "ok" | "note" | "problem";
  text: string;
  advice?: string;
}

/** By check, with the exit status that must follow from them. */
async function examine(args: string[] = [], options?: ToolboxOptions): Promise<Record<string, Finding>> {
  const { status, stdout, stderr } = await toolbox(["doctor", "--json", ...args], {
    cwd: files.root,
    ...options,
  });
  assert.equal(stderr, "");
  const { canRun, findings } = JSON.parse(stdout) as { canRun: boolean; findings: Finding[] };
  const hasProblem = findings.some((finding) => finding.status === "problem");
  assert.equal(canRun, !hasProblem);
  assert.equal(status, hasProblem ? 1 : 0);
  for (const finding of findings)
    assert.equal(finding.advice === undefined, finding.status === "ok", finding.text);
  return Object.fromEntries(findings.map((finding) => [finding.check, finding]));
}

function image(name: string, byteLength: number): string {
  const path = files.write(name, "");
  truncateSync(path, byteLength);
  return path;
}

test("doctor finds that vringd can run where these tests run", async () => {
  const findings = await examine();
  assert.deepEqual(Object.keys(findings), [
    "Node",
    "kernel",
    "processor",
    "open files",
    "processes",
    "memlock",
    "huge pages",
    "/dev/kvm",
    "memfd",
    "addresses",
    "io_uring",
    "locks",
    "virgl",
  ]);
  for (const check of ["Node", "memfd", "addresses", "locks"]) assert.equal(findings[check]!.status, "ok");
  assert.deepEqual(readdirSync(files.root), []);
});

test("doctor knows how many threads a user has left", { skip: skipWithout(whyNoLimitedUser()) }, async () => {
  using user = new LimitedUser();
  assert.deepEqual(processes(user.uid, 100), {
    check: "processes",
    status: "ok",
    text: "0 threads of at most 100",
  });
  const { under, program, args } = { ...user, under: user.command() };
  await using daemon = await Vringd.start({ under, program, args: [...args, "--threads=2"] });
  const { status, text, advice } = processes(user.uid, 35);
  const threads = daemon.procEntries("task").length;
  assert.ok(threads > 3);
  assert.deepEqual([status, text], ["note", `${threads} threads of at most 35`]);
  assert.match(advice!, /raise the limit: ulimit -u, LimitNPROC=/);
  assert.equal(processes(user.uid, Number.POSITIVE_INFINITY).status, "ok");
  assert.equal(processes(0, 1).status, "ok");
});

describe("doctor looks at an image", { timeout: 120_000 }, () => {
  test("that can be served, and leaves it as it was", async () => {
    const path = image("good.img", 1 << 20);
    const before = statSync(path);
    const findings = await examine(["--image", path]);
    assert.match(findings.image!.text, /can be read and written/);
    assert.match(findings.size!.text, /^1 MiB/);
    assert.match(findings.space!.text, /^sparse: 0 bytes of 1 MiB are allocated/);
    assert.equal(findings.lock!.text, "nobody has it in use");
    const now = statSync(path);
    assert.deepEqual([now.mtimeMs, now.size, now.blocks], [before.mtimeMs, before.size, before.blocks]);
  });

  const unfit: [what: string, path: () => string, check: string, finding: RegExp][] = [
    ["that is not there", () => files.path("none.img"), "image", /no such file.*truncate -s 10G/],
    ["that is empty", () => image("empty.img", 0), "size", /it is empty.*truncate -s 10G/],
    ["that is shorter than a sector", () => image("short.img", 100), "size", /100 bytes .*truncate -s %512 /],
    [
      "that is a device, but no block device",
      () => "/dev/null",
      "image",
      /neither a file nor a block device/,
    ],
  ];
  for (const [what, path, check, expected] of unfit) {
    test(what, async () => {
      const findings = await examine(["--image", path()]);
      const { status, text, advice } = findings[check]!;
      assert.equal(status, "problem");
      assert.match(`${text} ${advice}`, expected);
    });
  }

  test("that is in use, and names who has it", async () => {
    await using daemon = await Vringd.start();
    const { lock } = await examine(["--image", daemon.imagePath]);
    assert.equal(lock!.status, "problem");
    assert.match(lock!.text, new RegExp(`in use by .* \\(process ${daemon.pid}\\)`));
    assert.equal(lock!.advice, "end that first");
  });

  test("that readers share, and says that one more may", async () => {
    await using daemon = await Vringd.start({ args: ["--read-only"] });
    const { lock } = await examine(["--image", daemon.imagePath]);
    assert.match(lock!.advice!, /share it with --read-only/);
  });

  test("that ends within a sector, and says what is not served", async () => {
    const { size } = await examine(["--image", image("odd.img", 1000)]);
    assert.equal(size!.status, "note");
    assert.match(`${size!.text} ${size!.advice}`, /the last 488 .*truncate -s %512 /);
  });

  test("that is free, without keeping vringd-blk from it meanwhile", async () => {
    await using daemon = await Vringd.start();
    await daemon.stop();
    const { lock } = await examine(["--image", daemon.imagePath]);
    assert.equal(lock!.status, "ok");
    await daemon.restart();
  });
});

/** Has the kernel answer one kind of system call with an error. */
function refusing(call: string, error: string): ToolboxOptions {
  const inject = `inject=${call}:error=${error}`;
  return { under: straceTo("/dev/null", "-e", `trace=${call}`, "-e", inject) };
}

describe("doctor, where the kernel refuses", { skip: skipWithout(whyNoStrace()), timeout: 120_000 }, () => {
  const kernels: [error: string, advice: RegExp][] = [
    ["ENOSYS", /built without it|seccomp/],
    ["EINVAL", /Linux 6\.5 or later|seccomp/],
    ["EPERM", /io_uring_disabled|seccomp|security module/],
  ];
  for (const [error, expected] of kernels) {
    test(`io_uring with ${error}, says so and that threads will do`, async () => {
      const { io_uring: found } = await examine([], refusing("io_uring_setup", error));
      assert.equal(found!.status, "note");
      assert.equal(
        found!.text,
        `can't be used: io_uring_setup: ${error}, so disks are served with threads, which is slower`,
      );
      assert.match(found!.advice!, expected);
    });
  }

  test("memfds, says that vringd can't run", async () => {
    const { memfd } = await examine([], refusing("memfd_create", "EPERM"));
    assert.equal(memfd!.status, "problem");
    assert.match(memfd!.text, /operation not permitted/);
  });

  test("locks on the image, says that nothing keeps others away", async () => {
    const path = image("unlocked.img", 1 << 20);
    const { lock } = await examine(["--image", path], {
      under: straceTo(
        "/dev/null",
        "-e",
        "trace=fcntl",
        "-e",
        "inject=fcntl:error=ENOLCK:when=1+",
        "-P",
        path,
      ),
    });
    assert.equal(lock!.status, "note");
    assert.match(lock!.text, /its file system has no locks/);
  });
});

test("doctor finds limits that are too low", async () => {
  const few = await examine([], { under: ["prlimit", "--nofile=100:100"] });
  assert.equal(few["open files"]!.status, "problem");
  const some = await examine([], { under: ["prlimit", "--nofile=500:500"] });
  assert.equal(some["open files"]!.status, "note");
});

/** The toolbox without node_modules beside it. */
function withoutLibraries(): string {
  const build = files.path("package/build");
  mkdirSync(build, { recursive: true });
  for (const name of readdirSync(dirname(PROGRAM))) {
    if (name.endsWith(".mjs")) cpSync(join(dirname(PROGRAM), name), join(build, name));
  }
  return join(build, "vringd.mjs");
}

test("doctor says when the library for system calls is missing; help and usage need none", async () => {
  const program = withoutLibraries();
  const { koffi } = await examine([], { program });
  assert.equal(koffi!.status, "problem");
  assert.match(koffi!.advice!, /npm ci/);
  for (const args of [["--help"], ["probe", "--help"], ["bench", "--help"], ["doctor", "--help"]]) {
    const { status, stdout } = await toolbox(args, { program });
    assert.equal(status, 0);
    assert.match(stdout, /^Usage: vringd /);
  }
  assert.equal((await toolbox(["bench"], { program })).status, 2);
});

for (const columns of [80, 200]) {
  test(`doctor fits a terminal of ${columns} columns`, async () => {
    const { stdout, status } = await onTerminal(columns, ["doctor", "--image", image("seen.img", 100)]);
    const lines = stdout.trimEnd().split("\r\n");
    for (const line of lines) assert.ok(textWidth(line) <= columns, line);
    assert.match(stdout, /^ok {7}Node {8}/m);
    assert.match(stdout, /^problem {2}size {8}100 bytes are less than a sector\r\n {21}-> make it longer: /m);
    assert.equal(lines.at(-1), "vringd can't run so: there is a problem.");
    assert.equal(status, 1);
  });
}

test("doctor refuses wrong usage with status 2", async () => {
  for (const args of [["stray"], ["--nonsense"], ["--image"]]) {
    const { status, stderr } = await toolbox(["doctor", ...args]);
    assert.match(stderr, /^vringd: .* \(see --help\)\n$/);
    assert.equal(status, 2);
  }
});

test("the manifest's Node is the one that doctor asks for", () => {
  const { engines } = JSON.parse(readFileSync(join(dirname(PROGRAM), "../package.json"), "utf8"));
  assert.match(engines.node, /^>=\d+\.\d+$/);
});
