// Unix stream sockets that carry descriptors beside bytes (unix(7), SCM_RIGHTS).
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  openSync,
  unlinkSync,
} from "node:fs";
import { bytesOfText, filePath } from "../process/paths.ts";
import { EAGAIN, ECONNABORTED, EINTR, ENOENT, ENOTCONN } from "./errno.ts";
import * as libc from "./libc.ts";
import { addStatusFlags } from "./status-flags.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_SEQPACKET = 5;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_TYPE = 3;
const SO_PEERCRED = 17;
const SO_ACCEPTCONN = 30;
const SO_DOMAIN = 39;
const SCM_RIGHTS = 1;
const SHUT_RDWR = 2;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CTRUNC = 0x8;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** The longest path that fits sockaddr_un with its closing NUL. */
export const SOCKET_PATH_MAX = 107;

/** Descriptors in one message: SCM_MAX_FD of the kernel. */
const FDS_MAX = 253;

/** A path that begins with "@" is a name in the abstract namespace: no file, so no owner and no mode (unix(7)). */
export function isAbstract(path: string): boolean {
  return path.startsWith("@");
}

/** The first byte of an abstract name is 0, and it ends where the address does. */
function addressOf(pathOrName: string): Buffer {
  if (!isAbstract(pathOrName)) return addressOfPath(pathOrName);
  const address = addressOfPath(pathOrName).subarray(0, -1);
  address[2] = 0;
  return address;
}

