// Formats of pixels (virtio 1.4, 5.7.6.8), all of 4 bytes, and how each becomes PIXMAN_a8r8g8b8.
import * as spec from "../../assembly/spec/virtio-gpu.ts";

export interface PixelFormat {
  /** Whether the pixels are those of a8r8g8b8 already. */
  readonly isPlain: boolean;
  readonly isOpaque: boolean;
  /** Of a pixel as a little-endian number. */
  convert(pixel: number): number;
}

const asItIs = (pixel: number) => pixel;
const reversed = (pixel: number) =>
  (pixel << 24) | ((pixel & 0xff00) << 8) | ((pixel >>> 8) & 0xff00) | (pixel >>> 24);
const redAndBlueSwapped = (pixel: number) =>
  (pixel & 0xff00ff00) | ((pixel & 0xff) << 16) | ((pixel >>> 16) & 0xff);
const alphaLast = (pixel: number) => (pixel >>> 8) | (pixel << 24);

function format(convert: PixelFormat["convert"], isOpaque: boolean): PixelFormat {
  return { isPlain: convert === asItIs, isOpaque, convert };
}

/** Named in the order of bytes, so that the first byte is the lowest of a little-endian number. */
export const FORMATS: ReadonlyMap<number, PixelFormat> = new Map([
  [spec.VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, format(asItIs, false)],
  [spec.VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, format(asItIs, true)],
  [spec.VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM, format(reversed, false)],
  [spec.VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM, format(reversed, true)],
  [spec.VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM, format(redAndBlueSwapped, false)],
  [spec.VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM, format(alphaLast, true)],
  [spec.VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM, format(alphaLast, false)],
  [spec.VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM, format(redAndBlueSwapped, true)],
]);

const OPAQUE = 0xff000000;

/** In place. What has no alpha is opaque. */
export function convertPixels(pixels: Uint32Array, { isPlain, isOpaque, convert }: PixelFormat): void {
  if (isPlain && !isOpaque) return;
  const alpha = isOpaque ? OPAQUE : 0;
  for (let i = 0; i < pixels.length; i++) pixels[i] = convert(pixels[i]!) | alpha;
}
