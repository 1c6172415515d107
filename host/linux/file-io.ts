// Positioned file I/O at raw addresses, in libuv's thread pool. Results are as in a CQE: a count or a negated errno.
import { EIO } from "./errno.ts";
import * as libc from "./libc.ts";

// biome-ignore lint/suspicious/noExplicitAny: koffi types its functions so.
type Foreign = { async: (...args: any[]) => void };

/** koffi refuses more calls at a time; and the pool has only so many threads. */
const CALLS_MAX = 64;

let calls = 0;
const queued: (() => void)[] = [];

function call(fn: Foreign, ...args: unknown[]): Promise<number> {
  return new Promise((resolve) => {
    const run = () => {
      calls++;
      fn.async(...args, (error: unknown, result: number) => {
        const value = error ? -EIO : result === -1 ? -libc.errno() : result;
        calls--;
        resolve(value);
        queued.shift()?.();
      });
    };
    if (calls < CALLS_MAX) run();
    else queued.push(run);
  });
}

const NO_FD = -1;

/** Makes the threads of the pool. They are there until the process ends. */
export async function startPool(): Promise<void> {
  await dataSync(NO_FD);
}

export function read(fd: number, address: number, byteLength: number, offset: bigint): Promise<number> {
  return call(libc.pread, fd, address, byteLength, offset);
}

export function readVectors(fd: number, iovecs: number, count: number, offset: bigint): Promise<number> {
  return call(libc.preadv, fd, iovecs, count, offset);
}

/** `flags` are those of pwritev2(2). */
export async function write(
  fd: number,
  address: number,
  byteLength: number,
  offset: bigint,
  flags: number,
): Promise<number> {
  if (flags === 0) return call(libc.pwrite, fd, address, byteLength, offset);
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
  return call(libc.pwritev2, fd, iovecs, count, offset, flags);
}

export function dataSync(fd: number): Promise<number> {
  return call(libc.fdatasync, fd);
}

export function allocate(fd: number, mode: number, offset: bigint, byteLength: bigint): Promise<number> {
  return call(libc.fallocate, fd, mode, offset, byteLength);
}
