// The daemon's system calls, as strace sees them.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
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

/** As long as `action` takes, each of these system calls of a running process fails, in all its threads; or those on a file. */
export async function failing<T>(
  pid: number,
  call: string,
  error: string,
  action: () => Promise<T>,
  file?: string,
): Promise<T> {
  const inject = `inject=${call}:error=${error}`;
  const options = ["-f", "-o", "/dev/null", "-e", `trace=${call}`, "-e", inject, "-p", String(pid)];
  if (file !== undefined) options.push("-P", file);
  const strace = spawn("strace", options, { stdio: ["ignore", "ignore", "pipe"] });
  const exit = once(strace, "exit");
  // It says so once for all threads.
  await once(strace.stderr, "data");
  try {
    return await action();
  } finally {
    strace.kill("SIGINT");
    await exit;
  }
}

/** Lines of a trace so far, each "tid call(arguments...". */
export function traceLines(path: string): string[] {
  return readFileSync(path, "latin1").split("\n");
}
