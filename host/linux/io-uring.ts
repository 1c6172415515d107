// io_uring over memory of our own (io_uring_setup(2), IORING_SETUP_NO_MMAP: Linux 6.5 and later).
import * as libc from "./libc.ts";

const SYS_io_uring_setup = 425;
const SYS_io_uring_enter = 426;
const SYS_io_uring_register = 427;

const IORING_SETUP_CQSIZE = 1 << 3;
const IORING_SETUP_SUBMIT_ALL = 1 << 7;
const IORING_SETUP_TASKRUN_FLAG = 1 << 9;
const IORING_SETUP_SINGLE_ISSUER = 1 << 12;
const IORING_SETUP_DEFER_TASKRUN = 1 << 13;
const IORING_SETUP_NO_MMAP = 1 << 14;
const IORING_REGISTER_SYNC_CANCEL = 24;
const IORING_ASYNC_CANCEL_ALL = 1;
const IORING_ASYNC_CANCEL_ANY = 4;
const IORING_ENTER_GETEVENTS = 1;
const IORING_ENTER_EXT_ARG = 8;

/*
 * struct io_uring_params (120 bytes)
 *   0 sq_entries   4 cq_entries   8 flags   20 features
 *  40 sq_off: head, tail, ring_mask, ring_entries, flags, dropped, array; user_addr at 72
 *  80 cq_off: head, tail, ring_mask, ring_entries, overflow, cqes; user_addr at 112
 */
const PARAMS_SIZE = 120;
const SQ_OFF = 40;
const CQ_OFF = 80;
const USER_ADDR = 32;

/** Where a ring's words lie, as offsets from the start of the ring memory; entries are counts. */
export interface RingOffsets {
  sqHead: number;
  sqTail: number;
  sqFlags: number;
  sqEntries: number;
  cqHead: number;
  cqTail: number;
  cqEntries: number;
  cqes: number;
}

/**
 * Makes a ring whose entries lie at `sqesAddress` (64 bytes each) and whose indices and completions lie at
 * `ringsAddress`. Both must be page aligned, zeroed, and stay mapped until the descriptor is closed. Only the
 * calling thread may enter it.
 */
export function setupRing(
  entries: number,
  sqesAddress: number,
  ringsAddress: number,
): { fd: number; offsets: RingOffsets } {
  const params = Buffer.alloc(PARAMS_SIZE);
  params.writeUInt32LE(entries * 2, 4);
  const flags =
    IORING_SETUP_NO_MMAP |
    IORING_SETUP_CQSIZE |
    IORING_SETUP_SUBMIT_ALL |
    IORING_SETUP_TASKRUN_FLAG |
    IORING_SETUP_SINGLE_ISSUER |
    IORING_SETUP_DEFER_TASKRUN;
  params.writeUInt32LE(flags, 8);
  params.writeBigUInt64LE(BigInt(sqesAddress), SQ_OFF + USER_ADDR);
  params.writeBigUInt64LE(BigInt(ringsAddress), CQ_OFF + USER_ADDR);
  const fd = libc.checked(
    "io_uring_setup",
    libc.syscall4(SYS_io_uring_setup, entries, libc.addressOf(params), 0, 0),
  );
  const sq = (field: number) => params.readUInt32LE(SQ_OFF + field);
  const cq = (field: number) => params.readUInt32LE(CQ_OFF + field);
  const array = new Uint32Array(libc.viewOf(ringsAddress + sq(24), entries * 4));
  // Entry i is always submitted from slot i.
  for (let i = 0; i < entries; i++) array[i] = i;
  const offsets = {
    sqHead: sq(0),
    sqTail: sq(4),
    sqFlags: sq(16),
    sqEntries: params.readUInt32LE(0),
    cqHead: cq(0),
    cqTail: cq(4),
    cqEntries: params.readUInt32LE(4),
    cqes: cq(20),
  };
  return { fd, offsets };
}

/**
 * Submits `count` entries and reaps; with `wait`, sleeps until one completion is there. Returns how many were
 * submitted, or a negated errno.
 */
export function enterRing(fd: number, count: number, wait: boolean): number {
  const result = libc.syscall6(SYS_io_uring_enter, fd, count, wait ? 1 : 0, IORING_ENTER_GETEVENTS, 0, 0);
  return result === -1 ? -libc.errno() : result;
}

// struct io_uring_getevents_arg: sigmask u64, sigmask_sz u32, min_wait_usec u32, ts u64; then the timespec itself.
const briefWait = Buffer.alloc(24 + 16);
briefWait.writeBigUInt64LE(BigInt(libc.addressOf(briefWait) + 24), 16);

/** The same, waiting for `timeoutUs` microseconds at the most. */
export function enterRingBriefly(fd: number, count: number, timeoutUs: number): number {
  briefWait.writeBigInt64LE(BigInt(Math.floor(timeoutUs / 1e6)), 24);
  briefWait.writeBigInt64LE(BigInt(timeoutUs % 1e6) * 1000n, 32);
  const flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
  const result = libc.syscall6(SYS_io_uring_enter, fd, count, 1, flags, libc.addressOf(briefWait), 24);
  return result === -1 ? -libc.errno() : result;
}

// struct io_uring_sync_cancel_reg: addr u64, fd i32, flags u32, timeout (two i64), 32 bytes more.
const cancelAll = Buffer.alloc(64);
cancelAll.writeInt32LE(-1, 8);
cancelAll.writeUInt32LE(IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY, 12);

/** Takes back all that has not gone too far. Each completes, if only as cancelled. Waits for `timeoutMs` at the most. */
export function cancelEverything(fd: number, timeoutMs: number): void {
  cancelAll.writeBigInt64LE(BigInt(timeoutMs) * 1_000_000n, 24);
  libc.syscall4(SYS_io_uring_register, fd, IORING_REGISTER_SYNC_CANCEL, libc.addressOf(cancelAll), 1);
}
