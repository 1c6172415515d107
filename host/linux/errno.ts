// Numbers of the errors that the kernel gives (errno(3)), for whoever tells them apart. What each means for a request, and
// what is done then, is the table "Errors of the kernel" in docs/errors.md.
import { constants } from "node:os";

export const {
  EACCES,
  EAGAIN,
  EBUSY,
  ECANCELED,
  ECONNABORTED,
  EFAULT,
  EINPROGRESS,
  EINTR,
  EINVAL,
  EIO,
  EMFILE,
  ENFILE,
  ENOENT,
  ENOLCK,
  ENOMEM,
  ENOSPC,
  ENOSYS,
  ENOTCONN,
  ENOTTY,
  EOPNOTSUPP,
  EPERM,
  EPIPE,
  ERANGE,
  EROFS,
  ETIME,
  ETIMEDOUT,
  EXDEV,
} = constants.errno;

/** Node knows no name for it. Of Ceph: the cluster takes nothing from this client any more. */
export const ESHUTDOWN = 108;
