// Open file description locks (fcntl_locking(2)): they belong to an open file, not to a process.
import { EACCES, EAGAIN } from "./errno.ts";
import * as libc from "./libc.ts";

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

/** struct flock (x86-64, 32 bytes): type i16, whence i16, start i64 at 8, len i64 at 16, pid i32 at 24, which must be 0. */
const flock = Buffer.alloc(32);

function lockCommand(fd: number, command: number, type: number, start: number, byteLength: number): number {
  flock.fill(0);
  flock.writeInt16LE(type, 0);
  flock.writeBigInt64LE(BigInt(start), 8);
  flock.writeBigInt64LE(BigInt(byteLength), 16);
  return libc.fcntlStruct(fd, command, flock);
}

/** Shares one byte with other readers; false if somebody has it for himself alone. */
export function lockByte(fd: number, at: number): boolean {
  if (lockCommand(fd, F_OFD_SETLK, F_RDLCK, at, 1) === 0) return true;
  const errno = libc.errno();
  // Either may come (fcntl_locking(2), F_SETLK).
  if (errno === EAGAIN || errno === EACCES) return false;
  throw new libc.SystemError("fcntl", errno);
}

export function unlockBytes(fd: number, start: number, byteLength: number): void {
  libc.checked("fcntl", lockCommand(fd, F_OFD_SETLK, F_UNLCK, start, byteLength));
}

/** Whether another open file holds any lock on this byte. */
export function isByteLocked(fd: number, at: number): boolean {
  libc.checked("fcntl", lockCommand(fd, F_OFD_GETLK, F_WRLCK, at, 1));
  return flock.readInt16LE(0) !== F_UNLCK;
}
