// Anonymous files in memory.
import * as libc from "./libc.ts";

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;

/** A sparse anonymous file of the given length in bytes. */
export function createMemfd(name: string, byteLength: bigint | number): number {
  const fd = libc.checked("memfd_create", libc.memfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  libc.checked("ftruncate", libc.ftruncate(fd, BigInt(byteLength)));
  return fd;
}
