// Sockets of AF_VSOCK on this machine (vsock(7)): between virtual machines and their host, and on one machine.
import { VMADDR_CID_ANY, VMADDR_CID_LOCAL, VMADDR_PORT_ANY } from "../../assembly/spec/vsock-address.ts";
import { EINPROGRESS } from "./errno.ts";
import * as libc from "./libc.ts";

const AF_VSOCK = 40;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;

/** struct sockaddr_vm: family u16, reserved u16, port u32, cid u32, flags u8, and zeroes. */
const ADDRESS_SIZE = 16;

/** Begins to connect: the socket is writable once it is connected. Throws SystemError. */
export function connectVsock(cid: number, port: number): number {
  return withSocket((fd) => {
    const result = libc.connect(fd, addressOf(cid, port), ADDRESS_SIZE);
    if (result !== -1) return;
    const errno = libc.errno();
    if (errno !== EINPROGRESS) throw new libc.SystemError("connect", errno);
  });
}

/** Listens at this port of the machine's, whoever calls. Throws SystemError. */
export function listenVsock(port: number, backlog: number): number {
  return withSocket((fd) => {
    libc.checked("bind", libc.bind(fd, addressOf(VMADDR_CID_ANY, port), ADDRESS_SIZE));
    libc.checked("listen", libc.listen(fd, backlog));
  });
}

/** What this machine has: no such sockets, sockets that can't reach the machine itself, or such that can. Throws SystemError. */
export function vsockSupport(): "none" | "no loopback" | "loopback" {
  try {
    // Only what a transport is there for can be bound to.
    const bind = (fd: number) => libc.bind(fd, addressOf(VMADDR_CID_LOCAL, VMADDR_PORT_ANY), ADDRESS_SIZE);
    let isBound = false;
    const fd = withSocket((each) => {
      isBound = bind(each) !== -1;
    });
    libc.close(fd);
    return isBound ? "loopback" : "no loopback";
  } catch (error) {
    if ((error as libc.SystemError).code === "EAFNOSUPPORT") return "none";
    throw error;
  }
}

function withSocket(use: (fd: number) => void): number {
  const fd = libc.checked("socket", libc.socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  try {
    use(fd);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

function addressOf(cid: number, port: number): Buffer {
  const address = Buffer.alloc(ADDRESS_SIZE);
  address.writeUInt16LE(AF_VSOCK, 0);
  address.writeUInt32LE(port, 4);
  address.writeUInt32LE(cid, 8);
  return address;
}
