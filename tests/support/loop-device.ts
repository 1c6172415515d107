// Loop devices on files of a test's own, in a directory that goes with them.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** The output of a command that must succeed. */
export function run(program: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args);
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${error?.message ?? stderr}`);
  return String(stdout).trim();
}

/** Undefined if loop devices can be made here. */
export function loopUnavailable(): string | undefined {
  try {
    using _device = new LoopDevice();
    return undefined;
  } catch (error) {
    return `no loop devices: ${(error as Error).message}`;
  }
}

export class LoopDevice {
  readonly directory = mkdtempSync(join(tmpdir(), "vringd-loop-"));
  readonly file = join(this.directory, "backing.img");
  /** Such as /dev/loop0. */
  readonly path: string;

  /** `args`: losetup's. */
  constructor(byteLength = 16 << 20, ...args: readonly string[]) {
    writeFileSync(this.file, "");
    truncateSync(this.file, byteLength);
    try {
      this.path = run("losetup", "--find", "--show", ...args, this.file);
    } catch (error) {
      rmSync(this.directory, { recursive: true });
      throw error;
    }
  }

  [Symbol.dispose](): void {
    run("losetup", "--detach", this.path);
    rmSync(this.directory, { recursive: true });
  }
}
