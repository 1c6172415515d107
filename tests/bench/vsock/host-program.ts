// A program of the host that calls a port of the guest, and sends or receives as fast as it goes.
import { EAGAIN } from "../../../host/linux/errno.ts";
import * as libc from "../../../host/linux/libc.ts";
import { connectUnix } from "../../../host/linux/unix-socket.ts";

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const BUFFER_BYTES = 256 << 10;
const POLLIN = 1;
const POLLOUT = 4;

const buffer = Buffer.alloc(BUFFER_BYTES);
const address = libc.addressOf(buffer);
const pollfd = Buffer.alloc(8); // fd i32, events i16, revents i16

export class HostProgram {
  private constructor(private readonly fd: number) {}

  /** Says whom it wants; the answer comes later. */
  static call(uds: string, port: number): HostProgram {
    const program = new HostProgram(connectUnix(uds));
    const line = Buffer.from(`CONNECT ${port}\n`);
    libc.send(program.fd, libc.addressOf(line), line.length, MSG_NOSIGNAL);
    return program;
  }

  /** What has come, up to so many bytes; -1: the other side has ended. */
  take(most = BUFFER_BYTES): number {
    const length = libc.recv(this.fd, address, most, MSG_DONTWAIT);
    if (length > 0) return length;
    return length === -1 && libc.errno() === EAGAIN ? 0 : -1;
  }

  /** The same, as text. */
  takeText(most: number): string {
    const length = this.take(most);
    if (length === -1) throw new Error("nobody answers in the guest");
    return buffer.toString("latin1", 0, length);
  }

  /** Returns how much there was room for; -1: the other side has gone. */
  give(byteLength: number): number {
    const length = libc.send(this.fd, address, byteLength, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (length > 0) return length;
    return length === -1 && libc.errno() === EAGAIN ? 0 : -1;
  }

  /** Sleeps until there is something to take, or room. The event loop sleeps with it. */
  waitToTake(timeoutMs: number): void {
    this.wait(POLLIN, timeoutMs);
  }

  waitToGive(timeoutMs: number): void {
    this.wait(POLLOUT, timeoutMs);
  }

  close(): void {
    libc.close(this.fd);
  }

  private wait(events: number, timeoutMs: number): void {
    pollfd.writeInt32LE(this.fd, 0);
    pollfd.writeInt16LE(events, 4);
    libc.poll(pollfd, 1, timeoutMs);
  }
}
