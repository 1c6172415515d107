// Runs within a guest (guest-gpu-drm.test.ts, bench/gpu.ts): draws pictures by the kernel's own driver, and lets the test outside look at each. `pictures`: of every format,
// on every screen, in two modes, and a pointer. `frames CARD SECONDS KEY`: how many a second, which begin when KEY is reported.

import { DrmCard, type Dumb, type Head, type Mode } from "./drm.ts";
import { letOutside, report } from "./in-guest.ts";
import { Random } from "./random.ts";

const WARM_UP_FRAMES = 300;
const POINTER_SIDE = 64;

/** Row by row, whatever the card's rows have beside their pixels. */
function fill({ bytes, pitch, width, height }: Dumb, seed: number): void {
  const pixels = new Random(seed).bytes(width * height * 4);
  for (let y = 0; y < height; y++) pixels.copy(bytes, y * pitch, y * width * 4, (y + 1) * width * 4);
}

function drawn(card: DrmCard, { width, height }: Mode, format: string, seed: number): number {
  const dumb = card.dumb(width, height);
  fill(dumb, seed);
  dumb.release();
  return card.frameBuffer(dumb, format);
}

async function pictures(card: DrmCard): Promise<void> {
  const heads = card.heads().filter(({ isConnected }) => isConnected);
  const planes = card.formats();
  // A pointer's planes have alpha; those of pictures have none, or both.
  const formats = [...new Set(planes.filter((each) => !isPointers(each)).flat())];
  report("HEADS", String(heads.length));
  report("FORMATS", formats.join());
  report("POINTER_FORMATS", [...new Set(planes.filter(isPointers).flat())].join());
  let seed = 0;
  for (const format of formats)
    for (const [index, head] of heads.entries())
      for (const mode of twoModes(head)) {
        card.show(head, mode, drawn(card, mode, format, ++seed));
        report(`SHOWN${seed}`, [index, format, mode.width, mode.height].join());
        await letOutside(`LOOK${seed}`);
      }
  const pointer = card.dumb(POINTER_SIDE, POINTER_SIDE);
  fill(pointer, 1000);
  card.point(heads[0]!, pointer, 3, 5);
  card.movePointer(heads[0]!, 40, 30);
  report("PICTURES", String(seed));
  await letOutside("POINTER");
}

function isPointers(formats: readonly string[]): boolean {
  return formats.length === 1 && formats[0] === "AR24";
}

/** The preferred one, and another size. */
function twoModes({ modes }: Head): Mode[] {
  const [first] = modes;
  const other = modes.find(({ width, height }) => width !== first!.width && height !== first!.height);
  return other ? [first!, other] : [first!];
}

/** Each is one transfer and one flush of the whole screen. */
function frames(card: DrmCard, seconds: number, key: string): number {
  const [head] = card.heads();
  const mode = head!.modes.find(({ width, height }) => width === 1280 && height === 720);
  if (mode === undefined) throw new Error("the screen has no mode of 1280x720");
  const dumb = card.dumb(mode.width, mode.height);
  fill(dumb, 7);
  const frameBuffer = card.frameBuffer(dumb, "XR24");
  card.show(head!, mode, frameBuffer);
  // The queue is full from then on: what goes in is what comes out.
  for (let i = 0; i < WARM_UP_FRAMES; i++) card.dirty(frameBuffer);
  report(key, "yes");
  const begin = performance.now();
  let count = 0;
  for (; performance.now() < begin + seconds * 1000; count++) card.dirty(frameBuffer);
  return count / ((performance.now() - begin) / 1000);
}

const [what, path = "/dev/dri/card0", seconds = "1", key = "BEGUN"] = process.argv.slice(2);
const card = new DrmCard(path);
if (what === "pictures") await pictures(card);
else console.log(frames(card, Number(seconds), key).toFixed(2));
process.exit();
