// The socket to the front-end that shows pictures. It never waits: messages are asked for when there is room for them, and replies
// are handed on as they come.
import { fstatSync } from "node:fs";
import { close } from "../linux/libc.ts";
import { whenReadable, whenWritable } from "../linux/readiness.ts";
import { receive, send, setNonBlocking } from "../linux/unix-socket.ts";
import { HEADER_BYTES, VHOST_USER_GPU_MSG_FLAG_REPLY } from "./messages.ts";

/** The longest reply is struct virtio_gpu_resp_edid. */
const REPLY_MAX = 1056;
/** What is written in a turn of the event loop: a front-end that reads as fast as we write holds up nobody. */
const TURN_BYTES = 1 << 20;

export interface LinkUser {
  /** The next message, or undefined while there is none. It stays as it is until the next one is asked for. */
  next(): Uint8Array | undefined;
  hear(request: number, payload: Buffer): void;
  /** The front-end has closed it, or has sent what makes no sense. It is closed. */
  lost(reason: string | undefined): void;
}

export class Link {
  private rest: Uint8Array = new Uint8Array(0);
  private received = Buffer.alloc(0);
  private readonly readable: { stop(): void };
  private writable: { stop(): void } | undefined;
  private turn: NodeJS.Immediate | undefined;
  private isClosed = false;

  /** Takes the descriptor. Throws RangeError for what is no socket. */
  constructor(
    private readonly fd: number,
    private readonly user: LinkUser,
  ) {
    if (!fstatSync(fd).isSocket()) {
      close(fd);
      throw new RangeError("the descriptor is no socket");
    }
    setNonBlocking(fd);
    this.readable = whenReadable(fd, () => this.read());
  }

  /** There may be a message. It is written in a turn of its own, with what comes in the same turn. */
  wake(): void {
    if (this.isClosed || this.turn || this.writable) return;
    this.turn = setImmediate(() => {
      this.turn = undefined;
      this.attempt(() => this.write());
    });
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    clearImmediate(this.turn);
    this.writable?.stop();
    this.readable.stop();
    close(this.fd);
  }

  private write(): void {
    for (let written = 0; written < TURN_BYTES; ) {
      if (this.rest.length === 0) this.rest = this.user.next() ?? this.rest;
      if (this.rest.length === 0) return;
      const count = send(this.fd, this.rest);
      this.rest = this.rest.subarray(count);
      written += count;
      if (this.rest.length > 0) {
        this.writeLater();
        return;
      }
    }
    this.wake();
  }

  private writeLater(): void {
    this.writable = whenWritable(this.fd, () => {
      this.writable?.stop();
      this.writable = undefined;
      this.attempt(() => this.write());
    });
  }

  private read(): void {
    this.attempt(() => {
      const room = Buffer.alloc(HEADER_BYTES + REPLY_MAX);
      const got = receive(this.fd, room);
      if (got === undefined) return;
      for (const fd of got.fds) close(fd);
      this.received = Buffer.concat([this.received, room.subarray(0, got.byteLength)]);
      if (got.byteLength === 0) this.lose();
      else this.take();
    });
  }

  private take(): void {
    while (!this.isClosed && this.received.length >= HEADER_BYTES) {
      const request = this.received.readUInt32LE(0);
      const flags = this.received.readUInt32LE(4);
      const size = this.received.readUInt32LE(8);
      if ((flags & VHOST_USER_GPU_MSG_FLAG_REPLY) === 0 || size > REPLY_MAX) {
        this.lose(`message ${request} with flags ${flags} and ${size} bytes is no reply`);
        return;
      }
      const end = HEADER_BYTES + size;
      if (this.received.length < end) return;
      const payload = this.received.subarray(HEADER_BYTES, end);
      this.received = this.received.subarray(end);
      this.user.hear(request, payload);
    }
  }

  private attempt(move: () => void): void {
    try {
      move();
    } catch (error) {
      // EPIPE and ECONNRESET: it has gone, which is no fault.
      const { code } = error as NodeJS.ErrnoException;
      if (code === undefined) throw error;
      this.lose();
    }
  }

  private lose(reason?: string): void {
    if (this.isClosed) return;
    this.close();
    this.user.lost(reason);
  }
}
