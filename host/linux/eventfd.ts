// Event file descriptors, and what may stand in for one.
import { EFAULT } from "./errno.ts";
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

/** What has no type of file at all: eventfds, and other inodes of the kernel's own such as those of epoll. */
const NO_TYPE = 0;
const NOWHERE = 0;

/**
 * Whether reading this descriptor waits for a signal: an eventfd, a pipe ("Support for platforms other than Linux"), or
 * a socket, which is what user-mode-linux makes its pipes of. A regular file would be readable for ever and make its
 * reader spin.
 */
export function isNotifier(fd: number): boolean {
  const type = fileType(fd);
  return type === S_IFIFO || type === S_IFSOCK || (type === NO_TYPE && isEventfd(fd));
}

/**
 * Of all that has no type, only an eventfd takes a write of eight bytes: EFAULT says that it tried to read them. Nothing is
 * written, and no file system for processes is needed.
 */
function isEventfd(fd: number): boolean {
  return libc.writeAt(fd, NOWHERE, 8) === -1 && libc.errno() === EFAULT;
}
