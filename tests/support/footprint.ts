// What a daemon holds, as /proc shows it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { until } from "./until.ts";
import type { Vringd } from "./vringd.ts";

/** V8 lets garbage lie for tens of MiB otherwise, among which nothing that is left behind would show. */
export const SMALL_HEAP = ["env", "NODE_OPTIONS=--max-semi-space-size=1"];
/** Heaps and pools may grow by this much all the same. */
const RSS_GROWTH_KIB = 56 << 10;

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
    fileMappings: mappings.filter((line) => / \d\d:\d\d [1-9]/.test(line) && !isForSignals(line)).length,
    rssKiB: daemon.memoryKiB("VmRSS"),
  };
}

/** A context of io_setup(2), which a thread keeps for a while after it has signalled a peer (host/linux/peer-notifier.ts). */
function isForSignals(mapping: string): boolean {
  return mapping.includes("/[aio]");
}

/** Throws where a daemon with SMALL_HEAP holds more than it did, though nobody is connected. */
export function holdsNoMore(daemon: Vringd, clean: Footprint): void {
  const now = footprint(daemon);
  assert.equal(now.fds, clean.fds, "descriptors");
  assert.equal(now.threads, clean.threads, "threads");
  assert.equal(now.guestMappings, 0, "guest memory");
  assert.equal(now.fileMappings, clean.fileMappings, "mapped files");
  assert.ok(now.rssKiB < clean.rssKiB + RSS_GROWTH_KIB, `${now.rssKiB} KiB resident`);
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

/**
 * Resolves when no front-end is connected. Where many come, a line tells of those before it that have none; as the latest
 * may have none yet, the daemon's sockets are looked at, too.
 */
export async function allHaveLeft(daemon: Vringd): Promise<void> {
  const leftOut = (line: string) => Number(/ leftOut=(\d+)/.exec(line)?.[1] ?? 0);
  const count = (pattern: RegExp) =>
    daemon.linesLike(pattern).reduce((sum, line) => sum + 1 + leftOut(line), 0);
  await until(() => !hasConnection(daemon.socketPath), "all connections are closed");
  await until(() => count(/front-end connected/) === count(/front-end left/), "all front-ends have left");
}

/** Whether a socket that listens at the path has been connected to, and that connection is open still. */
function hasConnection(socketPath: string): boolean {
  const CONNECTED = "03";
  return readFileSync("/proc/net/unix", "utf8")
    .split("\n")
    .map((line) => line.split(/\s+/))
    .some((fields) => fields[5] === CONNECTED && fields[7] === socketPath);
}

/** Once the last front-end is gone. */
export async function settledFds(daemon: Vringd): Promise<number> {
  await allHaveLeft(daemon);
  return daemon.procEntries("fd").length;
}
