// Which descriptors stand for one open file, and further ones for it.
import * as libc from "./libc.ts";

/** Not every libc has a function for it. */
const SYS_KCMP = 312;
const KCMP_FILE = 0;
/** Of fcntl(2). */
export const F_DUPFD_CLOEXEC = 1030;

/** Whether both are descriptors of one open file, as after dup(2) or SCM_RIGHTS (kcmp(2)). What is not open is none. */
export function isSameOpenFile(a: number, b: number): boolean {
  return libc.syscall6(SYS_KCMP, process.pid, process.pid, KCMP_FILE, a, b, 0) === 0;
}

/** Whether the kernel tells: a filter of system calls may forbid it. */
export function canCompareOpenFiles(): boolean {
  return isSameOpenFile(0, 0);
}

/** Another descriptor for the same open file. */
export function duplicate(fd: number): number {
  return libc.checked("fcntl", libc.fcntl(fd, F_DUPFD_CLOEXEC, 0));
}
