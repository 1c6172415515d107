// The limits that hold for us, and so for a daemon that is started the same way.
import { readFileSync } from "node:fs";

/** The soft one, by its name in /proc/self/limits. */
export function limitOf(name: string): number {
  const limit = new RegExp(`^${name} +(\\S+)`, "m").exec(readFileSync("/proc/self/limits", "latin1"))?.[1];
  return limit === "unlimited" ? Number.POSITIVE_INFINITY : Number(limit);
}
