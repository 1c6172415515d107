// Waiting for an eventfd to be written, with one system call: no need to read it where only the edge counts (epoll(7)).
import { addressOf, checked, close, epollCreate1, epollCtl, epollWait } from "./libc.ts";

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
const EPOLLET = 0x80000000;

/** struct epoll_event, packed: events u32, data u64. */
const event = Buffer.alloc(12);
const eventAddress = addressOf(event);

export class EdgeWait {
  private readonly epoll = checked("epoll_create1", epollCreate1(EPOLL_CLOEXEC));

  constructor(fd: number) {
    event.writeUInt32LE(EPOLLIN + EPOLLET, 0);
    checked("epoll_ctl", epollCtl(this.epoll, EPOLL_CTL_ADD, fd, event));
  }

  /** Blocks the thread until the eventfd is written, or has been since the last time; false when the time is over. */
  wait(timeoutMs: number): boolean {
    return epollWait(this.epoll, eventAddress, 1, timeoutMs) === 1;
  }

  close(): void {
    close(this.epoll);
  }
}
