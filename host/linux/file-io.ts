// Positioned file I/O at raw addresses, in libuv's thread pool. Results are as in a CQE: a count or a negated errno.
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

const EIO = 5;
const EOPNOTSUPP = 95;
const RWF_NOWAIT = 8;
/** preadv2(2): as read(2) does. */
const CURRENT_POSITION = -1;

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

const vector = new BigUint64Array(2);

/**
 * Reads what is there, in the calling thread. It never waits: the other side may have taken back what it has signalled,
 * and a descriptor of its own may be a blocking one.
 */
export function readNow(fd: number, address: number, byteLength: number): number {
  vector[0] = BigInt(address);
  vector[1] = BigInt(byteLength);
  let result = libc.preadv2(fd, libc.addressOf(vector), 1, CURRENT_POSITION, RWF_NOWAIT);
  // Older kernels can read only some kinds of descriptors so.
  if (result === -1 && libc.errno() === EOPNOTSUPP) result = libc.readAt(fd, address, byteLength);
  return result === -1 ? -libc.errno() : result;
}

/** Writes what fits, in the calling thread. */
export function writeNow(fd: number, address: number, byteLength: number): number {
  const result = libc.writeAt(fd, address, byteLength);
  return result === -1 ? -libc.errno() : result;
}
