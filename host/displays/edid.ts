// What a screen says of itself (VESA E-EDID 1.4), for screens that there are only in the guest: one block, with one timing.
import type { Size } from "./size.ts";

const BLOCK_BYTES = 128;
const HEADER = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
/** Three letters of 5 bits each, "VRD", big-endian. */
const MANUFACTURER = (22 << 10) | (18 << 5) | 4;
const YEAR_SINCE_1990 = 36;
/** Digital, 8 bits a colour, DisplayPort. */
const INPUT = 0xa5;
const GAMMA_2_2 = 120;
/** sRGB; the first timing is the one that the screen has. */
const FEATURES = 0x06;
const SRGB = [0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54];
const UNUSED_TIMING = 1;

const PIXELS_PER_MM = 4;
const FRAMES_PER_SECOND = 60;
/** In units of 10 kHz, of which the field has 16 bits. */
const CLOCK_MAX = 0xffff;
/** Blanking as CVT has it for screens without a beam. */
const [H_BLANK, H_FRONT, H_SYNC] = [160, 48, 32];
const [V_BLANK, V_FRONT, V_SYNC] = [30, 3, 6];

const [NAME, DUMMY] = [0xfc, 0x10];
const TIMINGS = 54;
const DESCRIPTOR_BYTES = 18;

export function edidOf(size: Size): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  block.set(HEADER);
  block.writeUInt16BE(MANUFACTURER, 8);
  block.set([YEAR_SINCE_1990, 1, 4, INPUT], 17);
  block.set([...millimetres(size).map((each) => Math.round(each / 10)), GAMMA_2_2, FEATURES, ...SRGB], 21);
  block.fill(UNUSED_TIMING, 38, TIMINGS);
  const descriptors = [timing(size), text(NAME, "vringd"), text(DUMMY, ""), text(DUMMY, "")];
  descriptors.forEach((descriptor, i) => {
    block.set(descriptor, TIMINGS + i * DESCRIPTOR_BYTES);
  });
  block[BLOCK_BYTES - 1] = -block.reduce((sum, byte) => sum + byte, 0) & 0xff;
  return block;
}

function millimetres({ width, height }: Size): [number, number] {
  return [Math.round(width / PIXELS_PER_MM), Math.round(height / PIXELS_PER_MM)];
}

function timing(size: Size): number[] {
  const { width, height } = size;
  const ticks = ((width + H_BLANK) * (height + V_BLANK) * FRAMES_PER_SECOND) / 10_000;
  const clock = Math.min(Math.round(ticks), CLOCK_MAX);
  const [mmWide, mmHigh] = millimetres(size);
  const high = (a: number, b: number) => ((a >> 8) << 4) | (b >> 8);
  return [
    ...[clock & 0xff, clock >> 8],
    ...[width & 0xff, H_BLANK & 0xff, high(width, H_BLANK)],
    ...[height & 0xff, V_BLANK & 0xff, high(height, V_BLANK)],
    ...[H_FRONT, H_SYNC, (V_FRONT << 4) | V_SYNC, 0],
    ...[mmWide & 0xff, mmHigh & 0xff, high(mmWide, mmHigh)],
    // No border; separate sync, of which the horizontal one is positive.
    ...[0, 0, 0x1a],
  ];
}

/** A text ends with a line feed, and then blanks. */
function text(tag: number, characters: string): number[] {
  const bytes = Buffer.from(`${characters}\n`.padEnd(13));
  return [0, 0, 0, tag, 0, ...bytes];
}
