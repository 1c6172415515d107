// A chain as one operation of the engine: the SQE of a queue with QUEUE_F_CHAINS, and its result. Numbers only.

/**
 * Behind the kernel's opcodes. fd is the queue, addr the host address of a row of struct iovec, len how many they are, off
 * how many of them the device may read: these come first, the others are for it to write.
 */
export const OP_CHAIN = 0x80;

/** op_flags: a predecessor had taken the chain, and what it did of the chain is not known. */
export const CHAIN_F_LEFTOVER = 1;
/** Beside CHAIN_F_LEFTOVER: doing the chain twice would harm, so it is to be answered with a failure. */
export const CHAIN_F_FAIL = 2;

/**
 * A result: the device lets go of the chain without an answer, and the chain comes again when the ring starts again. Other
 * negative results are failures of which the driver was told nothing; those from 0 on say how many bytes the device has written.
 */
export const CHAIN_PARKED = -512;

/** The one kind that a queue with QUEUE_F_CHAINS counts, at QUEUE_KINDS. */
export const KIND_CHAIN = 0;

/**
 * Result: CHAIN_FAILED + n, for n below CHAIN_FAILED_LIMIT. The device has told the driver in n bytes that the request failed: the
 * chain is used with n, and counts as a failure. -(2 ** 31), so bit 31 and a length.
 */
export const CHAIN_FAILED = -2147483648;
export const CHAIN_FAILED_LIMIT = 1073741824;
