// Files that live in memory (tmpfs). Their I/O never waits for a device, and the kernel can be told so.
import { constants } from "node:fs";
import { fileSystemOf, TMPFS_MAGIC } from "./file-system.ts";
import * as libc from "./libc.ts";

const F_GETFL = 3;
const F_SETFL = 4;

/**
 * Has io_uring do the I/O of a file on tmpfs at once. It would hand each request to a thread of its own, since tmpfs does
 * not claim that it never waits: O_NONBLOCK says so for reads, O_DIRECT for writes. There is no cache to go past.
 * Measured with reads of 4 KiB: from 3.4 to 2.1 us of CPU at depth 32, from 17 to 6.5 us at depth 1.
 */
export function neverWaitsIfInMemory(fd: number): void {
  if (fileSystemOf(fd).magic !== TMPFS_MAGIC) return;
  const flags = libc.checked("fcntl", libc.fcntl(fd, F_GETFL, 0)) | constants.O_NONBLOCK;
  // Before Linux 6.6 tmpfs has no O_DIRECT, and writes go on as they did.
  if (libc.fcntl(fd, F_SETFL, flags | constants.O_DIRECT) === 0) return;
  libc.checked("fcntl", libc.fcntl(fd, F_SETFL, flags));
}
