// What kind of file system a file lies on (statfs(2)).
import * as libc from "./libc.ts";

const TMPFS_MAGIC = 0x01021994;
export const HUGETLBFS_MAGIC = 0x958458f6;

/** struct statfs: f_type and f_bsize, 8 bytes each, come first. */
const STATFS_SIZE = 120;

/** `blockSize` in bytes: the page size of hugetlbfs. */
export function fileSystemOf(fd: number): { magic: number; blockSize: number } {
  const statfs = Buffer.alloc(STATFS_SIZE);
  libc.checked("fstatfs", libc.fstatfs(fd, statfs));
  return { magic: Number(statfs.readBigUInt64LE(0)), blockSize: Number(statfs.readBigUInt64LE(8)) };
}

/** Whether the file's I/O never waits for a device, but for what has been swapped out. */
export function isInMemory(fd: number): boolean {
  return fileSystemOf(fd).magic === TMPFS_MAGIC;
}
