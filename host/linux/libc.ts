// Every foreign function that vringd calls, and the one way to learn that a call failed.
import koffi from "koffi";

const libc = koffi.load(null);

/**
 * Addresses and lengths pass as `uintptr_t` Numbers: the fastest form, exact below 2^53. They keep nothing alive, so
 * whoever passes one holds the memory behind it. Arguments typed `void *` take a Buffer.
 */
const declare = (prototype: string) => libc.func(prototype);

export const accept4 = declare("int accept4(int fd, void *addr, void *len, int flags)");
export const bind = declare("int bind(int fd, void *addr, uint32_t len)");
export const close = declare("int close(int fd)");
export const connect = declare("int connect(int fd, void *addr, uint32_t len)");
export const dup3 = declare("int dup3(int fd, int newFd, int flags)");
export const epollCreate1 = declare("int epoll_create1(int flags)");
export const epollCtl = declare("int epoll_ctl(int epfd, int operation, int fd, void *event)");
export const epollWait = declare("int epoll_wait(int epfd, uintptr_t events, int count, int timeoutMs)");
export const eventfd = declare("int eventfd(unsigned int initial, int flags)");
export const exitNow = declare("void _exit(int status)");
export const fallocate = declare("int fallocate(int fd, int mode, int64_t offset, int64_t length)");
export const fcntl = declare("int fcntl(int fd, int command, intptr_t argument)");
export const fcntlStruct = declare("int fcntl(int fd, int command, void *argument)");
export const fdatasync = declare("int fdatasync(int fd)");
export const fgetxattr = declare("intptr_t fgetxattr(int fd, const char *name, void *value, size_t length)");
export const fremovexattr = declare("int fremovexattr(int fd, const char *name)");
export const fsetxattr = declare(
  "int fsetxattr(int fd, const char *name, void *value, size_t length, int flags)",
);
export const fstatfs = declare("int fstatfs(int fd, void *buffer)");
export const ftruncate = declare("int ftruncate(int fd, int64_t length)");
export const getpeername = declare("int getpeername(int fd, void *address, void *length)");
export const getsockopt = declare("int getsockopt(int fd, int level, int name, void *value, void *length)");
export const getgrnam = declare("void *getgrnam(const char *name)");
export const ioctl = declare("int ioctl(int fd, unsigned long request, void *argument)");
export const ioctlAt = declare("int ioctl(int fd, unsigned long request, uintptr_t argument)");
export const listen = declare("int listen(int fd, int backlog)");
export const madvise = declare("int madvise(uintptr_t address, size_t length, int advice)");
export const memcpy = declare("uintptr_t memcpy(uintptr_t target, uintptr_t source, size_t length)");
export const memfdCreate = declare("int memfd_create(const char *name, unsigned int flags)");
export const mmap = declare(
  "intptr_t mmap(uintptr_t address, size_t length, int protection, int flags, int fd, int64_t offset)",
);
export const mremap = declare(
  "intptr_t mremap(uintptr_t address, size_t length, size_t newLength, int flags, uintptr_t newAddress)",
);
export const munmap = declare("int munmap(uintptr_t address, size_t length)");
export const poll = declare("int poll(void *fds, unsigned long count, int timeoutMs)");
export const posixFadvise = declare("int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)");
export const prctl = declare(
  "int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)",
);
export const pread = declare("intptr_t pread(int fd, uintptr_t buffer, size_t length, int64_t offset)");
export const pwrite = declare("intptr_t pwrite(int fd, uintptr_t buffer, size_t length, int64_t offset)");
export const preadv = declare("intptr_t preadv(int fd, uintptr_t iovecs, int count, int64_t offset)");
export const preadv2 = declare(
  "intptr_t preadv2(int fd, uintptr_t iovecs, int count, int64_t offset, int flags)",
);
export const pwritev2 = declare(
  "intptr_t pwritev2(int fd, uintptr_t iovecs, int count, int64_t offset, int flags)",
);
export const read = declare("intptr_t read(int fd, void *buffer, size_t length)");
export const readAt = declare("intptr_t read(int fd, uintptr_t buffer, size_t length)");
export const recv = declare("intptr_t recv(int fd, uintptr_t buffer, size_t length, int flags)");
export const recvmsg = declare("intptr_t recvmsg(int fd, void *message, int flags)");
export const send = declare("intptr_t send(int fd, uintptr_t buffer, size_t length, int flags)");
export const sendmsg = declare("intptr_t sendmsg(int fd, void *message, int flags)");
/** By its number: not every libc has a function for it. */
export const renameat2 = declare(
  "long syscall(long number, long fromDirectory, const void *from, long toDirectory, const void *to, long flags)",
);
export const setsockopt = declare(
  "int setsockopt(int fd, int level, int name, void *value, uint32_t length)",
);
export const shutdown = declare("int shutdown(int fd, int how)");
export const socket = declare("int socket(int domain, int type, int protocol)");
export const socketpair = declare("int socketpair(int domain, int type, int protocol, void *pair)");
export const statx = declare(
  "int statx(int fd, const void *path, int flags, unsigned int mask, void *buffer)",
);
export const syscall4 = declare("long syscall(long number, long a, long b, long c, long d)");
export const syscall6 = declare(
  "long syscall(long number, long a, long b, long c, long d, uintptr_t e, long f)",
);
export const write = declare("intptr_t write(int fd, void *buffer, size_t length)");
export const writeAt = declare("intptr_t write(int fd, uintptr_t buffer, size_t length)");

/** The address of a buffer's first byte. Hold the buffer for as long as the address is in use. */
export function addressOf(buffer: ArrayBufferView): number {
  return Number(koffi.address(buffer));
}

/** A view of foreign memory, without a copy. The memory must stay mapped for as long as the view is used. */
export function viewOf(address: number, byteLength: number): ArrayBuffer {
  return koffi.view(BigInt(address), byteLength);
}

export function errno(): number {
  return koffi.errno();
}

const nameOfErrno = new Map(Object.entries(koffi.os.errno).map(([name, value]) => [value, name]));
// It has two names, and code that asks for one must not get the other.
nameOfErrno.set(koffi.os.errno.EAGAIN!, "EAGAIN");

/** A system call failed. `code` is the name of the error, such as "ENOENT". */
export class SystemError extends Error {
  readonly code: string;

  constructor(
    readonly call: string,
    readonly errno: number,
  ) {
    const code = nameOfErrno.get(errno) ?? `errno ${errno}`;
    super(`${call}: ${code}`);
    this.name = "SystemError";
    this.code = code;
  }
}

/** The call's result, or a SystemError if it is -1. */
export function checked(call: string, result: number): number {
  if (result === -1) throw new SystemError(call, errno());
  return result;
}
