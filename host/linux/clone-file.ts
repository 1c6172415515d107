// A file as a second name for another's blocks, which either changes for itself (ioctl_ficlone(2)).
import { EINVAL, ENOTTY, EOPNOTSUPP, EXDEV } from "./errno.ts";
import * as libc from "./libc.ts";

const FICLONE = 0x40049409;

/** False where the file system can't, or the two files lie on different ones. Throws SystemError. */
export function cloneFile(fromFd: number, toFd: number): boolean {
  const result = libc.ioctlAt(toFd, FICLONE, fromFd);
  if (result >= 0) return true;
  const errno = libc.errno();
  if ([EOPNOTSUPP, ENOTTY, EXDEV, EINVAL].includes(errno)) return false;
  throw new libc.SystemError("ioctl FICLONE", errno);
}
