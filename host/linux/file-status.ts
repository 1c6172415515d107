// What kind of file a descriptor stands for, and how large it is (statx(2)).
//
// Not by node:fs, whose functions know only descriptors of its own in some runtimes: Deno's refuse those that came by a
// socket, or from a system call.
import * as libc from "./libc.ts";

const AT_EMPTY_PATH = 0x1000;
const STATX_TYPE = 1;
const STATX_SIZE = 0x200;

/** struct statx: stx_mode is u16, stx_size u64. */
const STRUCT_SIZE = 256;
const MODE = 28;
const SIZE = 40;

const S_IFMT = 0o170000;
export const S_IFIFO = 0o010000;
export const S_IFSOCK = 0o140000;

function statusOf(fd: number): Buffer {
  const status = Buffer.alloc(STRUCT_SIZE);
  libc.checked("statx", libc.statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE, status));
  return status;
}

/** In bytes. */
export function fileSize(fd: number): bigint {
  return statusOf(fd).readBigUInt64LE(SIZE);
}

/** S_IF*. */
export function fileType(fd: number): number {
  return statusOf(fd).readUInt16LE(MODE) & S_IFMT;
}
