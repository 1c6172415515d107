// Reads a connection's bytes in the order in which they are wanted, for the handshake.
import type { ConnectionError } from "./errors.ts";
import type { Receiver } from "./wire.ts";

const CHUNK_SIZE = 4096;

export class ByteReader implements Receiver {
  private readonly chunk = new Uint8Array(CHUNK_SIZE);
  private bytes = Buffer.alloc(0);
  private end: ConnectionError | undefined;
  private wake: (() => void) | undefined;

  /** Resolves once there are so many; rejects if they won't come. One call at a time. */
  async read(byteLength: number): Promise<Buffer> {
    while (this.bytes.length < byteLength) {
      if (this.end) throw this.end;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    const taken = this.bytes.subarray(0, byteLength);
    this.bytes = this.bytes.subarray(byteLength);
    return taken;
  }

  /** Bytes that came without being asked for. */
  get leftover(): number {
    return this.bytes.length;
  }

  buffer(): Uint8Array {
    return this.chunk;
  }

  received(byteLength: number, buffer: Uint8Array): void {
    this.bytes = Buffer.concat([this.bytes, buffer.subarray(0, byteLength)]);
    this.wake?.();
  }

  ended(reason: ConnectionError): void {
    this.end = reason;
    this.wake?.();
  }
}
