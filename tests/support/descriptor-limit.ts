// Too few descriptors, for as long as it takes to see what becomes of whoever wants one.
import { readdirSync } from "node:fs";
import { addressOf, syscall4 } from "../../host/linux/libc.ts";

const SYS_prlimit64 = 302;
const RLIMIT_NOFILE = 7;

/** The limit under which `count` more descriptors can be opened. */
export function limitWithRoomFor(count: number): number {
  const open = new Set(readdirSync("/proc/self/fd").map(Number));
  let limit = 0;
  for (let free = 0; free < count; limit++) if (!open.has(limit)) free++;
  return limit;
}

/** prlimit64(2) on this process, RLIMIT_NOFILE: the soft limit, then the hard one. */
export async function withDescriptorLimit(limit: number, action: () => Promise<void>): Promise<void> {
  const before = Buffer.alloc(16);
  syscall4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, addressOf(before));
  const lowered = Buffer.from(before);
  lowered.writeBigUInt64LE(BigInt(limit), 0);
  syscall4(SYS_prlimit64, 0, RLIMIT_NOFILE, addressOf(lowered), 0);
  try {
    await action();
  } finally {
    syscall4(SYS_prlimit64, 0, RLIMIT_NOFILE, addressOf(before), 0);
  }
}
