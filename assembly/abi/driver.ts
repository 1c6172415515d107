// What the front-end ring driver (assembly/driver/) and whoever loads it must agree on. Numbers only.

/** Flags of openQueue(), beside QUEUE_F_PACKED and QUEUE_F_EVENT_IDX. */
export const DRIVER_F_INDIRECT = 4;

/** Bytes of linear memory for one queue's state and for one request slot. */
export const DRIVER_QUEUE_SIZE = 192;
export const DRIVER_SLOT_SIZE = 64;

/** What turn() returns. */
export const TURN_KICK = 1; // the device wants to be told
export const TURN_REAPED = 2; // something was used
export const TURN_FAULT = 4; // the device used what was not in flight

/**
 * Latencies in ns, u32 counts, log-linear: 64 buckets for each power of two, so none is wider than 1.6 % of its value.
 * The last bucket takes everything from 2^40 ns on. A queue has two such histograms, for reads and for writes, one after
 * the other.
 */
export const HISTOGRAM_SUB_BITS = 6;
export const HISTOGRAM_BUCKETS = 2240;
