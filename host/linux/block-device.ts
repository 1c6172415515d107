// What the kernel knows of a block device (linux/fs.h).
import * as libc from "./libc.ts";

const BLKSSZGET = 0x1268;
const BLKIOMIN = 0x1278;
const BLKIOOPT = 0x1279;
const BLKPBSZGET = 0x127b;
const BLKGETSIZE64 = 0x80081272;

export interface BlockDeviceGeometry {
  byteLength: bigint;
  logicalBlockSize: number;
  physicalBlockSize: number;
  minimumIoSize: number;
  optimalIoSize: number;
}

export function blockDeviceGeometry(fd: number): BlockDeviceGeometry {
  return {
    byteLength: ask(fd, BLKGETSIZE64).readBigUInt64LE(0),
    logicalBlockSize: ask(fd, BLKSSZGET).readUInt32LE(0),
    physicalBlockSize: ask(fd, BLKPBSZGET).readUInt32LE(0),
    minimumIoSize: ask(fd, BLKIOMIN).readUInt32LE(0),
    optimalIoSize: ask(fd, BLKIOOPT).readUInt32LE(0),
  };
}

function ask(fd: number, request: number): Buffer {
  const answer = Buffer.alloc(8);
  libc.checked("ioctl", libc.ioctl(fd, request, answer));
  return answer;
}
