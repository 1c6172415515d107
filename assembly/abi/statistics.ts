// What a worker counts for others to read: its turns, what the engine failed, how long requests took. Numbers only.

/** Of the kinds that a queue counts, so many are timed, from the first on; failures are told apart by these, too. */
export const KINDS_TIMED = 5;

/** Counts of WORKER_COUNTS, by index. */
export const COUNT_TURNS = 0;
export const COUNT_SLEEPS = 1;
export const COUNT_POLLS_PAID = 2;
export const COUNT_POLLS_IN_VAIN = 3;
export const COUNTS = 4;

/**
 * An entry of WORKER_FAILURES, u64 each: how many operations failed so; the sector of the first of those that the host has
 * not seen; and how many it has seen, which the host writes. Errno 0: less was moved than asked, or an errno that has no entry.
 */
export const FAILURE_STRIDE = 32;
export const FAILURE_COUNT = 0;
export const FAILURE_SECTOR = 8;
export const FAILURE_SEEN = 16;
/** One more than Linux's largest errno. */
export const FAILURE_ERRNOS = 134;

/**
 * A histogram: the sum in nanoseconds, u64, and the buckets, u64 each. A bucket is 64 ns wide at first; from the 16th on
 * eight share each power of two, so that none is wider than an eighth of where it begins. The last one ends at 2^40 ns.
 */
export const HISTOGRAM_STRIDE = 0x1000;
export const HISTOGRAM_SUM = 0;
export const HISTOGRAM_COUNTS = 8;
export const BUCKETS = 256;
export const BUCKET_UNIT_SHIFT = 6;
export const BUCKET_SPLIT_SHIFT = 3;
