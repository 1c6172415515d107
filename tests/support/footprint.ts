// What a daemon holds, as /proc shows it.
import { until } from "./until.ts";
import type { Vringd } from "./vringd.ts";

export interface Footprint {
  fds: number;
  threads: number;
  mappings: number;
  guestMappings: number;
  /** Of libraries, of guests, of inflight regions. Heaps have none. */
  fileMappings: number;
  rssKiB: number;
}

export function footprint(daemon: Vringd): Footprint {
  const mappings = daemon.proc("maps").trimEnd().split("\n");
  return {
    fds: daemon.procEntries("fd").length,
    threads: ownThreads(daemon),
    mappings: mappings.length,
    guestMappings: mappings.filter((line) => line.includes("memfd:guest")).length,
    fileMappings: mappings.filter((line) => / \d\d:\d\d [1-9]/.test(line)).length,
    rssKiB: daemon.memoryKiB("VmRSS"),
  };
}

/** Without those that io_uring keeps for a while for calls that would block it. */
function ownThreads(daemon: Vringd): number {
  return daemon.procEntries("task").filter((tid) => {
    try {
      return !daemon.proc(`task/${tid}/comm`).startsWith("iou-");
    } catch {
      return false; // It has just ended.
    }
  }).length;
}

/** Resolves when no front-end is connected. Where many come, a line tells of those before it that have none. */
export async function allHaveLeft(daemon: Vringd): Promise<void> {
  const leftOut = (line: string) => Number(/ leftOut=(\d+)/.exec(line)?.[1] ?? 0);
  const count = (pattern: RegExp) =>
    daemon.linesLike(pattern).reduce((sum, line) => sum + 1 + leftOut(line), 0);
  await until(() => count(/front-end connected/) === count(/front-end left/), "all front-ends have left");
}

/** Once the last front-end is gone. */
export async function settledFds(daemon: Vringd): Promise<number> {
  await allHaveLeft(daemon);
  return daemon.procEntries("fd").length;
}
