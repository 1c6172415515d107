// The tables by which the core finds guest memory, and asks the host to write there. Numbers only.

/** A region: gpa u64, byteLength u64, hostAddress u64. A window: gpa u64, byteLength u64, ptr u32. */
export const TABLE_ENTRY_SIZE = 32;
export const ENTRY_GPA = 0;
export const ENTRY_LENGTH = 8;
export const ENTRY_TARGET = 16;
export const REGIONS_MAX = 512;
export const WINDOWS_MAX = 512;
export const COPIES_MAX = 128;
export const GUEST_WRITES_MAX = 2048;
