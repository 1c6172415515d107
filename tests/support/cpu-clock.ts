// How much processor time a process or a thread has had, to the nanosecond (clock_getcpuclockid(3)).
import koffi from "koffi";
import { checked } from "../../host/linux/libc.ts";

const clockGettime = koffi.load(null).func("int clock_gettime(int clock, void *timespec)");

/** CPUCLOCK_SCHED in the kernel's posix-timers.h: a process's clock is its inverted number and this. */
const CPUCLOCK_SCHED = 2;

const CLOCK_THREAD_CPUTIME_ID = 3;

const timespec = Buffer.alloc(16);

/** Of all its threads, those that have ended and io_uring's own included. */
export function processTimeNs(pid: number): number {
  return read((~pid << 3) | CPUCLOCK_SCHED);
}

export function ownThreadTimeNs(): number {
  return read(CLOCK_THREAD_CPUTIME_ID);
}

function read(clock: number): number {
  checked("clock_gettime", clockGettime(clock, timespec));
  return Number(timespec.readBigInt64LE(0)) * 1e9 + Number(timespec.readBigInt64LE(8));
}
