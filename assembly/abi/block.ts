// A disk's requests: their kinds, as they are counted, and their limits. Numbers only.

/** Kinds of a block device's requests, at QUEUE_KINDS. The first KINDS_TIMED of them are timed. */
export const KIND_READ = 0;
export const KIND_WRITE = 1;
export const KIND_FLUSH = 2;
export const KIND_DISCARD = 3;
export const KIND_WRITE_ZEROES = 4;
export const KIND_ID = 5;

/** Discard and write-zeroes segments that a request can hold. */
export const RANGES_MAX = 256;
