// How O_DIRECT wants addresses, offsets and lengths aligned (open(2), statx(2)).
import * as libc from "./libc.ts";
import { allocate, unmap } from "./mapping.ts";

const AT_EMPTY_PATH = 0x1000;
const STATX_DIOALIGN = 0x2000;
/** struct statx: mask u32, dio_mem_align u32 at 152, dio_offset_align u32 at 156. */
const STATX_SIZE = 256;
const DIO_MEM_ALIGN = 152;
const DIO_OFFSET_ALIGN = 156;

/** The larger of both alignments in bytes, or undefined where the kernel can't say (before Linux 6.1, or 6.11 for some). */
export function directIoAlignment(fd: number): number | undefined {
  const statx = Buffer.alloc(STATX_SIZE);
  libc.checked("statx", libc.statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, statx));
  if ((statx.readUInt32LE(0) & STATX_DIOALIGN) === 0) return undefined;
  const alignment = Math.max(statx.readUInt32LE(DIO_MEM_ALIGN), statx.readUInt32LE(DIO_OFFSET_ALIGN));
  return alignment === 0 ? undefined : alignment;
}

/** Whether O_DIRECT reads one sector of 512 bytes that is not the first: asked by doing it, where the kernel can't say. */
export function readsSectors(fd: number): boolean {
  const sector = 512;
  const address = allocate(sector);
  try {
    return libc.pread(fd, address, sector, sector) >= 0;
  } finally {
    unmap(address, sector);
  }
}
