// What the server tells of a screen: a line of JSON, and pixels behind it. Described in schema/control.openapi.json.

export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface Change {
  readonly version: number;
  readonly width: number;
  readonly height: number;
  readonly rects: readonly Rect[];
  readonly pointer: { readonly x: number; readonly y: number; readonly pixels: number } | null;
}

const NEWLINE = 10;
export const PIXEL_BYTES = 4;
const RED = 2;
const ALPHA = 3;

export function readChange(bytes: Uint8Array<ArrayBuffer>): {
  change: Change;
  pixels: Uint8Array<ArrayBuffer>;
} {
  const end = bytes.indexOf(NEWLINE);
  const change = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end))) as Change;
  return { change, pixels: bytes.subarray(end + 1) };
}

/** As a canvas has them: red first, and opaque. */
export function opaque(pixels: Uint8Array): Uint8ClampedArray<ArrayBuffer> {
  const colours = new Uint8ClampedArray(pixels);
  for (let at = 0; at < colours.length; at += PIXEL_BYTES) {
    swapRedAndBlue(colours, at);
    colours[at + ALPHA] = 255;
  }
  return colours;
}

/** As a canvas has them: red first, and not multiplied by their alpha. */
export function transparent(pixels: Uint8Array): Uint8ClampedArray<ArrayBuffer> {
  const colours = new Uint8ClampedArray(pixels);
  for (let at = 0; at < colours.length; at += PIXEL_BYTES) {
    swapRedAndBlue(colours, at);
    const alpha = colours[at + ALPHA]!;
    for (let part = at; alpha > 0 && part <= at + RED; part++) colours[part] = (colours[part]! * 255) / alpha;
  }
  return colours;
}

function swapRedAndBlue(colours: Uint8ClampedArray, at: number): void {
  const blue = colours[at]!;
  colours[at] = colours[at + RED]!;
  colours[at + RED] = blue;
}
