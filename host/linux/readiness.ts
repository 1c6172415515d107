// Waiting for a descriptor in the event loop of the thread that asks.
import koffi from "koffi";
import * as libc from "./libc.ts";
import { F_DUPFD_CLOEXEC } from "./open-file.ts";

const POLLIN = 1;
const POLLOUT = 4;

/** How often to look where the loop can't: no descriptor was to spare. */
const LOOK_MS = 20;

// The watcher dies silently once its handle is collected, so every live one is held here.
const live = new Set<{ close(): void }>();

/** Calls back whenever `fd` can be read, or has been hung up, until stopped. Stop before closing `fd`. */
export function whenReadable(fd: number, callback: () => void): { stop(): void } {
  return watch(fd, { readable: true, disconnect: true }, callback);
}

/**
 * The same for writing. libuv has one watcher a descriptor, and koffi aborts the process at the second: a duplicate
 * lets the same descriptor be watched for reading meanwhile.
 */
export function whenWritable(fd: number, callback: () => void): { stop(): void } {
  const duplicate = libc.fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (duplicate === -1) return lookUntilWritable(fd, callback);
  const watcher = watch(duplicate, { writable: true, disconnect: true }, callback);
  let isLive = true;
  return {
    stop() {
      if (!isLive) return;
      isLive = false;
      watcher.stop();
      libc.close(duplicate);
    },
  };
}

function lookUntilWritable(fd: number, callback: () => void): { stop(): void } {
  const timer = setInterval(() => isWritable(fd) && callback(), LOOK_MS);
  return { stop: () => clearInterval(timer) };
}

type Interest = { readable?: true; writable?: true; disconnect?: true };

function watch(fd: number, interest: Interest, callback: () => void): { stop(): void } {
  // Later in the same turn of the loop: on Node 26 promises that koffi's callback itself resolves stay pending until
  // something else wakes the loop.
  const handle = koffi.node.poll(fd, interest, () => setImmediate(() => live.has(handle) && callback()));
  live.add(handle);
  return {
    stop() {
      if (live.delete(handle)) handle.close();
    },
  };
}

const POLLERR = 8;
const POLLHUP = 0x10;
const POLLRDHUP = 0x2000;

const pollfd = Buffer.alloc(8); // fd i32, events i16, revents i16

/** Whether the other end of a socket has gone. */
export function isHungUp(fd: number): boolean {
  pollfd.writeInt32LE(fd, 0);
  pollfd.writeInt16LE(POLLRDHUP, 4);
  libc.checked("poll", libc.poll(pollfd, 1, 0));
  return (pollfd.readInt16LE(6) & (POLLRDHUP | POLLHUP | POLLERR)) !== 0;
}

/** Whether writing to `fd` would not wait, now. */
export function isWritable(fd: number): boolean {
  return isReady(fd, POLLOUT);
}

/** The same for reading, be it the end. */
export function isReadable(fd: number): boolean {
  return isReady(fd, POLLIN);
}

function isReady(fd: number, events: number): boolean {
  pollfd.writeInt32LE(fd, 0);
  pollfd.writeInt16LE(events, 4);
  return libc.poll(pollfd, 1, 0) === 1;
}
