// Bytes that come in pieces, into buffers of other sizes, one after the other.

export class Scatter {
  private index = 0;
  private position = 0;

  constructor(
    private readonly buffers: readonly Uint8Array[],
    /** What is still to come, in bytes. */
    public remaining: number,
  ) {
    this.skipFull();
  }

  /** Takes as much of `source`, from `start`, as is still to come, and says how much that was. */
  put(source: Uint8Array, start: number, end: number): number {
    const taken = Math.min(end - start, this.remaining);
    for (let from = start; from < start + taken; ) {
      const buffer = this.buffers[this.index]!;
      const count = Math.min(start + taken - from, buffer.length - this.position);
      buffer.set(source.subarray(from, from + count), this.position);
      from += count;
      this.advance(count);
    }
    return taken;
  }

  /** The rest of the buffer that the next byte goes to. */
  next(): Uint8Array {
    return this.buffers[this.index]!.subarray(this.position);
  }

  /** So many bytes have been put into `next()`. */
  advance(byteLength: number): void {
    this.position += byteLength;
    this.remaining -= byteLength;
    this.skipFull();
  }

  private skipFull(): void {
    while (this.index < this.buffers.length && this.position === this.buffers[this.index]!.length) {
      this.index++;
      this.position = 0;
    }
  }
}
