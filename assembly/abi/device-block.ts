// The device block: what every worker must know of its host and of the disk. Offsets from DEVICE_PTR. Numbers only.

/**
 * Written by the host before the first ring starts; capacity, write-through and limits may change at any time. Of the core are DEVICE_FLUSHED,
 * DEVICE_SYNC_STATE, DEVICE_SYNC_PERIOD and DEVICE_SYNCS.
 */
export const DEVICE_SIZE = 512;
export const DEVICE_CAPACITY_SECTORS = 0; // u64
export const DEVICE_MEMORY_HOST_ADDRESS = 8; // u64: where linear memory begins in the host's address space
export const DEVICE_FILE_FD = 16; // i32
export const DEVICE_UNALIGNED_FD = 20; // i32: the same file for what O_DIRECT refuses
export const DEVICE_DIRECT_MASK = 24; // u32: bits that O_DIRECT wants clear in addresses, lengths and offsets
export const DEVICE_BLOCK_SECTORS = 28; // u32
export const DEVICE_READ_ONLY = 32; // u32: 0 or 1
export const DEVICE_WRITE_THROUGH = 36; // u32: WRITE_THROUGH_*
export const DEVICE_DISCARD_UNMAPS = 40; // u32: DISCARD_*
export const DEVICE_MAX_DISCARD_SECTORS = 44; // u32
export const DEVICE_MAX_WRITE_ZEROES_SECTORS = 48; // u32
export const DEVICE_MAX_RANGES = 52; // u32: segments in one discard or write zeroes
export const DEVICE_ID = 56; // u8[20]
export const DEVICE_TURN_REQUESTS = 76; // u32: requests to take from one queue in one turn; 0: TURN_REQUESTS_MAX
export const DEVICE_TIMED = 80; // u32: 0 or 1; between host threads: whether a worker tells its core the time
export const DEVICE_FLUSHED = 84; // u32: becomes 1 when a FLUSH is taken from a ring; the host makes it 0 again
export const DEVICE_SYNC_STATE = 88; // u32: SYNC_*
export const DEVICE_BOUNCE_FD = 92; // i32: the file behind all workers' WORKER_BOUNCE, one after the other; 0: none
export const DEVICE_SYNC_SHARED = 96; // u32: 1: of several syncs at a time only one may be told what another has lost
export const DEVICE_SYNC_PERIOD = 100; // u32: grows as syncs end
export const DEVICE_SYNCS = 104; // u32[2]: syncs in flight, by whether the period that they began in was odd
export const DEVICE_LIMITED = 112; // u32: 1: some bucket of DEVICE_LIMITS has a price, and the host tells the time (WORKER_NOW)
export const DEVICE_LIMIT_REQUEST_BYTES = 116; // u32: bytes that count as one request; 0: each request does
export const DEVICE_LIMITS = 128; // LIMITS buckets (limits.ts)

/** Whether flushes can be believed: nobody keeps account; none has failed; one has, so that later ones fail as well. */
export const SYNC_UNKEPT = 0;
export const SYNC_SOUND = 1;
export const SYNC_FAILED = 2;

/** The most that a turn takes from one queue, whatever the device block says: a turn comes to an end. */
export const TURN_REQUESTS_MAX = 256;

/** A write is stable once it is flushed; when it completes; or when it completes, as long as DEVICE_FLUSHED is 0. */
export const WRITE_THROUGH_OFF = 0;
export const WRITE_THROUGH_ON = 1;
export const WRITE_THROUGH_UNTIL_FLUSH = 2;

/** A discard does nothing; or it punches a hole, as write-zeroes may; or the same, marked so that an engine can tell them apart. */
export const DISCARD_IGNORED = 0;
export const DISCARD_UNMAPS = 1;
export const DISCARD_MARKED = 2;
