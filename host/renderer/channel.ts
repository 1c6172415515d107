// A socket between a device and its renderer's process, on either side: frames in, frames out.
import { Socket } from "node:net";
import { decodeFrame, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, type Frame } from "./messages.ts";

export interface ChannelUser {
  /** A RangeError, for what makes no sense, closes the channel, and is told to closed(). */
  hear(frame: Frame): void;
  /** Once. With what was wrong with what came, if anything was. */
  closed(reason?: string): void;
}

export class Channel {
  private readonly socket: Socket;
  private chunks: Buffer[] = [];
  private byteLength = 0;
  private isOpen = true;

  /** Takes the descriptor. */
  constructor(
    fd: number,
    private readonly user: ChannelUser,
  ) {
    this.socket = new Socket({ fd });
    this.socket.on("data", (chunk: Buffer) => this.take(chunk));
    // It is followed by "close".
    this.socket.on("error", () => {});
    this.socket.on("close", () => this.end());
  }

  write(frame: Buffer): void {
    if (this.isOpen) this.socket.write(frame);
  }

  close(): void {
    this.isOpen = false;
    this.socket.destroy();
  }

  private end(reason?: string): void {
    if (!this.isOpen) return;
    this.close();
    this.user.closed(reason);
  }

  private take(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.byteLength += chunk.length;
    try {
      for (let length = this.nextLength(); length !== undefined && this.isOpen; length = this.nextLength()) {
        const bytes = this.gather();
        this.keep(bytes.subarray(length));
        this.user.hear(decodeFrame(bytes.subarray(0, length)));
      }
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.end(error.message);
    }
  }

  /** Of a frame that is here to its end. */
  private nextLength(): number | undefined {
    if (this.byteLength < FRAME_HEADER_BYTES) return undefined;
    if (this.chunks[0]!.length < FRAME_HEADER_BYTES) this.keep(this.gather());
    const length = this.chunks[0]!.readUInt32LE(0);
    if (length < FRAME_HEADER_BYTES || length > FRAME_BYTES_MAX)
      throw new RangeError(`a frame of ${length} bytes`);
    return length <= this.byteLength ? length : undefined;
  }

  private gather(): Buffer {
    return this.chunks.length === 1 ? this.chunks[0]! : Buffer.concat(this.chunks);
  }

  private keep(rest: Buffer): void {
    this.chunks = rest.length > 0 ? [rest] : [];
    this.byteLength = rest.length;
  }
}
