// The linear memory that the core and its host share, and what step() returns. Numbers only.
//
//   0x0000_0000  null guard: never mapped
//   0x0001_0000  static data of the core
//   0x0002_0000  device block: what every worker must know of the disk
//   0x0003_0000  region table: guest memory for the kernel, by host address
//   0x0004_0000  zeroes: the source of a write-zeroes that the file system can't do itself
//   0x0200_0000  workers, WORKER_STRIDE apart: tables, rings, requests, I/O vectors
//   0x1c00_0000  the inflight region
//   0x2000_0000  guest memory for the core, by window

/** Of the ABI that ABI.md describes: its major version times 0x10000, and its minor version. */
export const ABI_VERSION = 0x20000;

export const WASM_PAGE_SIZE = 65536;
/** 4 GiB of address space: the most a 32-bit memory has. */
export const MEMORY_PAGES = 65536;

export const DEVICE_PTR = 0x20000;
export const REGION_TABLE_PTR = 0x30000;
export const ZEROES_PTR = 0x40000;
export const ZEROES_SIZE = 0x10000;
export const HEAD_END = 0x50000;

export const WORKERS_PTR = 0x2000000;
export const WORKER_STRIDE = 0x2000000;
export const WORKERS_MAX = 13;

export const INFLIGHT_PTR = 0x1c000000;
export const INFLIGHT_SIZE_MAX = 0x4000000;

export const GUEST_PTR = 0x20000000;
/** One past the last page for guest memory: the last 64 KiB stay unmapped, so that no sum of pointer and length wraps. */
export const GUEST_END = 0xffff0000;

/** Device block. Written by the host before the first ring starts; write-through may change at any time. Of the core are DEVICE_FLUSHED, DEVICE_SYNC_STATE, DEVICE_SYNC_PERIOD and DEVICE_SYNCS. */
export const DEVICE_SIZE = 128;
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

/** A region: gpa u64, byteLength u64, hostAddress u64. A window: gpa u64, byteLength u64, ptr u32. */
export const TABLE_ENTRY_SIZE = 32;
export const ENTRY_GPA = 0;
export const ENTRY_LENGTH = 8;
export const ENTRY_TARGET = 16;
export const REGIONS_MAX = 512;
export const WINDOWS_MAX = 512;
export const COPIES_MAX = 128;
export const GUEST_WRITES_MAX = 2048;

/** A worker's part of linear memory, as offsets from its start. */
export const WORKER_WINDOW_TABLE = 0;
export const WORKER_ZERO_IOVECS = 0x8000;
export const WORKER_SCRATCH = 0xc000;
/** f64: the host's clock in milliseconds, told before a step; 0 as long as nobody wants to know how long requests take. */
export const WORKER_CLOCK = 0x10000;
/** The host's own counts of a worker's turns, f64 each: COUNT_TURNS and those that follow. */
export const WORKER_COUNTS = 0x10040;
/** u32, between host threads: 1 while the main thread has yet to look at the failures that a worker told it of. */
export const WORKER_TOLD = 0x10060;
/** What the engine failed: an entry for each of KINDS_TIMED and errno below FAILURE_ERRNOS, in this order. */
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

/** For each queue, how long its requests took: a histogram for each of KINDS_TIMED. */
export const WORKER_LATENCIES = 0x1b00000;
export const LATENCIES_STRIDE = 0x5000;

/** For each request, a buffer that is aligned for O_DIRECT, where DEVICE_BOUNCE_FD says that there are any. */
export const WORKER_BOUNCE = 0x1300000;
export const BOUNCE_SIZE = 0x2000;
export const BOUNCE_TOTAL = 0x800000;

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

/** Requests that one worker has in flight at the most; the others wait in their rings. */
export const REQUESTS_MAX = 1024;
export const REQUEST_STRIDE = 256;
/** I/O vectors of one operation: IOV_MAX of the kernel. A request with more takes as many more places of requests. */
export const IOVECS_MAX = 1024;
/** Descriptors of one indirect table that are read: as many as a split table's next can tell apart. */
export const TABLE_MAX = 0x10000;
/** Discard and write-zeroes segments that a request can hold. */
export const RANGES_MAX = 256;

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
export const QUEUE_COUNTERS_SIZE = 104;

/** Kinds of a block device's requests. The first of them are timed. */
export const KIND_READ = 0;
export const KIND_WRITE = 1;
export const KIND_FLUSH = 2;
export const KIND_DISCARD = 3;
export const KIND_WRITE_ZEROES = 4;
export const KINDS_TIMED = 5;
export const KIND_ID = 5;
/** The one kind of a queue with QUEUE_F_CHAINS. */
export const KIND_CHAIN = 0;

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
/** What is to become of a chain that a predecessor had taken, in a queue with QUEUE_F_CHAINS: neither is to do it again. */
export const QUEUE_F_RECOVER_FAIL = 16; // it is to be answered with a failure
export const QUEUE_F_RECOVER_FORGET = 32; // it is taken as if for the first time

/** setCredit(): as many as come. */
export const CREDIT_UNLIMITED = 0xffffffff;

/** step(): the low half counts the SQEs that wait, the high half says what else the host must do. */
export const STEP_SUBMIT_MASK = 0xffff;
export const STEP_WAIT = 0x10000; // nothing to do until a completion comes, or news after stepAwake()
export const STEP_CONTROL = 0x20000; // the control eventfd was written: look for commands
export const STEP_WINDOW_MISS = 0x40000; // map a window over missedGpa(), or lend a copy, then step again
export const STEP_BROKEN = 0x80000; // a ring broke: queueFault() says which and why
export const STEP_POLL = 0x100000; // wait, but not for long: some ring has no kick eventfd
export const STEP_STOPPED = 0x200000; // a ring that was asked to stop has stopped
export const STEP_GUEST_WRITES = 0x400000; // write what WORKER_GUEST_WRITES lists, then step again
export const STEP_FAILED = 0x800000; // the engine failed a request: WORKER_FAILURES says which and why
export const STEP_STARVED = 0x1000000; // an operation was asked for again and again: take another way, if there is one
export const STEP_SYNC_FAILED = 0x2000000; // the first flush has failed

/** news(): nothing, something to step for, or something to enter the engine for first. */
export const NEWS_NONE = 0;
export const NEWS_STEP = 1;
export const NEWS_ENTER = 2;

/** Why a ring broke. */
export const FAULT_AVAIL_RAN_AHEAD = -1;
export const FAULT_HEAD_PAST_QUEUE = -2;
export const FAULT_NEXT_PAST_TABLE = -3;
export const FAULT_CHAIN_TOO_LONG = -4;
export const FAULT_READABLE_AFTER_WRITABLE = -5;
export const FAULT_NESTED_INDIRECT = -6;
export const FAULT_INDIRECT_LENGTH = -7;
export const FAULT_ADDRESS = -8;
export const FAULT_TOO_MANY_IN_FLIGHT = -9;
export const FAULT_KICK_FD = -10;
export const FAULT_TOO_SCATTERED = -11;
export const FAULT_INFLIGHT_REGION = -12;
