// Sizes of screens as options and commands have them: WIDTHxHEIGHT.
import type { OptionType } from "../options/types.ts";

export interface Size {
  readonly width: number;
  readonly height: number;
}

const LEAST = 16;
/** EDID has 12 bits for it. */
const MOST = 4095;

export const screenSize: OptionType<Size> = {
  takes: `WIDTHxHEIGHT in pixels, each from ${LEAST} to ${MOST}`,
  read(text) {
    const [, width, height] = /^(\d{1,5})x(\d{1,5})$/.exec(text) ?? [];
    const size = { width: Number(width), height: Number(height) };
    return screenSize.accepts(size) ? size : undefined;
  },
  accepts(value): value is Size {
    const { width, height } = (value ?? {}) as Partial<Size>;
    return [width, height].every((each) => Number.isInteger(each) && each! >= LEAST && each! <= MOST);
  },
};

export function formatSize({ width, height }: Size): string {
  return `${width}x${height}`;
}
