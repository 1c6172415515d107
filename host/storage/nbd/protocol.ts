// Numbers of the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md, "Values"). All fields are big-endian.

export const NBD_DEFAULT_PORT = 10809;

// Magic numbers of the handshake, which have 64 bits.
export const NBDMAGIC = 0x4e42444d41474943n;
export const IHAVEOPT = 0x49484156454f5054n;
export const OLDSTYLE_MAGIC = 0x00420281861253n;
export const OPTION_REPLY_MAGIC = 0x3e889045565a9n;

// Handshake flags (the server's), and the client's answer to them.
export const NBD_FLAG_FIXED_NEWSTYLE = 1;
export const NBD_FLAG_NO_ZEROES = 2;
export const NBD_FLAG_C_FIXED_NEWSTYLE = 1;
export const NBD_FLAG_C_NO_ZEROES = 2;

export const NBD_OPT_EXPORT_NAME = 1;
export const NBD_OPT_STARTTLS = 5;
export const NBD_OPT_GO = 7;

export const NBD_REP_ACK = 1;
export const NBD_REP_INFO = 3;
export const NBD_REP_ERR_UNSUP = 0x80000001;
export const NBD_REP_ERR_TLS_REQD = 0x80000005;
export const NBD_REP_ERR_UNKNOWN = 0x80000006;
export const NBD_REP_ERR_SHUTDOWN = 0x80000007;

/** Size u64 and transmission flags u16 follow the type. */
export const NBD_INFO_EXPORT = 0;
/** Minimum, preferred and maximum u32 follow the type. */
export const NBD_INFO_BLOCK_SIZE = 3;

// Transmission flags: what the export can do.
export const NBD_FLAG_HAS_FLAGS = 1 << 0;
export const NBD_FLAG_READ_ONLY = 1 << 1;
export const NBD_FLAG_SEND_FLUSH = 1 << 2;
export const NBD_FLAG_SEND_FUA = 1 << 3;
export const NBD_FLAG_SEND_TRIM = 1 << 5;
export const NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6;
export const NBD_FLAG_CAN_MULTI_CONN = 1 << 8;

export const NBD_CMD_READ = 0;
export const NBD_CMD_WRITE = 1;
export const NBD_CMD_DISC = 2;
export const NBD_CMD_FLUSH = 3;
export const NBD_CMD_TRIM = 4;
export const NBD_CMD_WRITE_ZEROES = 6;

export const NBD_CMD_FLAG_FUA = 1 << 0;
export const NBD_CMD_FLAG_NO_HOLE = 1 << 1;

/** Magic u32, flags u16, type u16, cookie u64, offset u64, length u32. */
export const REQUEST_SIZE = 28;
export const NBD_REQUEST_MAGIC = 0x25609513;

/** Magic u32, error u32, cookie u64; the payload of a read that went well follows. */
export const SIMPLE_REPLY_SIZE = 16;
export const NBD_SIMPLE_REPLY_MAGIC = 0x67446698;

export const NBD_ESHUTDOWN = 108;

/** What a client may send or ask for without being taken for an attacker ("Block size constraints"). */
export const PAYLOAD_MAX = 1 << 25;
/** A maximum block size that means there is none. */
export const NO_MAXIMUM = 0xffffffff;
/** Strings have at most so many bytes ("Conventions"). */
export const STRING_MAX = 4096;
