// Log lines for a disk's exceptions: the first at once, then at most one a second, however many requests fail.
import { constants } from "node:os";
import type { Log } from "../log.ts";
import { resultOfError } from "./errno.ts";

const LINE_EVERY_MS = 1000;

const nameOfErrno = new Map(Object.entries(constants.errno).map(([name, value]) => [value as number, name]));

export function diskErrorLog(log: Log, now = () => performance.now()) {
  let lastMs = Number.NEGATIVE_INFINITY;
  let unsaid = 0;
  return (operation: string, error: unknown): void => {
    if (now() - lastMs < LINE_EVERY_MS) {
      unsaid++;
      return;
    }
    const errno = nameOfErrno.get(-resultOfError(error));
    const reason = error instanceof Error ? error.message : String(error);
    log.error({ operation, errno, reason, ...(unsaid > 0 && { unsaid }) }, "the disk failed a request");
    lastMs = now();
    unsaid = 0;
  };
}
