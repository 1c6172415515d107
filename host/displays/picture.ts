// What an output shows, whoever has drawn it.
import type { Rect } from "./rect.ts";

export const PIXEL_BYTES = 4;

/** A picture in place: what is copied of it is what is there then. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  /** A rectangle within, row by row, as PIXMAN_a8r8g8b8: blue lies first in memory. `into` has as many pixels. */
  copy(rect: Rect, into: Uint32Array): void;
}

/** Of a mouse pointer: a picture of 64 x 64, and the pixel of it that points. */
export interface Pointer {
  readonly pixels: Uint32Array;
  readonly hotX: number;
  readonly hotY: number;
}

/** Where it is. */
export interface Place {
  readonly x: number;
  readonly y: number;
}

export function whole({ width, height }: Pick<Rect, "width" | "height">): Rect {
  return { x: 0, y: 0, width, height };
}
