// Pixels that the renderer's process writes and the device reads, in memory of both.
import { addressOf, close, viewOf } from "../linux/libc.ts";
import { mapShared, PAGE_SIZE, unmap } from "../linux/mapping.ts";
import { createSealedMemfd } from "../linux/memfd.ts";
import type { Ranges } from "../linux/virglrenderer.ts";

/** Mapped until it is released; whoever has `bytes` must not look at them after that. */
export class SharedPixels {
  readonly bytes: Uint8Array;
  private address: number;

  private constructor(
    fd: number,
    private readonly byteLength: number,
  ) {
    // SAFETY: the file's size is sealed, so that nobody can cut off what is mapped.
    this.address = mapShared(fd, 0n, mappedLength(byteLength));
    this.bytes = new Uint8Array(viewOf(this.address, byteLength));
  }

  /** `give`: with the descriptor, which is closed after that. Throws SystemError. */
  static create(byteLength: number, give: (fd: number) => void): SharedPixels {
    const fd = createSealedMemfd("vringd-pixels", mappedLength(byteLength));
    try {
      const pixels = new SharedPixels(fd, byteLength);
      give(fd);
      return pixels;
    } finally {
      close(fd);
    }
  }

  release(): void {
    if (this.address !== 0) unmap(this.address, mappedLength(this.byteLength));
    this.address = 0;
  }
}

/** The renderer's side of the same. */
export class PixelTarget {
  readonly ranges: Ranges;
  private readonly address: number;

  /** Takes the descriptor. */
  constructor(
    fd: number,
    readonly width: number,
    private readonly height: number,
  ) {
    try {
      this.address = mapShared(fd, 0n, mappedLength(this.byteLength));
    } finally {
      close(fd);
    }
    const iovecs = new BigUint64Array([BigInt(this.address), BigInt(this.byteLength)]);
    this.ranges = { iovecs: new Uint8Array(iovecs.buffer), count: 1 };
    // Its bytes must stay where they are: a small array may lie in the heap until its address is asked for.
    addressOf(this.ranges.iovecs);
  }

  private get byteLength(): number {
    return this.width * this.height * 4;
  }

  release(): void {
    unmap(this.address, mappedLength(this.byteLength));
  }
}

function mappedLength(byteLength: number): number {
  return Math.ceil(byteLength / PAGE_SIZE) * PAGE_SIZE;
}
