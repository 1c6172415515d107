// What kind of file system a file lies on (statfs(2)).
import { fileType, S_IFREG } from "./file-status.ts";
import * as libc from "./libc.ts";

const TMPFS_MAGIC = 0x01021994;
export const HUGETLBFS_MAGIC = 0x958458f6;

/** struct statfs: f_type and f_bsize, 8 bytes each, come first; f_fsid, 8 bytes, at 56. */
const STATFS_SIZE = 120;
const FSID = 56;

/** FS_IOC_GETFSUUID of Linux 6.9: the length, u8, and up to 16 bytes. */
const FS_IOC_GETFSUUID = 0x80111500;

export interface FileSystem {
  magic: number;
  /** In bytes: the page size of hugetlbfs. */
  blockSize: number;
  /** In hexadecimal; zeroes where there is none. On most file systems it is made from their UUID. */
  id: string;
}

export function fileSystemOf(fd: number): FileSystem {
  const statfs = Buffer.alloc(STATFS_SIZE);
  libc.checked("fstatfs", libc.fstatfs(fd, statfs));
  return {
    magic: Number(statfs.readBigUInt64LE(0)),
    blockSize: Number(statfs.readBigUInt64LE(8)),
    id: statfs.toString("hex", FSID, FSID + 8),
  };
}

/** The UUID of the file system that the file lies on, in hexadecimal, where the kernel tells it. */
export function fileSystemUuid(fd: number): string | undefined {
  const answer = Buffer.alloc(17);
  if (libc.ioctl(fd, FS_IOC_GETFSUUID, answer) !== 0) return undefined;
  return answer.toString("hex", 1, 1 + answer[0]!);
}

/**
 * Whether the file's I/O never waits for a device, but for what has been swapped out. A device's node may lie in memory, as
 * all of /dev does: that says nothing of the device.
 */
export function isInMemory(fd: number): boolean {
  return fileType(fd) === S_IFREG && fileSystemOf(fd).magic === TMPFS_MAGIC;
}
