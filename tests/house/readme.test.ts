// The session of the README: its commands, as they stand there, one after the other.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, delimiter, join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { ROOT } from "../support/installation.ts";
import { until } from "../support/until.ts";
import { PROGRAM } from "../support/vringd.ts";

/** What a test has to say that a reader does by hand: to leave, and to be content with a second. */
const ENOUGH: Readonly<Record<string, string>> = { "vringd top": " --once", "vringd bench": " --seconds=1" };

/** One reader's machine: programs in its PATH, and a /run of its own. */
class Reader {
  readonly directory = mkdtempSync(join(tmpdir(), "vringd-readme-"));
  private readonly env: NodeJS.ProcessEnv;

  constructor() {
    const bin = join(this.directory, "bin");
    mkdirSync(bin);
    mkdirSync(join(this.directory, "run"));
    for (const name of readdirSync(join(PROGRAM, "..")).filter((name) =>
      /^vringd(-[a-z\d]+)?\.mjs$/.test(name),
    )) {
      symlinkSync(join(PROGRAM, "..", name), join(bin, basename(name, ".mjs")));
    }
    const PATH = `${bin}${delimiter}${process.env.PATH}`;
    this.env = { ...process.env, PATH, XDG_RUNTIME_DIR: join(this.directory, "run") };
  }

  private get options() {
    return { cwd: this.directory, env: this.env };
  }

  private here(command: string): string {
    return command.replaceAll("/run/", `${this.directory}/run/`);
  }

  /** In a process group of its own, with all that it starts. */
  start(script: string) {
    return spawn("sh", ["-ec", this.here(script)], { ...this.options, stdio: "ignore", detached: true });
  }

  async run(command: string): Promise<string> {
    return (await promisify(execFile)("sh", ["-ec", this.here(command)], this.options)).stdout;
  }
}

const section = readFileSync(join(ROOT, "README.md"), "utf8")
  .split(/^## /m)
  .find((part) => part.startsWith("One session\n"))!;
const script = /```sh\n(.*?)```/s.exec(section)![1]!;
const commands = [...section.matchAll(/^\| (`vringd .*?) \|/gm)].flatMap(([, cell]) =>
  [...cell!.matchAll(/`([^`]+)`/g)].map(([, command]) => command!),
);

/** What the output of a command, by its beginning, says. */
const SAYS: Readonly<Record<string, RegExp>> = {
  "vringd probe": /capacity +10 GiB/,
  "vringd bench": /^reads /m,
  "vringd ls": /vm1/,
  "vringd top": /vm1/,
  "vringd ctl vm1 status": /10 GiB/,
  "vringd ctl vm1 resize": /sizeBytes +21474836480/,
  "vringd ctl vm1 limits": /iops-total +500/,
  "vringd ctl vm1 upgrade": /Process \d+ serves/,
  "vringd doctor": /io_uring/,
};

function endGroup(leader: number): void {
  try {
    process.kill(-leader, "SIGKILL");
  } catch {
    // It has ended.
  }
}

test("the session of the README", async () => {
  const reader = new Reader();
  const daemon = reader.start(script);
  const ended = once(daemon, "exit");
  try {
    await until(() => existsSync(join(reader.directory, "run/vm1.sock")), "the README's daemon listens");
    assert.ok(commands.length >= Object.keys(SAYS).length);
    for (const command of commands) {
      const name = Object.keys(SAYS).find((beginning) => command.startsWith(beginning));
      assert.ok(name, `${command} has no test`);
      assert.match(await reader.run(command + (ENOUGH[name] ?? "")), SAYS[name]!, command);
    }
    await reader.run("vringd ctl vm1 quit");
    await ended;
  } catch (error) {
    endGroup(daemon.pid!);
    throw error;
  } finally {
    rmSync(reader.directory, { recursive: true });
  }
});
