// Memory for copies that come and go in one order: nothing is allocated for each, and what is in use stays small and warm.

export class ByteRing {
  private readonly bytes: Uint8Array;
  private start = 0;
  private used = 0;

  /** The system gives the memory as it is touched. */
  constructor(byteLength: number) {
    this.bytes = new Uint8Array(byteLength);
  }

  /** So many bytes behind all that is in use, as one part or two; undefined if there isn't room. */
  push(byteLength: number): Uint8Array[] | undefined {
    const { bytes } = this;
    if (this.used + byteLength > bytes.length) return undefined;
    if (this.used === 0) this.start = 0;
    const at = (this.start + this.used) % bytes.length;
    this.used += byteLength;
    const first = bytes.subarray(at, Math.min(at + byteLength, bytes.length));
    return first.length === byteLength ? [first] : [first, bytes.subarray(0, byteLength - first.length)];
  }

  /** Gives back the bytes that have been in use for longest. */
  shift(byteLength: number): void {
    this.start = (this.start + byteLength) % this.bytes.length;
    this.used -= byteLength;
  }
}
