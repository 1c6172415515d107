// The inflight region: vhost-user, "Inflight I/O tracking". Shared with host/ and tests/: numbers only.

/** Each queue's part begins at a multiple of this, as libvhost-user and DPDK have it. */
export const INFLIGHT_ALIGN = 64;
export const INFLIGHT_VERSION = 1;

/** QueueRegionSplit: features u64, version u16, desc_num u16, last_batch_head u16, used_idx u16, desc[]. */
export const INFLIGHT_FEATURES = 0;
export const INFLIGHT_REGION_VERSION = 8;
export const INFLIGHT_DESC_NUM = 10;
export const SPLIT_LAST_BATCH_HEAD = 12;
export const SPLIT_USED_IDX = 14;
export const SPLIT_ENTRIES = 16;

/** DescStateSplit: inflight u8, padding u8[5], next u16, counter u64. */
export const SPLIT_ENTRY_SIZE = 16;
export const SPLIT_ENTRY_INFLIGHT = 0;
export const SPLIT_ENTRY_NEXT = 6;
export const SPLIT_ENTRY_COUNTER = 8;

/**
 * QueueRegionPacked: as above up to desc_num, then free_head u16, old_free_head u16, used_idx u16, old_used_idx u16,
 * used_wrap_counter u8, old_used_wrap_counter u8, padding u8[7]; desc[] is aligned to 8.
 */
export const PACKED_FREE_HEAD = 12;
export const PACKED_OLD_FREE_HEAD = 14;
export const PACKED_USED_IDX = 16;
export const PACKED_OLD_USED_IDX = 18;
export const PACKED_USED_WRAP = 20;
export const PACKED_OLD_USED_WRAP = 21;
export const PACKED_ENTRIES = 32;

/** DescStatePacked: inflight u8, padding u8, next u16, last u16, num u16, counter u64, id u16, flags u16, len u32, addr u64. */
export const PACKED_ENTRY_SIZE = 32;
export const PACKED_ENTRY_INFLIGHT = 0;
export const PACKED_ENTRY_NEXT = 2;
export const PACKED_ENTRY_LAST = 4;
export const PACKED_ENTRY_NUM = 6;
export const PACKED_ENTRY_COUNTER = 8;
export const PACKED_ENTRY_ID = 16;
export const PACKED_ENTRY_FLAGS = 18;
export const PACKED_ENTRY_LEN = 20;
export const PACKED_ENTRY_ADDR = 24;
