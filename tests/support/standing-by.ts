// A daemon with a standby: whoever of its processes serves, and who would take over.
import { readFileSync } from "node:fs";
import { until } from "./until.ts";
import { isAlive } from "./upgraded.ts";
import type { Vringd } from "./vringd.ts";

const READY = / a standby is ready +standby=(\d+)/;

/** Every standby that was seen. None of them is a child of ours. */
const seen = new Set<number>();
process.on("exit", () => {
  for (const pid of seen) end(pid, "SIGKILL");
});

export class StandingBy {
  /** Of the process that serves. */
  pid: number;
  private next: number | undefined;

  constructor(readonly daemon: Vringd) {
    this.pid = daemon.pid;
  }

  get log(): readonly string[] {
    return this.daemon.log;
  }

  /** Of the process that takes over when the one that serves dies, once it can. */
  async standby(): Promise<number> {
    this.next = await until(() => {
      const last = this.pids.at(-1);
      return last !== this.pid && last !== undefined && isAlive(last) && last;
    }, "a standby is ready");
    seen.add(this.next);
    return this.next;
  }

  /** At once; who serves next is the standby that was waited for before. */
  async kill9(): Promise<void> {
    const { pid: died, next } = this;
    end(died, "SIGKILL");
    if (next === undefined || next === died) throw new Error("nobody is known to take over");
    this.pid = next;
    await until(() => !isAlive(died), "the process that served dies");
  }

  async stop(): Promise<number> {
    end(this.pid, "SIGTERM");
    await until(() => this.processes.length === 0, "all processes end");
    await this.daemon.end();
    return 0;
  }

  /** Those that live. */
  get processes(): number[] {
    return [...new Set([this.daemon.pid, this.pid, ...this.pids])].filter(isAlive);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pid of this.processes) end(pid, "SIGKILL");
    await this.daemon[Symbol.asyncDispose]();
  }

  /** In the order in which they were ready. */
  private get pids(): number[] {
    return this.daemon.log.flatMap((line) => READY.exec(line)?.slice(1).map(Number) ?? []);
  }
}

/** How the kernel knows a process: its command line. */
export function commandLine(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").trim();
}

function end(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}
