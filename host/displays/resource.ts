// A picture that a guest draws: pixels of ours in the guest's format, and the guest's memory from which they come.
import type { Backing } from "./backing.ts";
import { convertPixels, type PixelFormat } from "./formats.ts";
import { PIXEL_BYTES, type Picture } from "./picture.ts";
import { intersection, isEmpty, type Rect } from "./rect.ts";

/** A whole screen of 1080p may take two turns of the event loop, and the largest resource holds up nobody else. */
const TURN_BYTES = 4 << 20;
/** A row takes as long as so many bytes, if it has fewer. */
const ROW_BYTES = 1024;

export class Resource {
  backing: Backing | undefined;
  protected pixels: Uint8Array;

  /** `keepsPixels`: false for one that is only counted. */
  constructor(
    readonly width: number,
    readonly height: number,
    readonly format: PixelFormat,
    readonly keepsPixels: boolean,
  ) {
    this.pixels = new Uint8Array(keepsPixels ? this.byteLength : 0);
  }

  /** Whether a screen can show it. */
  get isPicture(): boolean {
    return true;
  }

  get stride(): number {
    return this.width * PIXEL_BYTES;
  }

  get byteLength(): number {
    return this.stride * this.height;
  }

  /** How many bytes of the backing a transfer to this rectangle reads, from its offset on. */
  reachOf({ width, height }: Rect): number {
    return this.stride * (height - 1) + width * PIXEL_BYTES;
  }

  /**
   * From the backing, which has so many bytes: row by row at the resource's own stride, the first at `offset`. A turn's worth at a
   * time, between which `turn` is awaited. Throws RangeError where the guest has no memory any more.
   */
  async transfer(rect: Rect, offset: number, turn: () => Promise<unknown>): Promise<void> {
    const { backing, stride, pixels, keepsPixels } = this;
    if (!keepsPixels || isEmpty(rect) || backing === undefined) return;
    // Whole rows follow each other on both sides.
    const rows = rect.width === this.width ? Math.max(1, Math.floor(TURN_BYTES / stride)) : 1;
    const rowBytes = rect.width * PIXEL_BYTES;
    for (let row = 0, copied = 0; row < rect.height; row += rows) {
      const count = Math.min(rows, rect.height - row);
      const byteLength = count === 1 ? rowBytes : count * stride;
      const to = (rect.y + row) * stride + rect.x * PIXEL_BYTES;
      backing.copy(offset + row * stride, pixels.subarray(to, to + byteLength));
      copied += Math.max(byteLength, ROW_BYTES);
      if (copied < TURN_BYTES || row + count >= rect.height) continue;
      copied = 0;
      await turn();
    }
  }

  /** Another backing, of struct virtio_gpu_mem_entry, or none. */
  async backingChanged(_entries?: Uint8Array): Promise<void> {}

  /** What is seen of this rectangle from here on is what has been drawn. */
  async refresh(_rect: Rect): Promise<void> {}

  /** Its driver has no more use for it. */
  async release(): Promise<void> {}

  /** Nothing is left of it anywhere else. */
  forget(): void {}

  /** A part of it, which lies within. `format`: what its pixels are taken for. */
  part(area: Rect, format = this.format): Picture {
    return {
      width: area.width,
      height: area.height,
      copy: (rect, into) => {
        this.copy({ ...rect, x: area.x + rect.x, y: area.y + rect.y }, into);
        convertPixels(into, format);
      },
    };
  }

  private copy({ x, y, width, height }: Rect, into: Uint32Array): void {
    const bytes = new Uint8Array(into.buffer, into.byteOffset, into.byteLength);
    const rowBytes = width * PIXEL_BYTES;
    for (let row = 0; row < height; row++) {
      const from = (y + row) * this.stride + x * PIXEL_BYTES;
      bytes.set(this.pixels.subarray(from, from + rowBytes), row * rowBytes);
    }
  }
}

/** What of a resource's rectangle an area of it shows, counted from the area's corner. */
export function seenIn(area: Rect, rect: Rect): Rect {
  const seen = intersection(area, rect);
  return { ...seen, x: seen.x - area.x, y: seen.y - area.y };
}
