// A queue: what startQueue() takes, and what of its state the host may read. Numbers only.

/** As many as the vhost-user text can tell apart: a kick's message has eight bits for the ring. */
export const QUEUES_MAX = 256;
export const QUEUE_STRIDE = 512;

/** Counters at the start of each queue's state, u64 each, for the host to read: first what was done well, by kind. */
export const QUEUE_KINDS = 0;
export const KINDS_MAX = 8;
export const QUEUE_BYTES_IN = 64; // from the device to the driver
export const QUEUE_BYTES_OUT = 72; // from the driver to the device
export const QUEUE_FAILURES = 80;
export const QUEUE_KICKS = 88;
export const QUEUE_CALLS = 96;
export const QUEUE_WAITED_NS = 104; // that the chain which was next in the ring has waited for a limit
export const QUEUE_COUNTERS_SIZE = 112;

/** What else of a queue's state the host may look at, u32 each: QUEUE_STATE is one of QUEUE_STOPPED and those that follow. */
export const QUEUE_STATE = 112;
export const QUEUE_SIZE = 120;
export const QUEUE_FLAGS = 124;
export const QUEUE_IN_FLIGHT = 128; // chains taken and not yet used

export const QUEUE_STOPPED = 0;
export const QUEUE_RUNNING = 1;
/** Takes nothing new; waits for what is in flight. */
export const QUEUE_STOPPING = 2;
/** The driver broke the ring; it stays broken until it is stopped. */
export const QUEUE_BROKEN = 3;

/** Ring formats and options for startQueue(). */
export const QUEUE_F_PACKED = 1;
export const QUEUE_F_EVENT_IDX = 2;
export const QUEUE_F_CHAINS = 4; // each chain is an operation, OP_CHAIN; without it, a block request
export const QUEUE_F_CREDIT = 8; // takes chains only as setCredit() and addCredit() allow; starts with none
/** In a queue with QUEUE_F_CHAINS, what becomes of a chain that a predecessor had taken. Without either flag it is done again. */
export const QUEUE_F_RECOVER_FAIL = 16; // it is to be answered with a failure
export const QUEUE_F_RECOVER_FORGET = 32; // it is taken as if for the first time

/** setCredit(): as many as come. */
export const CREDIT_UNLIMITED = 0xffffffff;

/** Descriptors of one indirect table that are read: as many as a split table's next can tell apart. */
export const TABLE_MAX = 0x10000;
