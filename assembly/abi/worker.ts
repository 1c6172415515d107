// A worker's part of linear memory, as offsets from its start, and the limits of what it holds. Numbers only.

export const WORKER_WINDOW_TABLE = 0;
export const WORKER_ZERO_IOVECS = 0x8000;
export const WORKER_SCRATCH = 0xc000;
/** f64: the host's clock in milliseconds, told before a step; 0 as long as nobody wants to know how long requests take. */
export const WORKER_CLOCK = 0x10000;
/** f64: nanoseconds of a clock that all workers share and that never goes back, told before a step while there are limits. */
export const WORKER_NOW = 0x10008;
/** The host's own counts of a worker's turns, f64 each: COUNT_TURNS and those that follow (statistics.ts). */
export const WORKER_COUNTS = 0x10040;
/** u32, between host threads: 1 while the main thread has yet to look at the failures that a worker told it of. */
export const WORKER_TOLD = 0x10060;
/** What the engine failed: an entry for each of KINDS_TIMED and errno below FAILURE_ERRNOS, in this order (statistics.ts). */
export const WORKER_FAILURES = 0x10100;
export const WORKER_SQES = 0x20000;
export const WORKER_RINGS = 0x40000;
export const WORKER_REQUESTS = 0x60000;
/** Copies of guest memory that the host lends for the chain that is being read: a table as that of windows. */
export const WORKER_COPIES = 0xa0000;
/** What the host is to write into guest memory after a step: gpa u64, byteLength u64, source ptr u32. */
export const WORKER_GUEST_WRITES = 0xa1000;
export const WORKER_QUEUES = 0xc0000;
export const WORKER_IOVECS = 0x100000;

/** For each queue, the requests that a predecessor left: u16[VIRTQ_SIZE_MAX], or an equal share where that is less. */
export const WORKER_LEFTOVERS = 0x1100000;
export const LEFTOVERS_SIZE = 0x200000;
export const LEFTOVERS_STRIDE = 0x10000;

/** For each queue, how long its requests took: a histogram for each of KINDS_TIMED (statistics.ts). */
export const WORKER_LATENCIES = 0x1b00000;
export const LATENCIES_STRIDE = 0x5000;

/** For each request, a buffer that is aligned for O_DIRECT, where DEVICE_BOUNCE_FD says that there are any. */
export const WORKER_BOUNCE = 0x1300000;
export const BOUNCE_SIZE = 0x2000;
export const BOUNCE_TOTAL = 0x800000;

/** Requests that one worker has in flight at the most; the others wait in their rings. */
export const REQUESTS_MAX = 1024;
export const REQUEST_STRIDE = 256;
/** I/O vectors of one operation: IOV_MAX of the kernel. A request with more takes as many more places of requests. */
export const IOVECS_MAX = 1024;
