// A user who has nothing else running, with a disk of its own: RLIMIT_NPROC counts what a user runs, and spares root.
import { spawnSync } from "node:child_process";
import { chownSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { reachableProgram } from "./reachable-program.ts";

/** Nobody's, and each test process has another. */
const USER = 0x1000_0000 + process.pid;

export class LimitedUser {
  readonly uid = USER;
  private readonly directory = mkdtempSync(join(tmpdir(), "vringd-test-"));
  readonly socketPath = join(this.directory, "blk.sock");
  /** vringd-blk, which this user can run, too. */
  readonly program = [process.execPath, reachableProgram()];
  readonly args: readonly string[];

  constructor() {
    const image = join(this.directory, "disk.img");
    writeFileSync(image, "");
    truncateSync(image, 64 << 20);
    for (const path of [this.directory, image]) chownSync(path, USER, USER);
    this.args = [`--blk-file=${image}`, `--socket-path=${this.socketPath}`];
  }

  /** What to run a program under, as this user, who may have so many processes and threads. */
  command(limit?: number): string[] {
    const bound = limit === undefined ? [] : ["prlimit", `--nproc=${limit}`];
    return [...bound, ...become()];
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function become(): string[] {
  const ids = [`--reuid=${USER}`, `--regid=${USER}`, "--clear-groups"];
  return ["setpriv", ...ids, "--pdeathsig", "KILL"];
}

/** Why there can be no such user here, or false. */
export function whyNoLimitedUser(): string | false {
  if (process.getuid!() !== 0) return "only root can become another user";
  const command = ["prlimit", "--nproc=64", ...become(), process.execPath, reachableProgram(), "--version"];
  const [program, ...args] = command;
  const { error, status, stderr } = spawnSync(program!, args, { encoding: "utf8" });
  if (error !== undefined) return "prlimit is not installed";
  return status === 0 ? false : `another user can't run vringd-blk here: ${stderr.trim()}`;
}
