// The io_uring submission and completion entries that the core writes and reads (linux/io_uring.h). Numbers only.

/** struct io_uring_sqe, the fields in use. */
export const SQE_SIZE = 64;
export const SQE_OPCODE = 0;
export const SQE_FLAGS = 1;
export const SQE_FD = 4;
export const SQE_OFF = 8;
export const SQE_ADDR = 16;
export const SQE_LEN = 24;
export const SQE_OP_FLAGS = 28;
export const SQE_USER_DATA = 32;

/** struct io_uring_cqe: user_data u64, res i32, flags u32. */
export const CQE_SIZE = 16;
export const CQE_USER_DATA = 0;
export const CQE_RES = 8;

export const IORING_OP_READV = 1;
export const IORING_OP_WRITEV = 2;
export const IORING_OP_FSYNC = 3;
export const IORING_OP_ASYNC_CANCEL = 14;
export const IORING_OP_FALLOCATE = 17;
export const IORING_OP_READ = 22;
export const IORING_OP_WRITE = 23;

/** Flags of the submission ring: completions that an io_uring_enter would show. */
export const IORING_SQ_CQ_OVERFLOW = 2;
export const IORING_SQ_TASKRUN = 4;

export const IORING_FSYNC_DATASYNC = 1;
/** Per-write fdatasync (linux/fs.h). */
export const RWF_DSYNC = 2;

/** fallocate(2) modes. */
export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_ZERO_RANGE = 0x10;
/** Reserved by the kernel, which refuses it: marks a discard, after which anything may be read, for other engines. */
export const FALLOC_FL_NO_HIDE_STALE = 4;

/** struct iovec. */
export const IOVEC_SIZE = 16;
export const IOVEC_BASE = 0;
export const IOVEC_LEN = 8;

/** Errors of the kernel that the core tells apart. */
export const EINTR = 4;
export const EAGAIN = 11;
export const EINVAL = 22;
export const EOPNOTSUPP = 95;
export const ECANCELED = 125;
