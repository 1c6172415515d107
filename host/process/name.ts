// The name by which ps, top and pgrep show a program: ours, not that of the interpreter that runs it.
import { writeFileSync } from "node:fs";

/**
 * The whole command line without the interpreter, since its options say which disk it is; `name` alone for pgrep -x. `role`: of a process
 * that has the same command line as another.
 */
export function nameProcess(name: string, role?: string): void {
  process.title = [name, ...(role === undefined ? [] : [role]), ...process.argv.slice(2)].join(" ");
  try {
    // Setting the title has put its first 15 bytes there.
    writeFileSync("/proc/self/comm", name);
  } catch {
    // Without /proc nobody looks, either.
  }
}
