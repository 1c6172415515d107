// The program vringd-gpu, its screens as vringd ctl shows them, and pictures as QEMU writes them.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { PNG } from "pngjs";
import { PROGRAM, Vringd } from "./vringd.ts";

export const GPU_PROGRAM = [process.execPath, join(dirname(PROGRAM), "vringd-gpu.mjs")];

export function startGpu(...args: readonly string[]): Promise<Vringd> {
  return Vringd.start({
    program: GPU_PROGRAM,
    deviceArgs: (directory) => [`--control-socket=${join(directory, "control")}`, ...args],
  });
}

/** Pixels, row by row, without alpha. */
export interface Pixels {
  width: number;
  height: number;
  rgb: Buffer;
}

/** A file of QMP's screendump: netpbm's P6 with one byte a colour. */
export function readPpm(path: string): Pixels {
  const bytes = readFileSync(path);
  const head = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(bytes.subarray(0, 64).toString("latin1"));
  if (head === null) throw new Error(`${path} is no picture`);
  const [width, height] = [Number(head[1]), Number(head[2])];
  return { width, height, rgb: bytes.subarray(head[0].length, head[0].length + width * height * 3) };
}

export function readPng(path: string): Pixels {
  const { width, height, data } = PNG.sync.read(readFileSync(path));
  const rgb = Buffer.alloc(width * height * 3);
  for (let i = 0; i < width * height; i++) data.copy(rgb, i * 3, i * 4, i * 4 + 3);
  return { width, height, rgb };
}

/** Of pixels as Linux' frame buffers have them: blue, green, red, and nothing. */
export function fromFrameBuffer(width: number, height: number, bytes: Buffer): Pixels {
  const rgb = Buffer.alloc(width * height * 3);
  for (let i = 0; i < width * height; i++)
    rgb.set([bytes[i * 4 + 2]!, bytes[i * 4 + 1]!, bytes[i * 4]!], i * 3);
  return { width, height, rgb };
}

/** In words; undefined if there is none. */
export function difference(a: Pixels, b: Pixels): string | undefined {
  if (a.width !== b.width || a.height !== b.height)
    return `${a.width}x${a.height} instead of ${b.width}x${b.height}`;
  if (a.rgb.equals(b.rgb)) return undefined;
  const at = a.rgb.findIndex((byte, i) => byte !== b.rgb[i]);
  const pixel = Math.floor(at / 3);
  return `the first at ${pixel % a.width},${Math.floor(pixel / a.width)}`;
}
