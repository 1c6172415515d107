// A place in the buffers of a descriptor chain, which follow each other in no particular sizes. It knows neither reading nor writing.
import { ShortChain } from "../devices/device.ts";

export class ChainCursor {
  /** Bytes from here to the end. */
  left: number;
  /** Bytes from the beginning to here. */
  passed = 0;
  /** Whether anybody has been given buffers in place, which nothing can take back. */
  isShared = false;
  private index = 0;
  private offset = 0;
  private whyClosed: (() => Error) | undefined;

  constructor(private readonly buffers: readonly Uint8Array[]) {
    this.left = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
  }

  /** Throws ShortChain past the end, before anything has moved. */
  check(byteLength: number): void {
    if (this.whyClosed) throw this.whyClosed();
    if (!Number.isSafeInteger(byteLength) || byteLength < 0) throw new RangeError(`${byteLength} bytes`);
    if (byteLength > this.left) throw new ShortChain(`${byteLength} bytes of a chain with ${this.left} left`);
  }

  /** The next bytes in place, buffer by buffer. */
  *parts(byteLength: number): Generator<Uint8Array> {
    this.check(byteLength);
    for (let rest = byteLength; rest > 0; ) {
      const buffer = this.buffers[this.index]!;
      const end = Math.min(this.offset + rest, buffer.length);
      const part = buffer.subarray(this.offset, end);
      this.move(part.length, end === buffer.length);
      rest -= part.length;
      if (part.length > 0) yield part;
    }
  }

  views(byteLength: number): Uint8Array[] {
    const parts = [...this.parts(byteLength)];
    this.isShared ||= parts.length > 0;
    return parts;
  }

  /** From here on whoever reads or writes gets this error. */
  close(why: () => Error): void {
    this.whyClosed = why;
  }

  private move(byteLength: number, isBufferDone: boolean): void {
    this.left -= byteLength;
    this.passed += byteLength;
    this.offset = isBufferDone ? 0 : this.offset + byteLength;
    if (isBufferDone) this.index++;
  }
}
