// Why a ring broke: what queueFault() returns. Numbers only.

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
