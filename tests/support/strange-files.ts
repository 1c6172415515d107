// Descriptors of every kind that a front-end may send where another kind is due.
import { openSync } from "node:fs";
import { createEventfd } from "../../host/linux/eventfd.ts";
import { addressOf, checked, close, eventfd, fcntl, syscall4 } from "../../host/linux/libc.ts";
import { createMemfd } from "../../host/linux/memfd.ts";
import { unixPair } from "../../host/linux/unix-socket.ts";

const EFD_SEMAPHORE = 1;
const F_ADD_SEALS = 1033;
const F_SEAL_WRITE = 8;
const F_SEAL_FUTURE_WRITE = 16;
const SYS_pipe2 = 293;
const SYS_epoll_create1 = 291;

/** Both ends: to read from, to write to. */
export function pipe(): [number, number] {
  const pair = Buffer.alloc(8);
  checked("pipe2", syscall4(SYS_pipe2, addressOf(pair), 0, 0, 0));
  return [pair.readInt32LE(0), pair.readInt32LE(4)];
}

/** One that its reader waits for when it is empty, as few front-ends make them. */
export function blockingEventfd(): number {
  return eventfd(0, 0);
}

/** One that gives 1 for each that was written. */
export function semaphoreEventfd(): number {
  return eventfd(0, EFD_SEMAPHORE);
}

export function sealedMemfd(byteLength: number, seal: number): number {
  const fd = createMemfd("sealed", byteLength);
  checked("fcntl", fcntl(fd, F_ADD_SEALS, seal));
  return fd;
}

/** Keeps one end and closes the other. */
function oneEnd([kept, other]: [number, number]): number {
  close(other);
  return kept;
}

/** Each call opens one; the caller closes it. `byteLength` is that of the region it is to stand for. */
export const STRANGE_FILES: Record<string, (byteLength: number) => number> = {
  "a memfd": (byteLength) => createMemfd("good", byteLength),
  "an empty memfd": () => createMemfd("empty", 0),
  "a memfd one byte short": (byteLength) => createMemfd("short", byteLength - 1),
  "a memfd sealed against writing": (byteLength) => sealedMemfd(byteLength, F_SEAL_WRITE),
  "a memfd sealed against later writing": (byteLength) => sealedMemfd(byteLength, F_SEAL_FUTURE_WRITE),
  "a read-only memfd": (byteLength) => {
    const fd = createMemfd("read-only", byteLength);
    try {
      return openSync(`/proc/self/fd/${fd}`, "r");
    } finally {
      close(fd);
    }
  },
  "an eventfd": createEventfd,
  "a blocking eventfd": blockingEventfd,
  "a semaphore": semaphoreEventfd,
  "a pipe's end to read, without the other": () => oneEnd(pipe()),
  "a pipe's end to write, without the other": () => oneEnd(pipe().reverse() as [number, number]),
  "a socket, without the other end": () => oneEnd(unixPair()),
  "a directory": () => openSync("/", "r"),
  "/dev/null": () => openSync("/dev/null", "r+"),
  "/dev/zero": () => openSync("/dev/zero", "r+"),
  "an epoll instance": () => checked("epoll_create1", syscall4(SYS_epoll_create1, 0, 0, 0, 0)),
};
