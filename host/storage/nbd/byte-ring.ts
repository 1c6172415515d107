// Memory for copies that come and go in about one order: nothing is allocated for each, and what is in use stays small and warm.

export interface RingPiece {
  /** One, or two at the ring's end. */
  parts: readonly Uint8Array[];
  byteLength: number;
  isReleased: boolean;
}

/** When so many released pieces are remembered, they are forgotten together. */
const FORGET_AT = 1024;

export class ByteRing {
  private readonly bytes: Uint8Array;
  private start = 0;
  private used = 0;
  /** In their order in the ring; those before `oldest` are no longer in it. */
  private pieces: RingPiece[] = [];
  private oldest = 0;

  /** The system gives the memory as it is touched. */
  constructor(byteLength: number) {
    this.bytes = new Uint8Array(byteLength);
  }

  /** So many bytes behind all that is in use; undefined if there isn't room. */
  push(byteLength: number): RingPiece | undefined {
    const { bytes } = this;
    if (this.used + byteLength > bytes.length) return undefined;
    if (this.used === 0) this.start = 0;
    const at = (this.start + this.used) % bytes.length;
    this.used += byteLength;
    const first = bytes.subarray(at, Math.min(at + byteLength, bytes.length));
    const parts =
      first.length === byteLength ? [first] : [first, bytes.subarray(0, byteLength - first.length)];
    const piece = { parts, byteLength, isReleased: false };
    this.pieces.push(piece);
    return piece;
  }

  /** Its bytes are free once all that were pushed before are. */
  release(piece: RingPiece): void {
    piece.isReleased = true;
    for (let oldest = this.pieces[this.oldest]; oldest?.isReleased; oldest = this.pieces[this.oldest]) {
      this.start = (this.start + oldest.byteLength) % this.bytes.length;
      this.used -= oldest.byteLength;
      this.oldest++;
    }
    if (this.oldest < FORGET_AT && this.oldest < this.pieces.length) return;
    this.pieces = this.pieces.slice(this.oldest);
    this.oldest = 0;
  }
}
