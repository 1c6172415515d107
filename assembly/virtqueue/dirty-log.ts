// Which pages of guest memory were written, for whoever copies a guest that runs (vhost-user, "Migration"): a bit for each page, shared with
// the front-end, which takes it away before it copies the page.
//
// First written, then logged, then shown to the driver. A page that was logged before it was written could be copied in between. And a
// chain that the driver sees is no leftover: a successor after a crash does not log it again.

import { DIRTY_LOG_PAGE, DIRTY_LOG_PTR, DIRTY_LOG_SIZE } from "../abi/memory.ts";

const PAGES: u64 = <u64>DIRTY_LOG_SIZE * 8;

/** Whether what is written is logged. The log is there as long as this is so. */
export let isLogging: bool = false;

export function switchLogging(isOn: bool): void {
  isLogging = isOn;
}

/** These bytes of guest memory were written. */
export function logWritten(gpa: u64, byteLength: u64): void {
  if (byteLength === 0) return;
  let page = gpa / DIRTY_LOG_PAGE;
  const last = (gpa + byteLength - 1) / DIRTY_LOG_PAGE;
  // The first bit whatever it is: as a read-modify-write this is a barrier. A look at a bit could come before the write to its page
  // otherwise, and find it set just before the front-end takes it away to copy what was there before.
  mark(page);
  while (++page <= last) {
    if (!isMarked(page)) mark(page);
  }
}

/** Past the end of the log there is no guest memory: the host has made sure of that. */
function mark(page: u64): void {
  if (page < PAGES) atomic.or<u32>(wordOf(page), maskOf(page));
}

function isMarked(page: u64): bool {
  return page >= PAGES || (load<u32>(wordOf(page)) & maskOf(page)) !== 0;
}

/** The text has bytes, lowest bit first: in this byte order words are the same. */
function wordOf(page: u64): usize {
  return <usize>DIRTY_LOG_PTR + ((<usize>(page >> 5)) << 2);
}

function maskOf(page: u64): u32 {
  return 1 << (<u32>page & 31);
}
