// Commands of virgl's protocol, as Mesa's driver in a guest makes them: a header of (length << 16 | object << 8 | command), then words.

import { hasLibrary } from "../../host/renderer/choice.ts";

const CREATE_OBJECT = 1;
const SET_FRAMEBUFFER_STATE = 5;
const CLEAR = 7;
const SURFACE = 8;
const CLEAR_COLOR0 = 4;

/** Of a resource: PIPE_TEXTURE_2D, VIRGL_BIND_RENDER_TARGET and VIRGL_BIND_SCANOUT, rows from the top. */
export const TEXTURE_2D = 2;
export const BIND_RENDER_TARGET = 2;
export const BIND_SCANOUT = 1 << 18;
export const Y_0_TOP = 1;

export type Colour = readonly [red: number, green: number, blue: number, alpha: number];

function command(code: number, object: number, ...words: readonly number[]): number[] {
  return [(words.length << 16) | (object << 8) | code, ...words];
}

function words(numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(numbers.length * 4);
  numbers.forEach((number, i) => {
    bytes.writeUInt32LE(number >>> 0, i * 4);
  });
  return bytes;
}

function float(number: number): number {
  return new Uint32Array(new Float32Array([number]).buffer)[0]!;
}

/** Fills a picture: a surface of it, a frame buffer of that, and one colour, each part from 0 to 1. */
export function clearCommands(surface: number, resource: number, format: number, colour: Colour): Buffer {
  return words([
    ...command(CREATE_OBJECT, SURFACE, surface, resource, format, 0, 0),
    ...command(SET_FRAMEBUFFER_STATE, 0, 1, 0, surface),
    ...command(CLEAR, 0, CLEAR_COLOR0, ...colour.map(float), 0, 0, 0),
  ]);
}

/** Of struct virgl_renderer_resource_create_args, and of struct virtio_gpu_resource_create_3d after the header. */
export function picture(resource: number, format: number, width: number, height: number): number[] {
  return [
    resource,
    TEXTURE_2D,
    format,
    BIND_RENDER_TARGET | BIND_SCANOUT,
    width,
    height,
    1,
    1,
    0,
    0,
    Y_0_TOP,
  ];
}

/** Why nothing can be drawn by it on this machine. */
export function whyNoVirgl(): string | undefined {
  return hasLibrary() ? undefined : "libvirglrenderer is not installed";
}
