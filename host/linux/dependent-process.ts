// A process that is there for another one alone: it ends with it, and goes before it where memory is short.
import { writeFileSync } from "node:fs";
import { prctl } from "./libc.ts";

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;
const OOM_SCORE_MAX = "1000";

/** This process ends as soon as the thread that has started it does, even if it is busy. */
export function dependOnParent(): void {
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  try {
    writeFileSync("/proc/self/oom_score_adj", OOM_SCORE_MAX);
  } catch {
    // Where /proc can't be written, the kernel chooses by size, which is this process as a rule.
  }
}
