// Pictures that a guest draws by OpenGL, as both sides of a test know them: a rectangle on a ground, in colours of one byte a part.

export interface Frame {
  /** 0xRRGGBB */
  readonly ground: number;
  /** Counted from the corner that lies first in memory. */
  readonly rect: { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
  readonly colour: number;
}

export const frameSize = { width: 800, height: 600 };

export const FRAMES: readonly Frame[] = [
  { ground: 0x336699, rect: { x: 100, y: 50, width: 400, height: 100 }, colour: 0xffcc00 },
  { ground: 0x000000, rect: { x: 0, y: 300, width: 200, height: 300 }, colour: 0x00ff80 },
];

/** Row by row, three bytes a pixel. */
export function rgbOf({ ground, rect, colour }: Frame): Buffer {
  const { width, height } = frameSize;
  const rgb = Buffer.alloc(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [(i % width) - rect.x, Math.floor(i / width) - rect.y];
    const isInside = x >= 0 && x < rect.width && y >= 0 && y < rect.height;
    rgb.writeUIntBE(isInside ? colour : ground, i * 3, 3);
  }
  return rgb;
}
