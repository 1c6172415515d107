// How much memory a process has for itself alone.
import { readFileSync } from "node:fs";

/** In bytes; 0 for one that there is not (proc(5), RssAnon). */
export function privateBytesOf(pid: number | undefined): number {
  try {
    const [, kilobytes] = /^RssAnon:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1")) ?? [];
    return Number(kilobytes ?? 0) * 1024;
  } catch {
    return 0;
  }
}
