// Opens a block device for ourselves alone. The kernel gives each device to one exclusive user at a time: a file system that is
// mounted, swap, a layer on top of it, a program that asked for it (open(2), O_EXCL).
import { closeSync, constants, openSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { StartError } from "../../errors.ts";
import { findUserOf, hostUseOf } from "../../linux/device-users.ts";
import type { DeviceNumber } from "../../linux/file-status.ts";
import { choice } from "../../process/choices.ts";
import type { Log } from "../../process/log.ts";
import { filePath } from "../../process/paths.ts";

/** One that was told to end needs a moment. */
const PATIENCE_MS = 700;
const RETRY_MS = 25;

export interface Claim {
  path: string;
  number: DeviceNumber;
  /** Open it although others have it. */
  force: boolean;
  /** Keep it to ourselves from now on. */
  keep: boolean;
  timeoutMs: number;
  stopping: AbortSignal;
}

/**
 * `flags` of open(2). What a killed predecessor has handed to the kernel keeps the device as it keeps the image's lock, so
 * that is waited for; who uses it for longer is named in a StartError.
 */
export async function openClaimed(claim: Claim, flags: number, log: Log): Promise<number> {
  const { path, force, timeoutMs, stopping } = claim;
  const startMs = performance.now();
  for (let isSaid = false; ; ) {
    const fd = tryToClaim(path, flags);
    if (fd !== undefined) return claim.keep ? fd : sharedAgain(fd, flags);
    const use = hostUseOf(claim.number);
    if (force) return openInSpite(path, flags, use, log);
    if (use !== undefined) throw inUse(path, use);
    const waitedMs = performance.now() - startMs;
    if (waitedMs > PATIENCE_MS) {
      refuseForProcess(claim);
      if (waitedMs > timeoutMs) throw inUse(path, "held exclusively, by nothing that can be seen from here");
      if (!isSaid)
        log.info({ file: path, forSeconds: timeoutMs / 1000 }, "waiting for the device, which is held");
      isSaid = true;
    }
    await sleep(RETRY_MS * (1 + Math.random()), undefined, { signal: stopping });
  }
}

/** Undefined if somebody has it. */
function tryToClaim(path: string, flags: number): number | undefined {
  try {
    return openSync(filePath(path), flags | constants.O_EXCL);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EBUSY") return undefined;
    throw error;
  }
}

/** The device is free; others may come. */
function sharedAgain(fd: number, flags: number): number {
  try {
    return openSync(`/proc/self/fd/${fd}`, flags);
  } finally {
    closeSync(fd);
  }
}

function openInSpite(path: string, flags: number, use: string | undefined, log: Log): number {
  log.warn({ file: path, ...(use && { use }) }, "others have the device, and it is served all the same");
  return openSync(filePath(path), flags);
}

function refuseForProcess({ path, number }: Claim): void {
  const user = findUserOf(number);
  if (user !== undefined) throw inUse(path, `in use by ${user.name} (process ${user.pid})`);
}

/** `use`: in words that follow "is". */
export function inUse(path: string, use: string): StartError {
  const ways = `share it with ${choice("readOnly")}, or give ${choice("force")} to write to it all the same`;
  return new StartError(`${path} is ${use}; end that first, ${ways}`);
}
