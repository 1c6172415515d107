// A chain as one operation of the engine: the SQE of a queue with QUEUE_F_CHAINS, and its result. Numbers only.

/**
 * Behind the kernel's opcodes. fd is the queue, addr the host address of a row of struct iovec, len how many they are, off
 * how many of them the device may read: these come first, the others are for it to write.
 */
export const OP_CHAIN = 0x80;

/** op_flags: a predecessor had taken the chain. */
export const CHAIN_F_LEFTOVER = 1;
/** And nobody knows what it has done: the chain is to be answered with a failure, and not to be done. */
export const CHAIN_F_FAIL = 2;

/**
 * Result: the chain is let go of without an answer, and comes again when the ring starts again. Other negative results are
 * failures; those from 0 on say how many bytes were written.
 */
export const CHAIN_PARKED = -512;
