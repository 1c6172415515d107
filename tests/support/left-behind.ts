// A run of tests leaves no process behind: each carries the run's mark in its environment, however far from its parents it is.
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const MARK = "VRINGD_TEST_RUN";
/** Those that end by themselves once their tests are over, as guests that are being killed. */
const GRACE_MS = 5_000;

/** Everything that is started from here on belongs to this run. */
export function markRun(): void {
  process.env[MARK] = `${process.pid}-${Date.now()}`;
}

/** Ends what is left of this run; gives its command lines. */
export async function endLeftBehind(): Promise<string[]> {
  const end = performance.now() + GRACE_MS;
  while (findMarked().length > 0 && performance.now() < end) await sleep(100);
  return findMarked().map((pid) => {
    const command = commandOf(pid);
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // Gone meanwhile.
    }
    return `${pid}: ${command}`;
  });
}

function findMarked(): number[] {
  const mark = `${MARK}=${process.env[MARK]}`;
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid)
    .filter((pid) => readWords(pid, "environ").includes(mark));
}

function commandOf(pid: number): string {
  return readWords(pid, "cmdline").join(" ").trim().slice(0, 300);
}

/** Words that end with NUL; none of a process that is a zombie, another user's or gone. */
function readWords(pid: number, file: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8").split("\0");
  } catch {
    return [];
  }
}
