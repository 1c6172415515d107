// One vhost-user socket: whole messages, with the descriptors that came along. Either side of the protocol.
import { ProtocolError } from "../errors.ts";
import { EPIPE } from "../linux/errno.ts";
import { close, SystemError } from "../linux/libc.ts";
import { isReadable, whenReadable, whenWritable } from "../linux/readiness.ts";
import * as socket from "../linux/unix-socket.ts";
import { decodeHeader, HEADER_SIZE, type Header } from "./codec.ts";
import { requestName, VHOST_USER_VERSION, VHOST_USER_VERSION_MASK } from "./messages.ts";

export interface Message {
  request: number;
  flags: number;
  payload: Buffer;
  /** Whoever takes the message owns them. */
  fds: number[];
}

/** More than any payload has: 8 regions make 264 bytes, a whole config space 268. */
export const PAYLOAD_MAX = 4096;

/** Who has to know when nothing of the peer's is read that was not answered. */
export interface ReadingObserver {
  /** A byte may be read from here on. */
  reading(): void;
  /** There is none, and what was read before is answered. */
  waiting(): void;
}

export class Connection {
  private observer: ReadingObserver | undefined;
  /** Whether a whole message has come: those who only try whether somebody listens send none. */
  hasSpoken = false;
  private isClosed = false;
  private isInterrupted = false;
  /** Descriptors of the message that is still arriving. */
  private fds: number[] = [];
  /** No byte of a message has been read that was not served: a message may begin. */
  private isBetween = false;
  private isHeld = false;
  /** Told when that has become true; when it no longer is held. */
  private readonly holders = new Set<() => void>();
  private goOn = () => {};
  /** Ends the waits of receive() and send(). */
  private readonly waits = new Set<() => void>();
  private lastSend: Promise<void> = Promise.resolve();

  constructor(readonly fd: number) {}

  /**
   * The next whole message, or undefined when the peer has gone, between messages or within one. One call at a time.
   * After a ProtocolError the stream has lost its framing: close it.
   */
  async receive(): Promise<Message | undefined> {
    try {
      return await this.receiveMessage();
    } catch (error) {
      // A peer that dies with bytes of ours unread is reported as ECONNRESET, not as an end of file.
      if (error instanceof SystemError) return undefined;
      throw error;
    } finally {
      this.closeFds();
    }
  }

  /** The descriptors are duplicated on the way: the caller keeps its own. Fails with EPIPE when the peer has gone. */
  send(bytes: Buffer, fds: readonly number[] = []): Promise<void> {
    const sent = this.lastSend.then(() => this.sendWhole(bytes, fds));
    this.lastSend = sent.catch(() => {});
    return sent;
  }

  observe(observer: ReadingObserver): void {
    this.observer = observer;
    if (this.isBetween) observer.waiting();
  }

  /** Resolves once nothing is read that was not answered: nothing will be, until release(). Also once the peer has gone. */
  hold(): Promise<void> {
    this.isHeld = true;
    if (this.isBetween || this.isClosed) return Promise.resolve();
    return new Promise((resolve) => this.holders.add(resolve));
  }

  release(): void {
    this.isHeld = false;
    this.goOn();
  }

  /** From now on nobody waits for the peer: receive() ends as if it had gone, send() fails when there is no room. */
  interrupt(): void {
    this.isInterrupted = true;
    this.goOn();
    for (const endWait of this.waits) endWait();
  }

  /** The peer sees the end, whoever else has the socket. */
  end(): void {
    if (!this.isClosed) socket.shutDown(this.fd);
    this.close();
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.interrupt();
    this.tellHolders();
    this.closeFds();
    close(this.fd);
  }

  private tellHolders(): void {
    for (const tell of this.holders) tell();
    this.holders.clear();
  }

  /** Between two messages, for as long as it is held. */
  private async pass(): Promise<void> {
    this.isBetween = true;
    while (this.isHeld && !this.isInterrupted) {
      this.tellHolders();
      await new Promise<void>((resolve) => {
        this.goOn = resolve;
      });
    }
  }

  private async receiveMessage(): Promise<Message | undefined> {
    const bytes = await this.receiveBytes(HEADER_SIZE, "header");
    if (bytes === undefined) return undefined;
    const header = decodeHeader(bytes);
    checkHeader(header);
    const payload = await this.receiveBytes(header.size, requestName(header.request));
    if (payload === undefined) return undefined;
    const fds = this.fds;
    this.fds = [];
    this.hasSpoken = true;
    return { request: header.request, flags: header.flags, payload, fds };
  }

  /** Never reads past the end, so that the next message's descriptors stay with its first byte. */
  private async receiveBytes(byteLength: number, what: string): Promise<Buffer | undefined> {
    const bytes = Buffer.alloc(byteLength);
    for (let at = 0; at < byteLength; ) {
      const isFirst = what === "header" && at === 0;
      if (isFirst) await this.pass();
      if (this.isInterrupted) return undefined;
      const received = this.mayRead(isFirst) ? socket.receive(this.fd, bytes.subarray(at)) : undefined;
      if (received === undefined) {
        await this.wait(whenReadable);
        continue;
      }
      this.isBetween = false;
      this.takeFds(received, what, isFirst);
      if (received.byteLength === 0) return undefined;
      at += received.byteLength;
    }
    return bytes;
  }

  /** Whoever observes hears of a reading only when there is something: what it does then may take its time. */
  private mayRead(isFirst: boolean): boolean {
    if (!isFirst || this.observer === undefined) return true;
    const isThere = isReadable(this.fd);
    if (isThere) this.observer.reading();
    else this.observer.waiting();
    return isThere;
  }

  /** Descriptors come with the first byte of a header ("Communication"); what comes with another belongs to nobody. */
  private takeFds(received: socket.Received, what: string, isFirstByte: boolean): void {
    if (isFirstByte) this.fds = received.fds;
    else closeAll(received.fds);
    if (received.truncated) throw new ProtocolError(what, "its descriptors did not all arrive");
  }

  private async sendWhole(bytes: Buffer, fds: readonly number[]): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      if (this.isClosed) throw new SystemError("sendmsg", EPIPE);
      const sent = socket.send(this.fd, bytes.subarray(at), at === 0 ? fds : []);
      at += sent;
      if (sent > 0) continue;
      if (this.isInterrupted) throw new SystemError("sendmsg", EPIPE);
      await this.wait(whenWritable);
    }
  }

  private wait(when: typeof whenReadable): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        watch.stop();
        this.waits.delete(end);
        resolve();
      };
      const watch = when(this.fd, end);
      this.waits.add(end);
    });
  }

  private closeFds(): void {
    closeAll(this.fds);
    this.fds = [];
  }
}

function checkHeader({ request, flags, size }: Header): void {
  const version = flags & VHOST_USER_VERSION_MASK;
  if (version !== VHOST_USER_VERSION) throw new ProtocolError(requestName(request), `version ${version}`);
  if (size > PAYLOAD_MAX) throw new ProtocolError(requestName(request), `payload of ${size} bytes`);
}

function closeAll(fds: readonly number[]): void {
  for (const fd of fds) close(fd);
}
