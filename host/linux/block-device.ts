// What the kernel knows of a block device (linux/fs.h).
import * as libc from "./libc.ts";

const BLKROGET = 0x125e;
const BLKSSZGET = 0x1268;
const BLKGETSIZE64 = 0x80081272;

export interface BlockDeviceFacts {
  byteLength: bigint;
  /** The least that I/O past the page cache can address. */
  logicalBlockSize: number;
  /** Opening it for writing may succeed all the same. */
  isReadOnly: boolean;
}

export function blockDeviceFacts(fd: number): BlockDeviceFacts {
  return {
    byteLength: ask(fd, BLKGETSIZE64).readBigUInt64LE(0),
    logicalBlockSize: ask(fd, BLKSSZGET).readUInt32LE(0),
    isReadOnly: ask(fd, BLKROGET).readInt32LE(0) !== 0,
  };
}

function ask(fd: number, request: number): Buffer {
  const answer = Buffer.alloc(8);
  libc.checked("ioctl", libc.ioctl(fd, request, answer));
  return answer;
}
