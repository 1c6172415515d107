// The daemon's system calls, as strace sees them.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** Why strace can't be used here, or false. */
export function whyNoStrace(): string | false {
  const { error, status } = spawnSync("strace", ["-D", "-o", "/dev/null", "true"]);
  if (error !== undefined) return "strace is not installed";
  return status === 0 ? false : "strace may not trace here";
}

/** What to run the daemon under. With -D the tracer is the one that is forked off, so the pid stays the daemon's. */
export function straceTo(path: string, ...options: string[]): string[] {
  return ["strace", "-D", "-f", ...options, "-o", path];
}

/** Lines of a trace so far, each "tid call(arguments...". */
export function traceLines(path: string): string[] {
  return readFileSync(path, "latin1").split("\n");
}
