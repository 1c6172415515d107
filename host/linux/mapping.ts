// Mappings of files and of nothing into address space.
import { fileSystemOf, HUGETLBFS_MAGIC } from "./file-system.ts";
import * as libc from "./libc.ts";

export const PAGE_SIZE = 4096;

const PROT_NONE = 0;
const PROT_READ = 1;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 0x1;
const MAP_PRIVATE = 0x2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MREMAP_MAYMOVE = 1;
const MREMAP_FIXED = 2;
const MADV_DONTDUMP = 16;

/** Maps part of a file anywhere, shared, readable and writable, and out of core dumps. Returns the address. */
export function mapShared(fd: number, offset: bigint, byteLength: number): number {
  const address = libc.checked(
    "mmap",
    libc.mmap(0, byteLength, PROT_READ_WRITE, MAP_SHARED | MAP_NORESERVE, fd, offset),
  );
  excludeFromCoreDumps(address, byteLength);
  return address;
}

/**
 * The same at `address`, over whatever is mapped there. If the kernel refuses, every access there faults.
 *
 * SAFETY: only for addresses in our own reserved linear memory.
 */
export function mapSharedAt(address: number, fd: number, offset: bigint, byteLength: number): void {
  const flags = MAP_SHARED | MAP_FIXED | MAP_NORESERVE;
  try {
    libc.checked("mmap", libc.mmap(address, byteLength, PROT_READ_WRITE, flags, fd, offset));
  } catch (error) {
    // It may have unmapped what was there: another mapping of this process must not come to lie in the gap.
    reserveAt(address, byteLength);
    throw error;
  }
  excludeFromCoreDumps(address, byteLength);
}

/**
 * The same, with what was mapped there still there if this fails: mmap() takes it away before it asks whether the file
 * may be mapped.
 *
 * SAFETY: as above.
 */
export function replaceSharedAt(address: number, fd: number, offset: bigint, byteLength: number): void {
  const made = mapShared(fd, offset, byteLength);
  if (libc.mremap(made, byteLength, byteLength, MREMAP_MAYMOVE | MREMAP_FIXED, address) !== -1) return;
  const error = new libc.SystemError("mremap", libc.errno());
  unmap(made, byteLength);
  throw error;
}

/** Replaces what is mapped at `address` with address space that faults on every access. */
export function reserveAt(address: number, byteLength: number): void {
  const flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE;
  libc.checked("mmap", libc.mmap(address, byteLength, PROT_NONE, flags, -1, 0));
}

/** Replaces what is mapped at `address` with zeroed private memory. */
export function allocateAt(address: number, byteLength: number, options?: { readOnly: boolean }): void {
  const flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE;
  const protection = options?.readOnly ? PROT_READ : PROT_READ_WRITE;
  libc.checked("mmap", libc.mmap(address, byteLength, protection, flags, -1, 0));
}

/** The same for copies of guest memory. */
export function allocateForGuestAt(address: number, byteLength: number): void {
  allocateAt(address, byteLength);
  excludeFromCoreDumps(address, byteLength);
}

/** Zeroed memory of this process alone, at a page's start. */
export function allocate(byteLength: number): number {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS;
  return libc.checked("mmap", libc.mmap(0, byteLength, PROT_READ_WRITE, flags, -1, 0));
}

/** Whether as much address space is left. */
export function hasAddressSpace(byteLength: number): boolean {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  const address = libc.mmap(0, byteLength, PROT_NONE, flags, -1, 0);
  if (address === -1) return false;
  unmap(address, byteLength);
  return true;
}

export function unmap(address: number, byteLength: number): void {
  libc.checked("munmap", libc.munmap(address, byteLength));
}

/** A guest's secrets are its own. Refused for hugetlbfs by old kernels, which is no reason to fail. */
function excludeFromCoreDumps(address: number, byteLength: number): void {
  libc.madvise(address, byteLength, MADV_DONTDUMP);
}

/** The unit in which mmap() takes offsets of this file: the page size of hugetlbfs, or 4096. */
export function mappingGranularity(fd: number): number {
  const { magic, blockSize } = fileSystemOf(fd);
  return magic === HUGETLBFS_MAGIC ? blockSize : PAGE_SIZE;
}
