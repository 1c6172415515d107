// Split and packed virtqueues (virtio 1.4, 2.7 and 2.8). Shared with host/ and tests/: numbers only.

/** Feature bits (numbers, not masks) that shape a ring: virtio 1.4, 6. */
export const VIRTIO_F_RING_INDIRECT_DESC = 28;
export const VIRTIO_F_RING_EVENT_IDX = 29;
export const VIRTIO_F_VERSION_1 = 32;
export const VIRTIO_F_RING_PACKED = 34;
export const VIRTIO_F_RING_RESET = 40;

/** Queue sizes: 2.7 allows powers of two up to 32768, 2.8.10.1 any size up to that. */
export const VIRTQ_SIZE_MIN = 2;
export const VIRTQ_SIZE_MAX = 32768;

/** Descriptor flags, common to both formats (2.7.5, 2.8.14). */
export const VIRTQ_DESC_F_NEXT = 1;
export const VIRTQ_DESC_F_WRITE = 2;
export const VIRTQ_DESC_F_INDIRECT = 4;

/** struct virtq_desc (2.7.5): addr u64, len u32, flags u16, next u16. */
export const DESC_SIZE = 16;
export const DESC_ADDR = 0;
export const DESC_LEN = 8;
export const DESC_FLAGS = 12;
export const DESC_NEXT = 14;

/** struct virtq_avail (2.7.6): flags u16, idx u16, ring u16[size], used_event u16. */
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
export const AVAIL_FLAGS = 0;
export const AVAIL_IDX = 2;
export const AVAIL_RING = 4;
export const AVAIL_RING_ENTRY_SIZE = 2;
/** flags + idx + used_event, the bytes beside the ring itself. */
export const AVAIL_FIXED_SIZE = 6;
export const AVAIL_ALIGN = 2;

/** struct virtq_used (2.7.8): flags u16, idx u16, ring {id u32, len u32}[size], avail_event u16. */
export const VIRTQ_USED_F_NO_NOTIFY = 1;
export const USED_FLAGS = 0;
export const USED_IDX = 2;
export const USED_RING = 4;
export const USED_ELEM_SIZE = 8;
export const USED_ELEM_ID = 0;
export const USED_ELEM_LEN = 4;
/** flags + idx + avail_event, the bytes beside the ring itself. */
export const USED_FIXED_SIZE = 6;
export const USED_ALIGN = 4;

/** Alignment of both descriptor tables (2.7, 2.8.10.1). */
export const DESC_ALIGN = 16;

/** struct pvirtq_desc (2.8.13): addr u64, len u32, id u16, flags u16. */
export const PACKED_DESC_SIZE = 16;
export const PACKED_DESC_ADDR = 0;
export const PACKED_DESC_LEN = 8;
export const PACKED_DESC_ID = 12;
export const PACKED_DESC_FLAGS = 14;
export const VIRTQ_DESC_F_AVAIL = 0x80;
export const VIRTQ_DESC_F_USED = 0x8000;

/** struct pvirtq_event_suppress (2.8.14): off_wrap u16 (bit 15 is the wrap counter), flags u16. */
export const EVENT_SUPPRESS_SIZE = 4;
export const EVENT_SUPPRESS_ALIGN = 4;
export const EVENT_OFF_WRAP = 0;
export const EVENT_FLAGS = 2;
export const RING_EVENT_FLAGS_ENABLE = 0;
export const RING_EVENT_FLAGS_DISABLE = 1;
export const RING_EVENT_FLAGS_DESC = 2;
