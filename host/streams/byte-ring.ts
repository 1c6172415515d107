// Bytes that wait for room elsewhere: at most so many, whatever pieces they come in.

export class ByteRing {
  /** Taken when the first bytes come. */
  private memory: Uint8Array | undefined;
  private start = 0;
  length = 0;

  constructor(private readonly capacity: number) {}

  /** Throws RangeError for more than there is room for. */
  push(parts: readonly Uint8Array[]): void {
    for (const part of parts) {
      if (part.length > this.capacity - this.length) throw new RangeError(`no room for ${part.length} bytes`);
      this.memory ??= Buffer.allocUnsafeSlow(this.capacity);
      const end = (this.start + this.length) % this.capacity;
      const first = part.subarray(0, this.capacity - end);
      this.memory.set(first, end);
      this.memory.set(part.subarray(first.length), 0);
      this.length += part.length;
    }
  }

  /** The oldest bytes, in place: in two parts at the most. */
  parts(most = this.length): Uint8Array[] {
    const length = Math.min(most, this.length);
    if (this.memory === undefined || length === 0) return [];
    const first = this.memory.subarray(this.start, Math.min(this.start + length, this.capacity));
    const rest = length - first.length;
    return rest > 0 ? [first, this.memory.subarray(0, rest)] : [first];
  }

  /** So many of the oldest have found room. */
  drop(byteLength: number): void {
    this.length -= byteLength;
    this.start = (this.start + byteLength) % this.capacity;
    // What seldom waits keeps no memory.
    if (this.length === 0) this.memory = undefined;
  }
}
