// A socket to the server, with TLS or without: bytes out, and bytes in to where their receiver wants them. It knows no NBD.
import { connect, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from "node:tls";
import { reasonOf } from "../../errors.ts";
import { limitSilence } from "../../linux/tcp.ts";
import { onAbort } from "../../process/abort.ts";
import { ConnectionError, HungUpError } from "./errors.ts";

/** What takes the server's bytes. */
export interface Receiver {
  /** Where the next bytes may go. */
  buffer(): Uint8Array;
  /** So many bytes have come, to the start of this buffer. With TLS it is another than was asked for. */
  received(byteLength: number, buffer: Uint8Array): void;
  /** Nothing more will come. Called once. */
  ended(reason: ConnectionError): void;
}

export type Address = { path: string } | { host: string; port: number };

/** A server that reads nothing more must not keep us. */
const HANG_UP_MS = 1000;
const SILENCE_MS = 30_000;
const nowhere = new Uint8Array(1);

export class Wire {
  private receiver: Receiver | undefined;
  private end: ConnectionError | undefined;
  private onFailure: ((reason: ConnectionError) => void) | undefined;

  private constructor(
    private socket: Socket,
    private readonly isPlain: boolean,
  ) {}

  /**
   * Rejects with a ConnectionError, also when `stopping` says so. `isPlain`: no TLS will be wanted, so the socket may read
   * straight into the receiver's buffers. `silenceMs`: how long the server's host may be silent.
   */
  static connect(
    address: Address,
    isPlain: boolean,
    stopping: AbortSignal,
    silenceMs = SILENCE_MS,
  ): Promise<Wire> {
    // The socket asks before it is returned to us.
    let wire: Wire | undefined;
    const inPlace = {
      onread: {
        buffer: () => wire?.receiver?.buffer() ?? nowhere,
        callback: (byteLength: number, buffer: Uint8Array) => wire!.take(byteLength, buffer),
      },
    };
    // noDelay: requests are put together here, and a packet that waits for more waits in vain.
    const options = { noDelay: true };
    const socket = connect({ ...address, ...options, ...(isPlain && inPlace) });
    const opened = new Wire(socket, isPlain);
    wire = opened;
    return new Promise((resolve, reject) => {
      const stop = () => socket.destroy(new ConnectionError("the server doesn't answer"));
      const unhear = onAbort(stopping, stop);
      socket.once("connect", () => {
        unhear();
        if ("port" in address) limitSilence(socket, silenceMs);
        opened.watch(socket);
        resolve(opened);
      });
      socket.once("error", (error) => {
        unhear();
        reject(new ConnectionError(reasonOf(error)));
      });
    });
  }

  /** Who takes what comes from now on. What came before there was somebody was lost, so be early. */
  deliverTo(receiver: Receiver): void {
    this.receiver = receiver;
    if (this.end) receiver.ended(this.end);
  }

  /** Goes on with TLS. Rejects with a ConnectionError if that fails. */
  async secure(options: ConnectionOptions): Promise<void> {
    this.socket.removeAllListeners("data");
    const secured = startTls({ ...options, socket: this.socket });
    this.socket = secured;
    this.watch(secured);
    return new Promise((resolve, reject) => {
      // A socket that is destroyed while TLS begins may never say that it has closed.
      this.onFailure = reject;
      secured.once("secureConnect", resolve);
      secured.once("error", (error) => reject(new ConnectionError(`TLS: ${error.message}`)));
      secured.once("close", () => reject(new ConnectionError("TLS: the server hung up")));
    });
  }

  /** `sent` is called once nothing reads the chunks any more; not if the wire is destroyed first. */
  write(chunks: readonly Uint8Array[], sent?: () => void): void {
    const { socket } = this;
    const last = chunks.length - 1;
    // Node reports a write that destroy() has cut off as done: whoever has made its request again must not hear that.
    const report = sent && ((error: unknown) => error || socket.destroyed || sent());
    if (last > 0) socket.cork();
    chunks.forEach((chunk, i) => {
      if (i === last && report) socket.write(chunk, report);
      else socket.write(chunk);
    });
    if (last > 0) socket.uncork();
  }

  /** Ends it once all that was written is on its way. */
  hangUp(): void {
    this.receiver = undefined;
    const { socket } = this;
    const timer = setTimeout(() => socket.destroy(), HANG_UP_MS);
    socket.end(() => socket.destroy());
    socket.once("close", () => clearTimeout(timer));
  }

  /** Neither reads nor writes anybody's memory from now on. */
  destroy(): void {
    this.receiver = undefined;
    this.socket.destroy();
  }

  /** Ends it, for a reason that the receiver is told. */
  fail(reason: ConnectionError): void {
    if (this.end) return;
    this.end = reason;
    // Of the others TLS itself has more to say.
    if (!(reason instanceof HungUpError)) this.onFailure?.(reason);
    this.receiver?.ended(reason);
    this.destroy();
  }

  private watch(socket: Socket): void {
    if (!this.isPlain) socket.on("data", (chunk: Buffer) => this.take(chunk.length, chunk));
    socket.on("end", () => this.fail(new HungUpError("the server hung up")));
    socket.on("error", (error) => this.fail(new HungUpError(reasonOf(error))));
    socket.on("close", () => this.fail(new HungUpError("the connection has closed")));
  }

  private take(byteLength: number, buffer: Uint8Array): boolean {
    this.receiver?.received(byteLength, buffer);
    return true;
  }
}

/** Throws what is wrong with the certificates as a ConnectionError. */
function startTls(options: ConnectionOptions): TLSSocket {
  try {
    return connectTls(options);
  } catch (error) {
    throw new ConnectionError(`TLS: ${(error as Error).message}`);
  }
}
