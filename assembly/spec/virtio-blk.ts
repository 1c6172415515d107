// The block device (virtio 1.4, 5.2). Shared with host/ and tests/: numbers only.

/** Feature bits (5.2.3). */
export const VIRTIO_BLK_F_SIZE_MAX = 1;
export const VIRTIO_BLK_F_SEG_MAX = 2;
export const VIRTIO_BLK_F_RO = 5;
export const VIRTIO_BLK_F_BLK_SIZE = 6;
export const VIRTIO_BLK_F_FLUSH = 9;
export const VIRTIO_BLK_F_TOPOLOGY = 10;
export const VIRTIO_BLK_F_CONFIG_WCE = 11;
export const VIRTIO_BLK_F_MQ = 12;
export const VIRTIO_BLK_F_DISCARD = 13;
export const VIRTIO_BLK_F_WRITE_ZEROES = 14;

/** Request types (5.2.6). */
export const VIRTIO_BLK_T_IN = 0;
export const VIRTIO_BLK_T_OUT = 1;
export const VIRTIO_BLK_T_FLUSH = 4;
export const VIRTIO_BLK_T_GET_ID = 8;
export const VIRTIO_BLK_T_DISCARD = 11;
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;

/** Status bytes (5.2.6). */
export const VIRTIO_BLK_S_OK = 0;
export const VIRTIO_BLK_S_IOERR = 1;
export const VIRTIO_BLK_S_UNSUPP = 2;

/** The unit of every offset and length in the protocol, whatever blk_size says (5.2.6). */
export const SECTOR_SHIFT = 9;
export const SECTOR_SIZE = 512;

/** struct virtio_blk_req, the part before the data: type u32, reserved u32, sector u64. */
export const BLK_HEADER_SIZE = 16;
export const BLK_HEADER_TYPE = 0;
export const BLK_HEADER_SECTOR = 8;

/** The ID string of VIRTIO_BLK_T_GET_ID: NUL-padded, not NUL-terminated. */
export const VIRTIO_BLK_ID_BYTES = 20;

/** struct virtio_blk_discard_write_zeroes: sector u64, num_sectors u32, flags u32. */
export const RANGE_SIZE = 16;
export const RANGE_SECTOR = 0;
export const RANGE_NUM_SECTORS = 8;
export const RANGE_FLAGS = 12;
export const VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP = 1;

/** struct virtio_blk_config (5.2.4). */
export const BLK_CONFIG_SIZE = 96;
export const BLK_CONFIG_CAPACITY = 0;
export const BLK_CONFIG_SIZE_MAX = 8;
export const BLK_CONFIG_SEG_MAX = 12;
export const BLK_CONFIG_BLK_SIZE = 20;
export const BLK_CONFIG_PHYSICAL_BLOCK_EXP = 24;
export const BLK_CONFIG_ALIGNMENT_OFFSET = 25;
export const BLK_CONFIG_MIN_IO_SIZE = 26;
export const BLK_CONFIG_OPT_IO_SIZE = 28;
export const BLK_CONFIG_WRITEBACK = 32;
export const BLK_CONFIG_NUM_QUEUES = 34;
export const BLK_CONFIG_MAX_DISCARD_SECTORS = 36;
export const BLK_CONFIG_MAX_DISCARD_SEG = 40;
export const BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT = 44;
export const BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS = 48;
export const BLK_CONFIG_MAX_WRITE_ZEROES_SEG = 52;
export const BLK_CONFIG_WRITE_ZEROES_MAY_UNMAP = 56;
