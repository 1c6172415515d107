// The page of `vringd ctl NAME view`: asks for what is new on the screen, draws it, and says how it stands. It has no input.
import { type Change, opaque, PIXEL_BYTES, readChange, transparent } from "./change.ts";

const POINTER_SIDE = 64;
/** Before the server is asked again, which could not answer. */
const RETRY_MS = 1000;
const GONE = 410;

const stage = document.getElementById("stage")!;
const state = document.getElementById("state")!;
const scale = document.getElementById("scale")!;
const screen = document.getElementById("screen") as HTMLCanvasElement;
const pointer = document.getElementById("pointer") as HTMLCanvasElement;
const canvas = screen.getContext("2d", { alpha: false })!;
const pointerCanvas = pointer.getContext("2d")!;

/** What the page has; 0: nothing. */
let version = 0;

scale.addEventListener("click", () => {
  const isActual = stage.classList.toggle("actual");
  scale.setAttribute("aria-pressed", String(isActual));
});

async function follow(): Promise<void> {
  for (;;) {
    // A page that nobody sees asks for nothing.
    await new Promise(requestAnimationFrame);
    const trouble = await askOnce();
    if (trouble === undefined) continue;
    tell(trouble.sentence, false);
    if (trouble.isLast) return;
    version = 0;
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

async function askOnce(): Promise<{ sentence: string; isLast: boolean } | undefined> {
  let response: Response;
  try {
    response = await fetch(`changes?since=${version}`, { cache: "no-store" });
    if (response.ok) {
      draw(new Uint8Array(await response.arrayBuffer()));
      return undefined;
    }
    return { sentence: (await response.text()).trim(), isLast: response.status === GONE };
  } catch {
    return { sentence: "vringd ctl view does not answer: it may have ended.", isLast: false };
  }
}

function draw(bytes: Uint8Array<ArrayBuffer>): void {
  const { change, pixels } = readChange(bytes);
  const isOn = change.width > 0;
  stage.hidden = !isOn;
  if (isOn && (screen.width !== change.width || screen.height !== change.height)) resize(change);
  let at = 0;
  for (const { x, y, width, height } of change.rects) {
    const end = at + width * height * PIXEL_BYTES;
    canvas.putImageData(new ImageData(opaque(pixels.subarray(at, end)), width, height), x, y);
    at = end;
  }
  drawPointer(change.pointer, pixels.subarray(at));
  ({ version } = change);
  tell(isOn ? `${change.width} × ${change.height}` : "The guest's screen is off.", isOn);
  document.body.dataset.version = String(version);
}

function resize({ width, height }: Change): void {
  Object.assign(screen, { width, height });
  stage.style.setProperty("--columns", String(width));
  stage.style.setProperty("--rows", String(height));
}

function drawPointer(change: Change["pointer"], pixels: Uint8Array): void {
  pointer.hidden = change === null;
  if (change === null) return;
  stage.style.setProperty("--x", String(change.x));
  stage.style.setProperty("--y", String(change.y));
  if (change.pixels === 0) return;
  pointerCanvas.putImageData(new ImageData(transparent(pixels), POINTER_SIDE, POINTER_SIDE), 0, 0);
}

function tell(sentence: string, isShown: boolean): void {
  if (state.textContent !== sentence) state.textContent = sentence;
  document.body.dataset.state = isShown ? "shown" : "not-shown";
}

follow();
