// A screen's pixels as a file of PNG. Loaded when somebody asks for one.
import { PNG } from "pngjs";
import type { Screen } from "../devices/device.ts";

/** Numbers of PNG (ISO 15948, 11.2.2 and 9.2): colours without alpha; each row as its difference from the one above. */
const TRUECOLOUR = 2;
const FILTER_UP = 2;
/** Screens have large areas of one colour: more effort gains little. */
const DEFLATE_LEVEL = 4;

export function pngOf(screen: Screen): Promise<Buffer> {
  const { width, height } = screen;
  const options = { colorType: TRUECOLOUR, inputColorType: TRUECOLOUR, inputHasAlpha: false };
  const png = new PNG({ ...options, filterType: FILTER_UP, deflateLevel: DEFLATE_LEVEL });
  Object.assign(png, { width, height, data: coloursOf(screen) });
  // Compressed in a thread of Node's, while the device goes on.
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    png.on("data", (part: Buffer) => parts.push(part));
    png.on("end", () => resolve(Buffer.concat(parts)));
    png.on("error", reject);
    png.pack();
  });
}

function coloursOf({ width, height, pixels: read }: Screen): Buffer {
  const colours = Buffer.allocUnsafe(width * height * 3);
  let at = 0;
  for (const pixel of read()) {
    colours[at++] = pixel >>> 16;
    colours[at++] = pixel >>> 8;
    colours[at++] = pixel;
  }
  return colours;
}
