// Rectangles of pixels, and the few of them that cover all that has changed.

export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export function isEmpty({ width, height }: Rect): boolean {
  return width <= 0 || height <= 0;
}

/** Whether all of it lies in a picture of this size. The numbers may be any of a guest's, up to 32 bits: no sum is inexact. */
export function liesWithin({ x, y, width, height }: Rect, size: Pick<Rect, "width" | "height">): boolean {
  return x + width <= size.width && y + height <= size.height;
}

/** What both have. It may be empty. */
export function intersection(a: Rect, b: Rect): Rect {
  const x = Math.max(a.x, b.x);
  const y = Math.max(a.y, b.y);
  const width = Math.min(a.x + a.width, b.x + b.width) - x;
  return { x, y, width, height: Math.min(a.y + a.height, b.y + b.height) - y };
}

/** The smallest that has both. */
export function hull(a: Rect, b: Rect): Rect {
  const x = Math.min(a.x, b.x);
  const y = Math.min(a.y, b.y);
  const width = Math.max(a.x + a.width, b.x + b.width) - x;
  return { x, y, width, height: Math.max(a.y + a.height, b.y + b.height) - y };
}

/** Kept apart: of more, the hull is as good. */
const RECTS_MAX = 8;

export class Damage {
  private rects: Rect[] = [];

  get isEmpty(): boolean {
    return this.rects.length === 0;
  }

  add(rect: Rect): void {
    if (isEmpty(rect)) return;
    const apart = this.rects.filter((each) => isEmpty(intersection(each, rect)));
    const touched = this.rects.filter((each) => !apart.includes(each));
    const rects = [...apart, touched.reduce(hull, rect)];
    this.rects = rects.length > RECTS_MAX ? [rects.reduce(hull)] : rects;
  }

  /** Takes so many rows of the one that came first: rows of which all fit into so many pixels, one at the least. */
  take(pixels: number): Rect {
    const rect = this.rects.shift()!;
    const height = Math.min(rect.height, Math.max(1, Math.floor(pixels / rect.width)));
    if (height < rect.height)
      this.rects.unshift({ ...rect, y: rect.y + height, height: rect.height - height });
    return { ...rect, height };
  }

  clear(): void {
    this.rects = [];
  }
}
