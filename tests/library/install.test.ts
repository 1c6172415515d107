// The package as a newcomer has it: installed by npm, used from elsewhere, by someone who may write nothing in it.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { DEVICES } from "../../host/devices/index.ts";
import { FrontEnd } from "../../host/front-end/front-end.ts";
import manifest from "../../package.json" with { type: "json" };
import { Installation, unprivileged } from "../support/installation.ts";
import { skipWithout, whyNoProgram } from "../support/skip.ts";
import { Vringd } from "../support/vringd.ts";

/** Nobody else may read what is written under it. */
const UMASK_077 = ["sh", "-c", 'umask 077; exec "$@"', "sh"];
const NOBODY = 65534;
/** For programs to say what they can do, on a busy machine. */
const PATIENT = ["--timeout=60"];

describe("the installed package", { timeout: 900_000 }, () => {
  let installation: Installation;
  let home: string;

  before(() => {
    installation = Installation.make();
    chmodSync(installation.prefix, 0o755);
    spawnSync("chmod", ["-R", "a-w", installation.prefix]);
    home = mkdtempSync(join(tmpdir(), "vringd-home-"));
    if (unprivileged().length > 0) chownSync(home, NOBODY, NOBODY);
  });
  after(() => {
    spawnSync("chmod", ["-R", "u+w", installation.prefix]);
    installation.remove();
    rmSync(home, { recursive: true });
  });

  function run(program: string, ...args: string[]) {
    const command = [...unprivileged(), ...UMASK_077, installation.program(program), ...args];
    const { status, stdout, stderr } = spawnSync(command[0]!, command.slice(1), {
      cwd: home,
      env: { PATH: process.env.PATH, HOME: home, XDG_CONFIG_HOME: home, XDG_DATA_DIRS: join(home, "none") },
      encoding: "utf8",
    });
    return { status, stdout, stderr };
  }

  test("tells its version and its capabilities", () => {
    for (const program of ["vringd", "vringd-blk"] as const)
      assert.deepEqual(run(program, "--version"), { status: 0, stdout: `${manifest.version}\n`, stderr: "" });
    const { status, stdout } = run("vringd-blk", "--print-capabilities");
    assert.deepEqual([status, JSON.parse(stdout).type], [0, "block"]);
  });

  for (const type of ["block", "console", "input", "rng", "vsock"]) {
    test(`makes its ${type} known, is found, and is sound`, async () => {
      const { name, capabilities } = await DEVICES[type]!();
      const installed = run("vringd", "backends", "install", type);
      assert.deepEqual([installed.status, installed.stderr], [0, ""]);
      const path = join(home, `qemu/vhost-user/50-${name}.json`);
      const { binary } = JSON.parse(readFileSync(path, "utf8"));
      assert.equal(binary, installation.program(name));

      const { status, stdout } = run("vringd", "backends", "show", "--json", `--type=${type}`, ...PATIENT);
      assert.equal(status, 0);
      const shown = JSON.parse(stdout);
      assert.deepEqual([shown.path, shown.capabilities], [path, capabilities]);
      assert.equal(run("vringd", "backends", "check", "--binary", path, ...PATIENT).status, 0);
      assert.equal(run("vringd", "backends", "uninstall", type).status, 0);
      assert.ok(!existsSync(path));
    });
  }

  test("completes its options", () => {
    const { status, stdout } = run("vringd", "completion", "bash");
    assert.equal(status, 0);
    assert.equal(spawnSync("bash", ["-n"], { input: stdout }).status, 0);
  });

  test("serves a front-end, and ends with status 0", async () => {
    const program = ["env", "-C", home, ...UMASK_077, installation.program("vringd-blk")];
    await using daemon = await Vringd.start({ program });
    const frontEnd = await FrontEnd.connect(daemon.socketPath);
    const bytes = Buffer.alloc(4096, "as a newcomer would. ");
    await frontEnd.disk().write(8, bytes);
    assert.deepEqual(await frontEnd.disk().read(8, 8), bytes);
    frontEnd.close();
    // The mode of a socket is 0777 without the umask.
    assert.equal(statSync(daemon.socketPath).mode & 0o777, 0o700);
    assert.equal(await daemon.stop(), 0);
    assert.deepEqual(daemon.imageBytes(8, 8), bytes);
  });

  test("has a page for man", { skip: skipWithout(whyNoProgram("man")) }, () => {
    const manual = join(installation.prefix, "share/man");
    const found = spawnSync("man", ["-M", manual, "-w", "vringd-blk"], { encoding: "utf8" });
    assert.equal(found.stdout, `${installation.path("build/man/vringd-blk.1")}\n`);
    const page = spawnSync("man", ["-l", join(manual, "man1/vringd.1")], {
      encoding: "utf8",
      env: { PATH: process.env.PATH, MANPAGER: "cat", MANWIDTH: "80" },
    });
    assert.match(page.stdout, /^NAME\n +vringd - /m);
  });

  test("has units that systemd understands", { skip: skipWithout(whyNoProgram("systemd-analyze")) }, () => {
    const units = join(home, "units");
    mkdirSync(units);
    cpSync(installation.path("build/systemd"), units, { recursive: true });
    for (const program of Object.keys(manifest.bin).filter((name) => name !== "vringd")) {
      const service = join(units, `${program}@.service`);
      const text = readFileSync(service, "utf8");
      // systemd looks for it in /usr/local/bin and /usr/bin, where it is not installed here.
      assert.match(text, new RegExp(`^ExecStart=${program} `, "m"));
      const installed = `ExecStart=${installation.program(program)} `;
      writeFileSync(service, text.replace(`ExecStart=${program} `, installed));
      const args = ["verify", "--man=no", service, join(units, `${program}@.socket`)];
      const { status, stderr } = spawnSync("systemd-analyze", args, { encoding: "utf8" });
      const complaints = stderr.split("\n").filter((line) => line.includes("vringd"));
      assert.deepEqual([status, complaints], [0, []]);
    }
  });
});
