// Whether this user may have the threads that a daemon takes (RLIMIT_NPROC counts all of a user's). Node ends by SIGABRT at its start
// where it gets none, before any code of ours can say why, so it is said here.
import { readdirSync, statSync } from "node:fs";
import { shownNames } from "../../process/shown.ts";
import { type Finding, note, ok } from "./finding.ts";
import { limitOf } from "./limits.ts";

/** Node's own, workers for as many cores as most machines have, and those of io_uring. */
const THREADS_OF_A_DAEMON = 32;

export function processes(uid = process.geteuid!(), limit = limitOf("Max processes")): Finding {
  const check = "processes";
  // The kernel lets root have as many as there is room for.
  if (uid === 0 || limit === Number.POSITIVE_INFINITY) return ok(check, "no limit");
  const used = threadsOf(uid);
  const text = `${used} threads of at most ${limit}`;
  if (limit - used >= THREADS_OF_A_DAEMON) return ok(check, text);
  return note(
    check,
    text,
    `a daemon takes up to ${THREADS_OF_A_DAEMON}, and Node ends by SIGABRT where it gets fewer than ten: raise the limit: ulimit -u, LimitNPROC=`,
  );
}

function threadsOf(uid: number): number {
  const own = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && isOwn(`/proc/${name}`, uid));
  return own.reduce((sum, pid) => sum + shownNames(`/proc/${pid}/task`).length, 0);
}

function isOwn(directory: string, uid: number): boolean {
  return statSync(directory, { throwIfNoEntry: false })?.uid === uid;
}
