// A disk that is an object: what a program gives vringd instead of a file. It knows nothing of rings, requests or guests.

/**
 * A disk written in TypeScript.
 *
 * Several requests are in flight at a time, in no order; each settles its own promise. An exception or a rejection fails that
 * request alone: the guest sees an I/O error. A promise that never settles keeps its own request waiting and no other.
 */
export interface BlockDisk {
  /** Bytes; a multiple of the block size. */
  readonly byteLength: bigint;
  /** 512 to 4096, a power of two. Left out: 512. */
  readonly blockSize?: number;
  /** Left out: it is if it has no write(). The guest sees a read-only disk. */
  readonly readOnly?: boolean;
  /** Up to 20 ASCII characters. */
  readonly serial?: string;

  /**
   * Fills the buffers, one after the other, from `offset` (bytes). They are guest memory, without a copy: write to them only
   * until the promise settles.
   */
  read(offset: bigint, buffers: readonly Uint8Array[]): Promise<void>;

  /** Stores what is in the buffers, one after the other, from `offset` (bytes). The guest may change them meanwhile. */
  write?(offset: bigint, buffers: readonly Uint8Array[]): Promise<void>;

  /**
   * All that was written before this was called is stable when it resolves. Left out: writes are stable as they resolve.
   * One that can't make data stable, and forgets which, must not resolve later as if nothing had happened.
   */
  flush?(): Promise<void>;

  /** Advice: the range's contents (bytes) are no longer needed. Left out: does nothing. */
  discard?(offset: bigint, byteLength: bigint): Promise<void>;

  /** The range (bytes) reads as zeroes from now on. `mayUnmap`: the space may be given back. Left out: zeroes are written. */
  writeZeroes?(offset: bigint, byteLength: bigint, mayUnmap: boolean): Promise<void>;

  /**
   * How large the disk is now, in bytes, for one that grows while it is served; requests past the former end may follow. Smaller is
   * served only where `mayShrink` is true. A RangeError says why that can't be told. Left out: the size stays.
   */
  measure?(mayShrink: boolean): Promise<bigint>;

  /** Called once, when nothing is in flight any more. */
  close?(): Promise<void>;
}
