// Notifiers of the peer's: eventfds, pipes and sockets that may be blocking ones. No call here waits, whatever the peer does
// to them meanwhile. O_NONBLOCK is no way: the peer shares the open file, and would find its own calls changed.
import { closeSync, constants, openSync } from "node:fs";
import { EAGAIN, EINVAL, EMFILE, ENFILE, EOPNOTSUPP } from "./errno.ts";
import { fileType, S_IFIFO, S_IFSOCK } from "./file-status.ts";
import * as libc from "./libc.ts";
import { createMemfd } from "./memfd.ts";
import { isWritable } from "./readiness.ts";
import { callInPool } from "./thread-pool.ts";

const SYS_io_setup = 206;
const SYS_io_destroy = 207;
const SYS_io_getevents = 208;
const SYS_io_submit = 209;

const RWF_NOWAIT = 8;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** For preadv2(2): as read(2) does. */
const CURRENT_POSITION = -1n;

const one = new BigUint64Array(new ArrayBuffer(8));
const oneAddress = libc.addressOf(one);
const iovec = new BigUint64Array(new ArrayBuffer(16));
const iovecAddress = libc.addressOf(iovec);

/** The address of a 1 of eight bytes. Its use here is also what keeps the array from being collected. */
function addressOfOne(): number {
  one[0] = 1n;
  return oneAddress;
}

/**
 * Signals: 8, as a write of an eventfd's value, or a negated errno; -EAGAIN if it is full, which is as good as signalled
 * but for a peer that counts.
 */
export function signalPeer(fd: number): number {
  if (!isWritable(fd)) return -EAGAIN;
  const result = completions.signal(fd);
  // Not an eventfd.
  return result === -EINVAL ? writeNow(fd) : result;
}

/** Takes now the descriptor that signalPeer() needs in this thread: once they have run out it would be too late. */
export function openPeerSignals(): void {
  completions.users++;
  completions.openFile();
}

/** Lets go of it, unless somebody else in this thread has opened it, too. */
export function closePeerSignals(): void {
  if (--completions.users === 0) completions.close();
}

/** Reads what is there: a count or a negated errno. The peer may have taken back what it has signalled. */
export function readPeer(fd: number, address: number, byteLength: number): number {
  const result = resultOf(libc.preadv2(fd, iovecOf(address, byteLength), 1, CURRENT_POSITION, RWF_NOWAIT));
  // Before Linux 5.8 (eventfds) and 6.5 (pipes); sockets by family.
  if (result !== -EOPNOTSUPP) return result;
  const type = fileType(fd);
  if (type === S_IFSOCK) return resultOf(libc.recv(fd, address, byteLength, MSG_DONTWAIT));
  if (type === S_IFIFO)
    return reopened(fd, constants.O_RDONLY, (own) => resultOf(libc.readAt(own, address, byteLength)));
  return resultOf(libc.readAt(fd, address, byteLength));
}

function writeNow(fd: number): number {
  const result = resultOf(libc.pwritev2(fd, iovecOf(addressOfOne(), 8), 1, CURRENT_POSITION, RWF_NOWAIT));
  if (result !== -EOPNOTSUPP) return result;
  if (fileType(fd) === S_IFSOCK)
    return resultOf(libc.send(fd, addressOfOne(), 8, MSG_DONTWAIT | MSG_NOSIGNAL));
  return reopened(fd, constants.O_WRONLY, (own) => resultOf(libc.writeAt(own, addressOfOne(), 8)));
}

/** A pipe opened anew is another open file, whose O_NONBLOCK is ours alone. Not so eventfds and sockets, which can't be. */
function reopened(fd: number, access: number, action: (own: number) => number): number {
  let own: number;
  try {
    own = openSync(`/proc/self/fd/${fd}`, access | constants.O_NONBLOCK);
  } catch (error) {
    const errno = -((error as NodeJS.ErrnoException).errno ?? -EAGAIN);
    // Without descriptors to spare it is tried again later.
    return errno === EMFILE || errno === ENFILE ? -EAGAIN : -errno;
  }
  try {
    return action(own);
  } finally {
    closeSync(own);
  }
}

