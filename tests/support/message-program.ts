// A program of the host at a Unix socket of messages (SOCK_SEQPACKET), which Node's own sockets can't be.

import { close } from "../../host/linux/libc.ts";
import type { SocketSet, WatchedSocket } from "../../host/linux/socket-set.ts";
import { acceptUnix, connectUnix, listenUnix } from "../../host/linux/unix-socket.ts";
import { until } from "./until.ts";

export class MessageProgram {
  private constructor(private readonly socket: WatchedSocket) {}

  /** `set`: closes it with all others. */
  static connect(set: SocketSet, path: string): MessageProgram {
    return new MessageProgram(set.add(connectUnix(path, "seqpacket"), "seqpacket"));
  }

  static listen(path: string): {
    next(set: SocketSet, timeoutMs?: number): Promise<MessageProgram>;
    close(): void;
  } {
    const fd = listenUnix(path, {}, 16, "seqpacket");
    return {
      next: async (set, timeoutMs) => {
        const accepted = await until(() => acceptUnix(fd), "the guest's call", timeoutMs);
        return new MessageProgram(set.add(accepted, "seqpacket"));
      },
      close: () => close(fd),
    };
  }

  /** Whether there was room. */
  say(message: Uint8Array): boolean {
    this.socket.write([message]);
    return this.socket.isWritable;
  }

  async said(message: Uint8Array): Promise<void> {
    await until(() => this.socket.isWritable, "there is room");
    this.say(message);
  }

  /** The next message; undefined: no more will come. */
  async hear(timeoutMs?: number): Promise<Buffer | undefined> {
    const { socket } = this;
    const look = () => socket.messageLength() || (socket.hasEnded && -1);
    const length = await until(() => look() || undefined, "a message", timeoutMs);
    if (length < 0) return undefined;
    const message = Buffer.alloc(length);
    socket.read([message]);
    return message;
  }

  close(): void {
    this.socket.close();
  }
}
