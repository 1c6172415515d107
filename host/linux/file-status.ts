// What kind of file a descriptor stands for, how large it is, and which one it is (statx(2)).
//
// Not by node:fs, whose functions know only descriptors of its own in some runtimes: Deno's refuse those that came by a
// socket, or from a system call.
import * as libc from "./libc.ts";

const AT_EMPTY_PATH = 0x1000;
const STATX_BASIC_STATS = 0x7ff;
const STATX_BTIME = 0x800;

/**
 * struct statx: mask u32, mode u16 at 28, ino u64 at 32, size u64 at 40, btime at 80 as seconds i64 and nanoseconds u32, then
 * major and minor, u32 each, of the device that the file is (128) and of the one that it lies on (136).
 */
const STRUCT_SIZE = 256;
const MODE = 28;
const INODE = 32;
const SIZE = 40;
const BIRTH = 80;
const REPRESENTS = 128;
const LIES_ON = 136;

const S_IFMT = 0o170000;
export const S_IFIFO = 0o010000;
export const S_IFBLK = 0o060000;
export const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;
export const S_IFSOCK = 0o140000;

/** "8:1": major and minor, as /sys/dev/block and mountinfo have them. */
export type DeviceNumber = string;

export interface FileStatus {
  /** S_IF*. */
  type: number;
  /** In bytes; 0 for a device. */
  size: bigint;
  inode: bigint;
  /** When the file was made, in ns since 1970; 0 where the file system doesn't say. */
  bornNs: bigint;
  /** The file system's. Some have one that no mount shows. */
  liesOn: DeviceNumber;
  /** Of a device: which. */
  represents: DeviceNumber;
}

export function fileStatus(fd: number): FileStatus {
  const status = Buffer.alloc(STRUCT_SIZE);
  const wanted = STATX_BASIC_STATS | STATX_BTIME;
  libc.checked("statx", libc.statx(fd, "", AT_EMPTY_PATH, wanted, status));
  const hasBirth = (status.readUInt32LE(0) & STATX_BTIME) !== 0;
  const deviceAt = (at: number) => `${status.readUInt32LE(at)}:${status.readUInt32LE(at + 4)}`;
  return {
    type: status.readUInt16LE(MODE) & S_IFMT,
    size: status.readBigUInt64LE(SIZE),
    inode: status.readBigUInt64LE(INODE),
    bornNs: hasBirth
      ? status.readBigInt64LE(BIRTH) * 1_000_000_000n + BigInt(status.readUInt32LE(BIRTH + 8))
      : 0n,
    liesOn: deviceAt(LIES_ON),
    represents: deviceAt(REPRESENTS),
  };
}

/** In bytes. */
export function fileSize(fd: number): bigint {
  return fileStatus(fd).size;
}

/** S_IF*. */
export function fileType(fd: number): number {
  return fileStatus(fd).type;
}

/** Major and minor of a dev_t as stat(2) has it (gnu_dev_major(3)). */
export function deviceNumber(dev: bigint): DeviceNumber {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n);
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}
