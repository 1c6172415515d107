// The socket device (virtio 1.4, 5.10). Shared with tests: numbers only.

export const VIRTIO_ID_VSOCK = 19;

/** Bit numbers. */
export const VIRTIO_VSOCK_F_STREAM = 0;
export const VIRTIO_VSOCK_F_SEQPACKET = 1;
export const VIRTIO_VSOCK_F_NO_IMPLIED_STREAM = 2;

/** struct virtio_vsock_config: guest_cid u64, whose upper half is 0. */
export const VSOCK_CONFIG_SIZE = 8;

/** The well-known CID of the host. */
export const VSOCK_CID_HOST = 2;
/** Those below, and those from this one on, are no guest's. */
export const VSOCK_CID_GUEST_MIN = 3;
export const VSOCK_CID_RESERVED = 0xffffffff;

/** struct virtio_vsock_hdr: src_cid u64, dst_cid u64, src_port u32, dst_port u32, len u32, type u16, op u16, flags u32, buf_alloc u32, fwd_cnt u32. */
export const VSOCK_HDR_SIZE = 44;
export const VSOCK_HDR_SRC_CID = 0;
export const VSOCK_HDR_DST_CID = 8;
export const VSOCK_HDR_SRC_PORT = 16;
export const VSOCK_HDR_DST_PORT = 20;
export const VSOCK_HDR_LEN = 24;
export const VSOCK_HDR_TYPE = 28;
export const VSOCK_HDR_OP = 30;
export const VSOCK_HDR_FLAGS = 32;
export const VSOCK_HDR_BUF_ALLOC = 36;
export const VSOCK_HDR_FWD_CNT = 40;

export const VIRTIO_VSOCK_TYPE_STREAM = 1;
export const VIRTIO_VSOCK_TYPE_SEQPACKET = 2;

export const VIRTIO_VSOCK_OP_REQUEST = 1;
export const VIRTIO_VSOCK_OP_RESPONSE = 2;
export const VIRTIO_VSOCK_OP_RST = 3;
export const VIRTIO_VSOCK_OP_SHUTDOWN = 4;
export const VIRTIO_VSOCK_OP_RW = 5;
export const VIRTIO_VSOCK_OP_CREDIT_UPDATE = 6;
export const VIRTIO_VSOCK_OP_CREDIT_REQUEST = 7;

/** Bit numbers in the flags of a SHUTDOWN. */
export const VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE = 0;
export const VIRTIO_VSOCK_SHUTDOWN_F_SEND = 1;

/** Flags of a RW of a seqpacket socket. */
export const VIRTIO_VSOCK_SEQ_EOM = 1;
export const VIRTIO_VSOCK_SEQ_EOR = 2;

export const VIRTIO_VSOCK_EVENT_TRANSPORT_RESET = 0;
/** struct virtio_vsock_event: id u32. */
export const VSOCK_EVENT_SIZE = 4;
