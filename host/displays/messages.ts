// Messages between a GPU's back-end and the front-end that shows its pictures ("Vhost-user-gpu Protocol"): numbers and layouts.
import type { Place, Pointer } from "./picture.ts";
import type { Rect } from "./rect.ts";

export const VHOST_USER_GPU_PROTOCOL_F_EDID = 0;

export const VHOST_USER_GPU_GET_PROTOCOL_FEATURES = 1;
export const VHOST_USER_GPU_SET_PROTOCOL_FEATURES = 2;
export const VHOST_USER_GPU_GET_DISPLAY_INFO = 3;
export const VHOST_USER_GPU_CURSOR_POS = 4;
export const VHOST_USER_GPU_CURSOR_POS_HIDE = 5;
export const VHOST_USER_GPU_CURSOR_UPDATE = 6;
export const VHOST_USER_GPU_SCANOUT = 7;
export const VHOST_USER_GPU_UPDATE = 8;
export const VHOST_USER_GPU_GET_EDID = 11;

/** Of a header's flags: "needs to be set on each reply". */
export const VHOST_USER_GPU_MSG_FLAG_REPLY = 1 << 2;

/** request u32, flags u32, size u32. */
export const HEADER_BYTES = 12;
/** Of VhostUserGpuUpdate before its data: scanout-id, x, y, w, h. */
const UPDATE_BYTES = 20;

/** A message of 32-bit numbers in the machine's order. */
export function encode(request: number, ...numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + numbers.length * 4);
  [request, 0, numbers.length * 4, ...numbers].forEach((number, i) => {
    bytes.writeUInt32LE(number, i * 4);
  });
  return bytes;
}

/** A 64-bit number's message. */
export function encodeU64(request: number, value: bigint): Buffer {
  return encode(request, Number(value & 0xffffffffn), Number(value >> 32n));
}

/** The pointer's picture and place. */
export function encodePointer(output: number, { x, y }: Place, { pixels, hotX, hotY }: Pointer): Buffer {
  return encode(VHOST_USER_GPU_CURSOR_UPDATE, output, x, y, hotX, hotY, ...pixels);
}

/** Room for messages with up to so many pixels, one at a time. */
export class UpdateMessage {
  private readonly words: Uint32Array;

  constructor(pixelsMax: number) {
    this.words = new Uint32Array((HEADER_BYTES + UPDATE_BYTES) / 4 + pixelsMax);
  }

  /** `fill` writes the pixels. The message is good until the next one is begun. */
  encode(output: number, rect: Rect, fill: (pixels: Uint32Array) => void): Uint8Array {
    const { x, y, width, height } = rect;
    const pixelCount = width * height;
    const head = [VHOST_USER_GPU_UPDATE, 0, UPDATE_BYTES + pixelCount * 4, output, x, y, width, height];
    this.words.set(head);
    fill(this.words.subarray(head.length, head.length + pixelCount));
    return new Uint8Array(this.words.buffer, 0, (head.length + pixelCount) * 4);
  }
}
