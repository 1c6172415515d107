// What step() and news() return. Numbers only.

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
export const STEP_THROTTLED = 0x4000000; // limits hold queues back: wait for throttleUs() at the most

/** news(): nothing, something to step for, or something to enter the engine for first. */
export const NEWS_NONE = 0;
export const NEWS_STEP = 1;
export const NEWS_ENTER = 2;
