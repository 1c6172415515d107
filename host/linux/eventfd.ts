// Event file descriptors, and what may stand in for one.
import { readlinkSync } from "node:fs";
import { fileType, S_IFIFO, S_IFSOCK } from "./file-status.ts";
import * as libc from "./libc.ts";

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

const one = Buffer.alloc(8);
one.writeBigUInt64LE(1n);
const drained = Buffer.alloc(8);

export function createEventfd(): number {
  return libc.checked("eventfd", libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

/** Adds one to an eventfd of our own. A counter that is full is as good as signalled, so the result doesn't matter. */
export function signalEventfd(fd: number): void {
  libc.write(fd, one, 8);
}

/** Takes the counter to zero; true if it was more. */
export function drainEventfd(fd: number): boolean {
  return libc.read(fd, drained, 8) === 8;
}

/**
 * Whether reading this descriptor waits for a signal: an eventfd, a pipe ("Support for platforms other than Linux"), or
 * a socket, which is what user-mode-linux makes its pipes of. A regular file would be readable for ever and make its
 * reader spin.
 */
export function isNotifier(fd: number): boolean {
  const isOther = [S_IFIFO, S_IFSOCK].includes(fileType(fd));
  return isOther || readlinkSync(`/proc/self/fd/${fd}`) === "anon_inode:[eventfd]";
}
