// Sockets whose bytes go straight between them and any memory, without waiting (sendmsg(2), recvmsg(2)). Many are watched together,
// by their edges (epoll(7)): one that nobody reads from or writes to costs nothing.
import { EAGAIN, EINTR } from "./errno.ts";
import * as libc from "./libc.ts";
import { whenReadable } from "./readiness.ts";
import type { SocketKind } from "./unix-socket.ts";

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 0x1;
const EPOLLOUT = 0x4;
const EPOLLERR = 0x8;
const EPOLLHUP = 0x10;
const EPOLLRDHUP = 0x2000;
const EPOLLET = 0x80000000;
const INTEREST = EPOLLIN + EPOLLOUT + EPOLLRDHUP + EPOLLET;

const MSG_PEEK = 0x2;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const SHUT_RD = 0;
const SHUT_WR = 1;

/** struct epoll_event, packed: events u32, data u64. */
const EVENT_SIZE = 12;
const EVENTS = 128;
const events = Buffer.alloc(EVENTS * EVENT_SIZE);
const eventsAddress = libc.addressOf(events);

/** More than this at a time are given to the kernel in parts. */
const PARTS_MAX = 1024;
const IOVEC_SIZE = 16;
const MSGHDR_SIZE = 56;
const iovecs = new Uint32Array((PARTS_MAX * IOVEC_SIZE) / 4);
const header = new Uint32Array(MSGHDR_SIZE / 4);
putAddress(header, 16 / 4, libc.addressOf(iovecs));

export class SocketSet {
  private readonly epoll = libc.checked("epoll_create1", libc.epollCreate1(EPOLL_CLOEXEC));
  private readonly watch = whenReadable(this.epoll, () => this.look());
  /** By descriptor. What an edge tells of one that has been closed meanwhile, its successor finds out not to be so. */
  private readonly sockets = new Map<number, WatchedSocket>();

  /** The descriptor, which never waits, is the socket's from here on. Throws SystemError; it is closed then. `kind`: unix-socket.ts. */
  add(fd: number, kind: SocketKind = "stream"): WatchedSocket {
    const event = Buffer.alloc(EVENT_SIZE);
    event.writeUInt32LE(INTEREST, 0);
    event.writeUInt32LE(fd, 4);
    const isAdded = libc.epollCtl(this.epoll, EPOLL_CTL_ADD, fd, event);
    if (isAdded === -1) {
      const error = new libc.SystemError("epoll_ctl", libc.errno());
      libc.close(fd);
      throw error;
    }
    const socket = new WatchedSocket(fd, kind, () => this.sockets.delete(fd));
    this.sockets.set(fd, socket);
    return socket;
  }

  close(): void {
    for (const socket of this.sockets.values()) socket.close();
    this.watch.stop();
    libc.close(this.epoll);
  }

  private look(): void {
    const count = libc.epollWait(this.epoll, eventsAddress, EVENTS, 0);
    const seen: [socket: WatchedSocket, bits: number][] = [];
    for (let i = 0; i < count; i++) {
      const socket = this.sockets.get(events.readUInt32LE(i * EVENT_SIZE + 4));
      if (socket) seen.push([socket, events.readUInt32LE(i * EVENT_SIZE)]);
    }
    for (const [socket, bits] of seen) socket.tell(bits);
  }
}

export class WatchedSocket {
  /** Whether there may be something to read; room to write. */
  isReadable = false;
  isWritable = false;
  /** The peer sends no more; it has gone altogether. What it sent before can be read still. */
  hasEnded = false;
  hasGone = false;
  /** Called when any of these has become true. */
  onEdge = (): void => {};
  private isOpen = true;

  constructor(
    readonly fd: number,
    private readonly kind: SocketKind,
    private readonly forget: () => void,
  ) {}

  tell(bits: number): void {
    if (!this.isOpen) return;
    this.hasGone ||= (bits & (EPOLLHUP | EPOLLERR)) !== 0;
    this.hasEnded ||= this.hasGone || (bits & EPOLLRDHUP) !== 0;
    this.isReadable ||= this.hasEnded || (bits & EPOLLIN) !== 0;
    this.isWritable ||= (bits & EPOLLOUT) !== 0;
    this.onEdge();
  }

  /** Fills these places, one after the other, and returns with how many bytes. 0: no more will come; undefined: nothing is here now. */
  read(places: readonly Uint8Array[]): number | undefined {
    const wanted = prepare(places);
    const length = libc.recvmsg(this.fd, header, MSG_DONTWAIT);
    if (length === -1) return this.failedRead();
    // Whoever has sent less than there was room for has sent no more until the next edge; of messages, each comes alone.
    if (this.kind === "stream" && length < wanted && !this.hasEnded) this.isReadable = false;
    return length;
  }

  /** The same without taking it. */
  peek(place: Uint8Array): number | undefined {
    const length = libc.recv(this.fd, libc.addressOf(place), place.length, MSG_DONTWAIT | MSG_PEEK);
    return length === -1 ? this.failedRead() : length;
  }

  /** Of the next message. 0: it has no bytes, or no more will come; undefined: none is here now. */
  messageLength(): number | undefined {
    const length = libc.recv(this.fd, eventsAddress, 0, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC);
    return length === -1 ? this.failedRead() : length;
  }

  /** Writes these parts, as far as there is room, and returns how many bytes that were. Where the peer has gone there is none. */
  write(parts: readonly Uint8Array[]): number {
    const wanted = prepare(parts);
    const length = libc.sendmsg(this.fd, header, MSG_DONTWAIT | MSG_NOSIGNAL);
    // A message is written whole or not at all.
    if (length < wanted) this.isWritable = false;
    if (length !== -1) return length;
    const errno = libc.errno();
    if (errno !== EAGAIN && errno !== EINTR) this.hasGone = true;
    return 0;
  }

  /** The peer hears that nothing more will come; that nothing more will be read. */
  endWrite(): void {
    libc.shutdown(this.fd, SHUT_WR);
  }

  endRead(): void {
    libc.shutdown(this.fd, SHUT_RD);
  }

  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.forget();
    libc.close(this.fd);
  }

  /** A peer that was killed resets its socket: that is its end. */
  private failedRead(): number | undefined {
    const errno = libc.errno();
    if (errno === EINTR) return undefined;
    this.isReadable = false;
    if (errno === EAGAIN) return undefined;
    this.hasGone = true;
    this.hasEnded = true;
    return 0;
  }
}

/** SAFETY: whoever calls holds the parts until the system call has returned. */
function prepare(parts: readonly Uint8Array[]): number {
  const count = Math.min(parts.length, PARTS_MAX);
  let byteLength = 0;
  for (let i = 0; i < count; i++) {
    const part = parts[i]!;
    const at = (i * IOVEC_SIZE) / 4;
    putAddress(iovecs, at, addressOf(part));
    iovecs[at + 2] = part.length;
    byteLength += part.length;
  }
  header[24 / 4] = count;
  header[48 / 4] = 0;
  return byteLength;
}

/** Of 64 bits. A length has no upper half. */
function putAddress(words: Uint32Array, at: number, address: number): void {
  words[at] = address;
  words[at + 1] = Math.floor(address / 2 ** 32);
}

/** Where the memory that was asked for last begins: that of a guest, for the most part. Memory does not move. */
let recent: ArrayBufferLike | undefined;
let recentAddress = 0;

/** To ask costs as much as a system call. */
function addressOf(part: Uint8Array): number {
  const { buffer, byteOffset } = part;
  if (buffer !== recent) {
    recentAddress = libc.addressOf(part) - byteOffset;
    recent = buffer;
  }
  return recentAddress + byteOffset;
}