function iovecOf(address: number, byteLength: number): number {
  iovec[0] = BigInt(address);
  iovec[1] = BigInt(byteLength);
  return iovecAddress;
}

function resultOf(returned: number): number {
  return returned === -1 ? -libc.errno() : returned;
}

/*
 * struct iocb (64 bytes)
 *  0 data u64      16 opcode u16      24 buf u64        40 offset s64     56 flags u32
 *  8 key u32       18 reqprio s16     32 nbytes u64     48 reserved u64   60 resfd u32
 * 12 rw_flags u32  20 fildes u32
 */
const IOCB_SIZE = 64;
const IO_EVENT_SIZE = 32;
const IOCB_CMD_PREAD = 0;
const IOCB_FLAG_RESFD = 1;

/** No descriptor. */
const NONE = -1;

/** After a signal. */
const REST_MS = 200;

/**
 * Has the kernel itself add one to an eventfd, as it does when asynchronous I/O completes (io_submit(2), IOCB_FLAG_RESFD):
 * that never waits, where write(2) of a full one does, and there is no flag to ask write(2) for it. The I/O is a read of
 * no byte, complete when io_submit() returns.
 */
class CompletionSignals {
  users = 0;
  private readonly iocb = Buffer.alloc(IOCB_SIZE);
  private readonly list = new BigUint64Array(new ArrayBuffer(8));
  private readonly events = Buffer.alloc(IO_EVENT_SIZE);
  private context: number | undefined;
  private isRefused = false;
  private fileFd = NONE;
  private timer: NodeJS.Timeout | undefined;
  private wasUsed = false;

  /** 8, or -EINVAL if `fd` is no eventfd. */
  signal(fd: number): number {
    // Where the kernel or a sandbox has no such calls: after a look, as near as it gets.
    if (!this.open()) return resultOf(libc.writeAt(fd, addressOfOne(), 8));
    this.iocb.writeUInt32LE(fd, 60);
    this.wasUsed = true;
    const submitted = libc.syscall4(SYS_io_submit, this.context!, 1, libc.addressOf(this.list), 0);
    const result = submitted === 1 ? 8 : -libc.errno();
    // Whatever has completed gives its place back.
    libc.syscall6(SYS_io_getevents, this.context!, 0, 1, libc.addressOf(this.events), 0, 0);
    return result;
  }

  close(): void {
    clearInterval(this.timer);
    if (this.context !== undefined) libc.syscall4(SYS_io_destroy, this.context, 0, 0, 0);
    this.context = undefined;
    if (this.fileFd !== NONE) libc.close(this.fileFd);
    this.fileFd = NONE;
  }

  openFile(): boolean {
    if (this.fileFd !== NONE) return true;
    try {
      this.fileFd = createMemfd("vringd-signal", 0);
      return true;
    } catch {
      // No descriptor to spare now.
      return false;
    }
  }

  /**
   * Only while there is something to signal: a process that is killed with such a context keeps all that it has for as long as the
   * kernel's readers of RCU take, tens of milliseconds (exit_aio, fs/aio.c). io_destroy(2) takes as long. In a thread whose event loop
   * does not turn, which signals all the time, it stays.
   */
  private open(): boolean {
    if (this.context !== undefined) return true;
    if (this.isRefused || !this.openFile()) return false;
    const context = new BigUint64Array(new ArrayBuffer(8));
    if (libc.syscall4(SYS_io_setup, 1, libc.addressOf(context), 0, 0) !== 0) {
      this.isRefused = true;
      return false;
    }
    this.context = Number(context[0]);
    this.timer = setInterval(() => this.rest(), REST_MS).unref();
    this.iocb.writeUInt16LE(IOCB_CMD_PREAD, 16);
    this.iocb.writeUInt32LE(this.fileFd, 20);
    this.iocb.writeUInt32LE(IOCB_FLAG_RESFD, 56);
    this.list[0] = BigInt(libc.addressOf(this.iocb));
    return true;
  }

  private rest(): void {
    if (this.wasUsed) {
      this.wasUsed = false;
      return;
    }
    clearInterval(this.timer);
    const { context } = this;
    this.context = undefined;
    void callInPool(libc.syscall4, SYS_io_destroy, context, 0, 0, 0);
  }
}

const completions = new CompletionSignals();
