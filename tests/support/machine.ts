// What the machine's kernel and file systems have, for tests that need it.
import { spawnSync } from "node:child_process";
import { closeSync, constants, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

/** Why O_DIRECT can't be used there; tmpfs has it since Linux 6.6. */
export function whyNoDirect(directory: string): string | undefined {
  return withFile(directory, (path) => {
    try {
      closeSync(openSync(path, constants.O_CREAT | constants.O_RDWR | constants.O_DIRECT));
      return undefined;
    } catch (error) {
      return `no O_DIRECT in ${directory}: ${(error as Error).message}`;
    }
  });
}

/** Why there can't be a sparse file of this size. */
export function whyNoFileOf(byteLength: bigint, directory: string): string | undefined {
  return withFile(directory, (path) => {
    // Node's own truncate takes no more than 2^53 bytes.
    const { status, stderr, error } = spawnSync("truncate", ["-s", String(byteLength), path], {
      encoding: "utf8",
    });
    return status === 0 ? undefined : (error?.message ?? stderr.trim());
  });
}

/** Bytes of one, by default; 0 where the kernel has none. */
export function hugePageSize(): number {
  return 1024 * Number(/^Hugepagesize:\s+(\d+)/m.exec(memoryInfo())?.[1] ?? 0);
}

/** They must have been set aside, as .ci/run does. */
export function whyNoHugePages(count: number): string | undefined {
  const free = Number(/^HugePages_Free:\s+(\d+)/m.exec(memoryInfo())?.[1] ?? 0);
  return free >= count ? undefined : `${free} of ${count} huge pages are free (/proc/sys/vm/nr_hugepages)`;
}

function memoryInfo(): string {
  return readFileSync("/proc/meminfo", "latin1");
}

function withFile<T>(directory: string, look: (path: string) => T): T {
  const path = join(directory, `vringd-look-${process.pid}`);
  try {
    return look(path);
  } finally {
    rmSync(path, { force: true });
  }
}
