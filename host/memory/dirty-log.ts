// The log of written pages that a front-end shares with us while it moves its guest elsewhere (vhost-user, "Migration"), mapped at
// the one place where all workers' cores set its bits.
import { DIRTY_LOG_PAGE, DIRTY_LOG_PTR, DIRTY_LOG_SIZE } from "../../assembly/abi/memory.ts";
import { fileSize } from "../linux/file-status.ts";
import { allocateAt, PAGE_SIZE, replaceSharedAt, reserveAt } from "../linux/mapping.ts";
import type { LinearMemory } from "./linear-memory.ts";
import { GuestMemoryError } from "./region-list.ts";

/** "Log description" of vhost-user, in bytes. */
export interface LogDescription {
  mmapSize: bigint;
  mmapOffset: bigint;
}

const PAGES_PER_BYTE = 8n;
const GIB = 1n << 30n;
const GUEST_MOST = (BigInt(DIRTY_LOG_SIZE) * PAGES_PER_BYTE * BigInt(DIRTY_LOG_PAGE)) / GIB;

/** Throws GuestMemoryError if it can't be what it is said to be, or has no bit for the last page before `guestEnd`. */
export function checkLog({ mmapSize, mmapOffset }: LogDescription, fd: number, guestEnd: bigint): void {
  if (mmapSize === 0n) throw new GuestMemoryError("a log of length 0");
  if (mmapOffset % BigInt(PAGE_SIZE) !== 0n) throw new GuestMemoryError("a misaligned log");
  if (mmapSize > BigInt(DIRTY_LOG_SIZE)) {
    throw new GuestMemoryError(
      `a log for guest addresses past ${GUEST_MOST} GiB, which is the most that can be logged`,
    );
  }
  if (fileSize(fd) < mmapOffset + mmapSize) throw new GuestMemoryError("a file that is smaller than its log");
  checkReach(mmapSize, guestEnd);
}

/** Throws GuestMemoryError if so many bytes have no bit for the last page before `guestEnd`. */
export function checkReach(mmapSize: bigint, guestEnd: bigint): void {
  const pages = (guestEnd + BigInt(DIRTY_LOG_PAGE) - 1n) / BigInt(DIRTY_LOG_PAGE);
  if (mmapSize * PAGES_PER_BYTE < pages)
    throw new GuestMemoryError("a log that is too small for the guest's memory");
}

export class DirtyLog {
  private isOpen = false;

  constructor(private readonly linear: LinearMemory) {}

  /**
   * Maps a log that was checked, in place of the one before, at any time: when this returns, nothing is set in that one any more. The
   * descriptor stays the caller's. Throws SystemError, with the one before still there.
   */
  set({ mmapSize, mmapOffset }: LogDescription, fd: number): void {
    const address = this.linear.hostAddress + DIRTY_LOG_PTR;
    // Bits past the end of a log go nowhere: the core knows no end but that of its place.
    if (!this.isOpen) allocateAt(address, DIRTY_LOG_SIZE);
    this.isOpen = true;
    const byteLength = Math.ceil(Number(mmapSize) / PAGE_SIZE) * PAGE_SIZE;
    replaceSharedAt(address, fd, mmapOffset, byteLength);
    if (byteLength < DIRTY_LOG_SIZE) allocateAt(address + byteLength, DIRTY_LOG_SIZE - byteLength);
  }

  /** Only while no worker logs. */
  clear(): void {
    if (!this.isOpen) return;
    reserveAt(this.linear.hostAddress + DIRTY_LOG_PTR, DIRTY_LOG_SIZE);
    this.isOpen = false;
  }
}