function addressOfPath(path: string): Buffer {
  const bytes = bytesOfText(path);
  if (bytes.length > SOCKET_PATH_MAX) throw new RangeError(`longer than ${SOCKET_PATH_MAX} bytes`);
  const address = Buffer.alloc(2 + bytes.length + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  bytes.copy(address, 2);
  return address;
}

/** Of bytes, or of messages in their order. */
export type SocketKind = "stream" | "seqpacket";

const TYPE_OF: Readonly<Record<SocketKind, number>> = { stream: SOCK_STREAM, seqpacket: SOCK_SEQPACKET };

function createSocket(type = SOCK_STREAM): number {
  return libc.checked("socket", libc.socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

function closeOnFailure<T>(fd: number, action: (fd: number) => T): T {
  try {
    return action(fd);
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/** Who may connect to a socket that is a file. What is left out is as the umask and the process have it. */
export interface SocketAccess {
  mode?: number | undefined;
  gid?: number | undefined;
}

/** Until its file has its group, it is its owner's alone. */
const OWNER_ONLY = 0o600;

/**
 * A listening socket at `path`, which must not exist yet, or at an abstract name, which nobody else may have. `backlog`: how many may
 * wait to be accepted.
 */
export function listenUnix(
  path: string,
  access: SocketAccess = {},
  backlog: number = BACKLOG,
  kind: SocketKind = "stream",
): number {
  const address = addressOf(path);
  const isOpenToAll = access.mode === undefined && access.gid === undefined;
  return closeOnFailure(createSocket(TYPE_OF[kind]), (fd) => {
    // bind() gives the file the socket's own mode, so there is no moment at which it has a wider one.
    if (!isOpenToAll) fchmodSync(fd, OWNER_ONLY);
    libc.checked("bind", libc.bind(fd, address, address.length));
    if (!isOpenToAll && !isAbstract(path)) {
      try {
        giveAccess(path, access);
      } catch (error) {
        unlinkSync(filePath(path));
        throw error;
      }
    }
    // Nobody can connect before this, either.
    libc.checked("listen", libc.listen(fd, backlog));
    return fd;
  });
}

/** Front-ends that wait for their turn. */
const BACKLOG = 8;

/** O_PATH of open(2), which Node has no name for: the file itself, whatever it is. */
const O_PATH = 0o10000000;
const S_IFSOCK = 0o140000;

/** By a descriptor: what others may have put in the path's place since must not get our group and mode. */
function giveAccess(path: string, { mode, gid }: SocketAccess): void {
  const file = openSync(filePath(path), O_PATH | constants.O_NOFOLLOW);
  try {
    const stats = fstatSync(file);
    if ((stats.mode & constants.S_IFMT) !== S_IFSOCK || stats.uid !== process.geteuid!())
      throw new libc.SystemError("open", ENOENT);
    const itself = `/proc/self/fd/${file}`;
    if (gid !== undefined) chownSync(itself, -1, gid);
    if (mode !== undefined) chmodSync(itself, mode);
  } finally {
    closeSync(file);
  }
}

/** What is listening at the other end shows the credentials that it had when it began to listen. */
export function connectUnix(path: string, kind: SocketKind = "stream"): number {
  const address = addressOf(path);
  return closeOnFailure(createSocket(TYPE_OF[kind]), (fd) => {
    libc.checked("connect", libc.connect(fd, address, address.length));
    return fd;
  });
}

/** What sends datagrams to a socket, as far as it takes them without waiting: false if not. It is open until the process ends. */
export function datagramTo(name: string): (bytes: Uint8Array, fds?: readonly number[]) => boolean {
  const address = addressOf(name);
  const fd = closeOnFailure(createSocket(SOCK_DGRAM), (socket) => {
    libc.checked("connect", libc.connect(socket, address, address.length));
    return socket;
  });
  return (bytes, fds) => send(fd, bytes, fds) > 0;
}

/** The next connection, non-blocking, or undefined if there is none yet. */
export function acceptUnix(fd: number): number | undefined {
  const accepted = libc.accept4(fd, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (accepted >= 0) return accepted;
  const errno = libc.errno();
  // A connection that was aborted before it was accepted is as none.
  if (errno === EAGAIN || errno === EINTR || errno === ECONNABORTED) return undefined;
  throw new libc.SystemError("accept", errno);
}

/** Two connected sockets, both non-blocking. */
export function unixPair(): [number, number] {
  const pair = Buffer.alloc(8);
  const type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  libc.checked("socketpair", libc.socketpair(AF_UNIX, type, 0, pair));
  return [pair.readInt32LE(0), pair.readInt32LE(4)];
}

/** Whether `fd` is a listening socket; throws if it is no socket. */
export function isListening(fd: number): boolean {
  return socketOption(fd, SO_ACCEPTCONN, 4).readInt32LE(0) !== 0;
}

/** Whether `fd` is of the one kind that can carry vhost-user; throws if it is no socket. */
export function isUnixStream(fd: number): boolean {
  const option = (name: number) => socketOption(fd, name, 4).readInt32LE(0);
  return option(SO_DOMAIN) === AF_UNIX && option(SO_TYPE) === SOCK_STREAM;
}

/** Whether `fd` has or had a peer; throws if it is no socket. */
export function isConnected(fd: number): boolean {
  const address = Buffer.alloc(2 + SOCKET_PATH_MAX + 1);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(address.length);
  if (libc.getpeername(fd, address, length) !== -1) return true;
  const errno = libc.errno();
  if (errno === ENOTCONN) return false;
  throw new libc.SystemError("getpeername", errno);
}

/** Nothing comes or goes any more, by whatever descriptor. One whose peer has gone is as good as shut down. */
export function shutDown(fd: number): void {
  libc.shutdown(fd, SHUT_RDWR);
}

/** For descriptors that others have opened. */
export function setNonBlocking(fd: number): void {
  if (!addStatusFlags(fd, SOCK_NONBLOCK)) throw new libc.SystemError("fcntl", libc.errno());
}

/** The user at the other end: as it was when it connected, or began to listen. struct ucred: pid, uid, gid. */
function peerUser(fd: number): number {
  return socketOption(fd, SO_PEERCRED, 12).readUInt32LE(4);
}

/** Whether the other end is root's or our own user's: all that guards a socket without a file. */
export function isPeerTrusted(fd: number): boolean {
  return [0, process.geteuid!()].includes(peerUser(fd));
}

function socketOption(fd: number, name: number, byteLength: number): Buffer {
  const value = Buffer.alloc(byteLength);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(byteLength);
  libc.checked("getsockopt", libc.getsockopt(fd, SOL_SOCKET, name, value, length));
  return value;
}

/*
 * struct msghdr (x86-64, 56 bytes)      struct cmsghdr
 *  0 name         24 iovlen              0 len u64 (with header)
 *  8 namelen      32 control             8 level i32
 * 16 iov          40 controllen         12 type i32
 *                 48 flags              16 descriptors, i32 each
 */
const MSGHDR_SIZE = 56;
const CMSG_HEADER = 16;
const CONTROL_SIZE = CMSG_HEADER + 4 * FDS_MAX + 4;

/** One recvmsg or sendmsg at a time: its structures are made once and kept. */
class Message {
  private readonly iovec = Buffer.alloc(16);
  readonly control = Buffer.alloc(CONTROL_SIZE);
  readonly header = Buffer.alloc(MSGHDR_SIZE);

  constructor() {
    this.header.writeBigUInt64LE(BigInt(libc.addressOf(this.iovec)), 16);
    this.header.writeBigUInt64LE(1n, 24);
    this.header.writeBigUInt64LE(BigInt(libc.addressOf(this.control)), 32);
  }

  prepare(bytes: Uint8Array, controlLength: number): void {
    this.iovec.writeBigUInt64LE(BigInt(libc.addressOf(bytes)), 0);
    this.iovec.writeBigUInt64LE(BigInt(bytes.length), 8);
    this.header.writeBigUInt64LE(BigInt(controlLength), 40);
    this.header.writeInt32LE(0, 48);
  }

  descriptors(): number[] {
    const fds: number[] = [];
    const end = Number(this.header.readBigUInt64LE(40));
    for (let at = 0; at + CMSG_HEADER <= end; ) {
      const length = Number(this.control.readBigUInt64LE(at));
      if (length < CMSG_HEADER) break;
      const isRights =
        this.control.readInt32LE(at + 8) === SOL_SOCKET && this.control.readInt32LE(at + 12) === SCM_RIGHTS;
      for (let fd = at + CMSG_HEADER; isRights && fd + 4 <= at + length; fd += 4) {
        fds.push(this.control.readInt32LE(fd));
      }
      at += (length + 7) & ~7;
    }
    return fds;
  }
}

const message = new Message();

export interface Received {
  /** Bytes read into the buffer; 0 when the peer has closed. */
  byteLength: number;
  /** Descriptors that came with them, close-on-exec. The caller owns them. */
  fds: number[];
  /** More descriptors were sent than fit. */
  truncated: boolean;
}

/** Reads what is there, without waiting: undefined if nothing is. */
export function receive(fd: number, into: Uint8Array): Received | undefined {
  message.prepare(into, CONTROL_SIZE);
  const byteLength = libc.recvmsg(fd, message.header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (byteLength === -1) {
    const errno = libc.errno();
    if (errno === EAGAIN || errno === EINTR) return undefined;
    throw new libc.SystemError("recvmsg", errno);
  }
  const truncated = (message.header.readInt32LE(48) & MSG_CTRUNC) !== 0;
  return { byteLength, fds: message.descriptors(), truncated };
}

/** Writes as much as fits, without waiting, and returns how much did. The descriptors go with the first byte. */
export function send(fd: number, bytes: Uint8Array, fds: readonly number[] = []): number {
  const controlLength = fds.length === 0 ? 0 : CMSG_HEADER + 4 * fds.length;
  if (controlLength > 0) {
    message.control.writeBigUInt64LE(BigInt(controlLength), 0);
    message.control.writeInt32LE(SOL_SOCKET, 8);
    message.control.writeInt32LE(SCM_RIGHTS, 12);
    fds.forEach((sent, i) => {
      message.control.writeInt32LE(sent, CMSG_HEADER + 4 * i);
    });
  }
  message.prepare(bytes, (controlLength + 7) & ~7);
  const sent = libc.sendmsg(fd, message.header, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent === -1) {
    const errno = libc.errno();
    if (errno === EAGAIN || errno === EINTR) return 0;
    throw new libc.SystemError("sendmsg", errno);
  }
  return sent;
}
