// I/O at raw addresses in the calling thread. Results are as in a CQE: a count or a negated errno.
import * as libc from "./libc.ts";

const RWF_NOWAIT = 8;

function resultOf(returned: number): number {
  return returned === -1 ? -libc.errno() : returned;
}

const oneIovec = new BigUint64Array(2);
const oneIovecAddress = libc.addressOf(oneIovec);

/** A single buffer as an array of one, valid until the next call. */
export function iovecOf(address: number, byteLength: number): number {
  oneIovec[0] = BigInt(address);
  oneIovec[1] = BigInt(byteLength);
  return oneIovecAddress;
}

/** Reads in the calling thread what the page cache has; -EAGAIN or -EOPNOTSUPP if that takes more. */
export function readCached(fd: number, iovecs: number, count: number, offset: bigint): number {
  return resultOf(libc.preadv2(fd, iovecs, count, offset, RWF_NOWAIT));
}

/** Reads in the calling thread, however long it takes. */
export function readHere(fd: number, iovecs: number, count: number, offset: bigint): number {
  return resultOf(libc.preadv(fd, iovecs, count, offset));
}

/** Writes in the calling thread, however long it takes. `flags` are those of pwritev2(2). */
export function writeHere(fd: number, iovecs: number, count: number, offset: bigint, flags: number): number {
  return resultOf(libc.pwritev2(fd, iovecs, count, offset, flags));
}
