// Limits of a disk: six buckets in the device block, DEVICE_LIMITS and LIMIT_STRIDE apart, in this order. Numbers only.

export const LIMIT_BYTES = 0; // of reads and writes
export const LIMIT_READ_BYTES = 1;
export const LIMIT_WRITTEN_BYTES = 2;
export const LIMIT_REQUESTS = 3;
export const LIMIT_READS = 4;
export const LIMIT_WRITES = 5;
export const LIMITS = 6;
export const LIMIT_STRIDE = 64;

/** Fields of a bucket. The host writes the prices and the rooms, and zeroes what is paid when it changes them. */
export const LIMIT_PRICE = 0; // f64: nanoseconds that a byte or a request takes; 0: no limit
export const LIMIT_ROOM = 8; // u64: nanoseconds that may be owed
export const LIMIT_BURST_PRICE = 16; // f64: the same, of the rate that a burst has; 0: any
export const LIMIT_BURST_ROOM = 24; // u64
export const LIMIT_PAID_UNTIL = 32; // u64: the core's, by compare-and-exchange
export const LIMIT_BURST_PAID_UNTIL = 40; // u64
