// A place in the buffers of a descriptor chain, which follow each other in no particular sizes. It knows neither reading nor writing.
import { ShortChain } from "../devices/device.ts";

/** More bytes than this are copied by the engine's own means, which cost more to begin with. */
const BYTE_BY_BYTE_MAX = 16;

/** Whoever has closed a cursor, and knows why. */
export interface Closer {
  whyClosed(): Error;
}

export class ChainCursor {
  /** Bytes from here to the end. */
  left = 0;
  /** Bytes from the beginning to here. */
  passed = 0;
  /** Whether anybody has been given buffers in place, which nothing can take back. */
  isShared = false;
  private index = 0;
  private offset = 0;
  private closer: Closer | undefined;

  constructor(private readonly buffers: readonly Uint8Array[]) {
    for (let i = 0; i < buffers.length; i++) this.left += buffers[i]!.length;
  }

  /** Throws ShortChain past the end, before anything has moved. */
  check(byteLength: number): void {
    if (this.closer) throw this.closer.whyClosed();
    if (!Number.isSafeInteger(byteLength) || byteLength < 0) throw new RangeError(`${byteLength} bytes`);
    if (byteLength > this.left) throw new ShortChain(`${byteLength} bytes of a chain with ${this.left} left`);
  }

  /** The next bytes in place, buffer by buffer. */
  views(byteLength: number): Uint8Array[] {
    this.check(byteLength);
    const parts: Uint8Array[] = [];
    for (let rest = byteLength; rest > 0; ) {
      const { buffers, index, offset } = this;
      const length = this.step(rest);
      if (length > 0) parts.push(buffers[index]!.subarray(offset, offset + length));
      rest -= length;
    }
    this.isShared ||= parts.length > 0;
    return parts;
  }

  /** Copies the next bytes, as many as there is room for in `target`, or `byteLength`. */
  copyTo(target: Uint8Array, byteLength = target.length): void {
    this.check(byteLength);
    for (let at = 0; at < byteLength; ) {
      const { buffers, index, offset } = this;
      const length = this.step(byteLength - at);
      copy(buffers[index]!, offset, target, at, length);
      at += length;
    }
  }

  /** Copies what `source` has, or so many bytes of it, over the next ones. */
  copyFrom(source: Uint8Array, byteLength = source.length): void {
    this.check(byteLength);
    for (let at = 0; at < byteLength; ) {
      const { buffers, index, offset } = this;
      const length = this.step(byteLength - at);
      copy(source, at, buffers[index]!, offset, length);
      at += length;
    }
  }

  /** From here on whoever reads or writes gets the closer's error. */
  close(closer: Closer): void {
    this.closer = closer;
  }

  /** Past the next `most` bytes, or as many of them as the buffer at hand has: returns how many. */
  private step(most: number): number {
    const room = this.buffers[this.index]!.length - this.offset;
    const length = Math.min(most, room);
    this.left -= length;
    this.passed += length;
    if (length === room) {
      this.index++;
      this.offset = 0;
    } else this.offset += length;
    return length;
  }
}

function copy(from: Uint8Array, fromAt: number, to: Uint8Array, toAt: number, length: number): void {
  if (length > BYTE_BY_BYTE_MAX) to.set(from.subarray(fromAt, fromAt + length), toAt);
  else for (let i = 0; i < length; i++) to[toAt + i] = from[fromAt + i]!;
}
