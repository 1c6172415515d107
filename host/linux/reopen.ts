// The file behind a descriptor, opened anew: another open file, which may take the descriptor's number.
import { closeSync, open } from "node:fs";
import { promisify } from "node:util";
import * as libc from "./libc.ts";

/** Node has no name for it. */
const O_CLOEXEC = 0o2000000;

const openFile = promisify(open) as (path: string, flags: number) => Promise<number>;

/** `flags` of open(2). It takes the right to open the file, which a descriptor of somebody else's does not bring. */
export function reopen(fd: number, flags: number): Promise<number> {
  return openFile(`/proc/self/fd/${fd}`, flags);
}

/** What had the number is closed, and with it go its locks. Takes `fresh`. */
export function replaceDescriptor(fd: number, fresh: number): void {
  try {
    libc.checked("dup3", libc.dup3(fresh, fd, O_CLOEXEC));
  } finally {
    closeSync(fresh);
  }
}
