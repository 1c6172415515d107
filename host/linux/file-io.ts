// Positioned file I/O at raw addresses, in libuv's thread pool. Results are as in a CQE: a count or a negated errno.
import * as libc from "./libc.ts";
import { callInPool } from "./thread-pool.ts";

const NO_FD = -1;
const POSIX_FADV_DONTNEED = 4;

/** Makes the threads of the pool. They are there until the process ends. */
export async function startPool(): Promise<void> {
  await dataSync(NO_FD);
}

export function read(fd: number, address: number, byteLength: number, offset: bigint): Promise<number> {
  return callInPool(libc.pread, fd, address, byteLength, offset);
}

export function readVectors(fd: number, iovecs: number, count: number, offset: bigint): Promise<number> {
  return callInPool(libc.preadv, fd, iovecs, count, offset);
}

/** `flags` are those of pwritev2(2). */
export async function write(
  fd: number,
  address: number,
  byteLength: number,
  offset: bigint,
  flags: number,
): Promise<number> {
  if (flags === 0) return callInPool(libc.pwrite, fd, address, byteLength, offset);
  const iovec = new BigUint64Array([BigInt(address), BigInt(byteLength)]);
  const result = await writeVectors(fd, libc.addressOf(iovec), 1, offset, flags);
  // The vector lives until the call has ended.
  return iovec.length > 0 ? result : 0;
}

export function writeVectors(
  fd: number,
  iovecs: number,
  count: number,
  offset: bigint,
  flags: number,
): Promise<number> {
  return callInPool(libc.pwritev2, fd, iovecs, count, offset, flags);
}

export function dataSync(fd: number): Promise<number> {
  return callInPool(libc.fdatasync, fd);
}

export function allocate(fd: number, mode: number, offset: bigint, byteLength: bigint): Promise<number> {
  return callInPool(libc.fallocate, fd, mode, offset, byteLength);
}

/** ftruncate(2): bytes are cut off, or zeroes added. */
export function truncate(fd: number, byteLength: bigint): Promise<number> {
  return callInPool(libc.ftruncate, fd, byteLength);
}

/** Has the kernel forget what it has cached of the file, as far as that is on its medium (posix_fadvise(2)): advice, which may do nothing. */
export async function dropCache(fd: number): Promise<void> {
  await callInPool(libc.posixFadvise, fd, 0n, 0n, POSIX_FADV_DONTNEED);
}
