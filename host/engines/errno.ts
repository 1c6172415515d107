// What an exception of a disk means as the result of a request: a negated errno, as the kernel gives it.
import { constants } from "node:os";

const ERRNO_MAX = 4095;

/** `error.errno` of a system error, of either sign; else `error.code`, such as "ENOSPC"; else EIO. */
export function resultOfError(error: unknown): number {
  const { errno, code } = (error ?? {}) as { errno?: unknown; code?: unknown };
  if (typeof errno === "number" && errno !== 0 && Math.abs(errno) <= ERRNO_MAX) return -Math.abs(errno);
  const known = typeof code === "string" ? (constants.errno as Record<string, number>)[code] : undefined;
  return -(known ?? constants.errno.EIO);
}
