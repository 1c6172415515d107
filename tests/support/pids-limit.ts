// A control group that holds a process to so many threads (pids.max), whichever version of cgroups there is.
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const V1 = "/sys/fs/cgroup/pids";
const V2 = "/sys/fs/cgroup";
const ROOT = existsSync(V1) ? V1 : V2;

export class PidsLimit {
  private readonly path = join(ROOT, `vringd-test-${process.pid}-${Math.random().toString(36).slice(2)}`);

  /** Throws where such groups can't be made. */
  constructor() {
    if (ROOT === V2) writeFileSync(join(V2, "cgroup.subtree_control"), "+pids");
    mkdirSync(this.path);
  }

  /** All threads of the process are in the group from now on, and it makes no more. */
  freeze(pid: number): void {
    writeFileSync(join(this.path, "cgroup.procs"), String(pid));
    writeFileSync(join(this.path, "pids.max"), "1");
  }

  thaw(): void {
    writeFileSync(join(this.path, "pids.max"), "max");
  }

  /** Once the process has ended. */
  [Symbol.dispose](): void {
    rmdirSync(this.path);
  }
}

/** Why there can be no such group here, or false. */
export function whyNoPidsLimit(): string | false {
  try {
    new PidsLimit()[Symbol.dispose]();
    return false;
  } catch (error) {
    return `the number of threads can't be limited here: ${(error as Error).message}`;
  }
}
