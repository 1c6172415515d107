// What a resource takes of memory, from what its driver says of it (struct virtio_gpu_resource_create_3d).

/** Bytes of a pixel by format (enum virgl_formats), of those that are common. */
const PIXEL_BYTES = new Map<number, number>();
for (const [bytes, formats] of [
  [1, [9, 10, 23, 64, 107, 108]],
  [2, [5, 6, 7, 12, 16, 48, 65, 91]],
  [4, [1, 2, 3, 4, 8, 17, 18, 19, 20, 21, 22, 28, 66, 67, 68, 92, 121, 134]],
  [8, [29, 93, 94]],
] as const)
  for (const format of formats) PIXEL_BYTES.set(format, bytes);
/** The largest there are. */
const PIXEL_BYTES_MAX = 16;

const BUFFER = 0;

export interface Shape {
  /** PIPE_TEXTURE_* */
  readonly target: number;
  readonly format: number;
  readonly width: number;
  readonly height: number;
  readonly depth: number;
  readonly layers: number;
  readonly lastLevel: number;
  readonly samples: number;
}

/** In bytes; no less than it takes, of numbers that may be any. */
export function resourceBytes({
  target,
  format,
  width,
  height,
  depth,
  layers,
  lastLevel,
  samples,
}: Shape): number {
  if (target === BUFFER) return width;
  const pixels = width * height * Math.max(1, depth) * Math.max(1, layers) * Math.max(1, samples);
  // Each level has a quarter of the pixels of the one before it, or a half of a single row's.
  return pixels * (PIXEL_BYTES.get(format) ?? PIXEL_BYTES_MAX) * (lastLevel > 0 ? 2 : 1);
}
