// Anonymous files in memory.
import * as libc from "./libc.ts";

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;

/** A sparse anonymous file of the given length in bytes. */
export function createMemfd(name: string, byteLength: bigint | number): number {
  const fd = libc.checked("memfd_create", libc.memfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  return closedOnFailure(fd, () => libc.checked("ftruncate", libc.ftruncate(fd, BigInt(byteLength))));
}

/** The same with its size fixed for good, for whoever holds the file. */
export function createSealedMemfd(name: string, byteLength: number): number {
  const fd = createMemfd(name, byteLength);
  return closedOnFailure(fd, () => sealSize(fd));
}

export function sealSize(fd: number): void {
  libc.checked("fcntl", libc.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
}

function closedOnFailure(fd: number, action: () => void): number {
  try {
    action();
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}
