// What changes on guests' screens, for whoever watches them: an answer that waits for the next change, and is written no faster than it
// is taken. Described in schema/control.openapi.json.
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Device, ScreenRect, ScreenUpdate, WatchedScreen } from "../devices/device.ts";
import { onAbort } from "../process/abort.ts";
import type { Log } from "../process/log.ts";
import { RequestError, type Stream } from "./http-server.ts";

/** The first line of an answer. Pixels of each rectangle follow, and those of the pointer. */
export interface ScreenHead {
  version: number;
  /** In pixels; 0: the screen shows nothing. */
  width: number;
  height: number;
  rects: ScreenRect[];
  /** `pixels`: how many of them follow. Null: there is no pointer. */
  pointer: { x: number; y: number; pixels: number } | null;
}

const PIXEL_BYTES = 4;
/** Each keeps a connection, and the server has few: others must be able to ask, too. */
const WATCHERS_MAX = 4;
/** Less than whoever passes it on waits for a sign of life. */
const WAIT_MS = 15_000;
/** What is copied in a turn of the event loop, and waits for a watcher that takes nothing. */
const PIECE_PIXELS = 256 << 10;
/** A watcher that takes nothing for so long is given up. */
const STUCK_MS = 5000;

export class WatchedScreens {
  private watchers = 0;

  constructor(
    private readonly device: Pick<Device, "watchedScreens">,
    private readonly log: Pick<Log, "error">,
  ) {}

  /** `since`: as a client has sent it. Throws RequestError. */
  changes(name: string, since: string): Stream {
    if (!/^\d{1,15}$/.test(since))
      throw new RequestError(400, "since must be the version that is known, or 0");
    const screen = this.device.watchedScreens?.get(name);
    if (screen === undefined) throw new RequestError(404, this.isNotThere(name));
    if (this.watchers >= WATCHERS_MAX)
      throw new RequestError(503, `${WATCHERS_MAX} watch already; try again when one has left`);
    this.watchers++;
    return {
      begin: (response) => {
        const left = new AbortController();
        const leave = () => {
          this.watchers--;
          left.abort();
        };
        if (response.destroyed) leave();
        else response.once("close", leave);
        answer(screen, Number(since), response, left.signal).catch((error) => {
          // Whoever leaves in the middle needs no answer.
          if (!left.signal.aborted) this.log.error({ err: error }, "a look from outside failed");
          response.destroy();
        });
      },
    };
  }

  private isNotThere(name: string): string {
    const names = [...(this.device.watchedScreens ?? new Map()).keys()];
    const has = names.length === 0 ? "this device has none" : `they are ${names[0]} to ${names.at(-1)}`;
    return `there is no screen ${JSON.stringify(name)} to watch: ${has}`;
  }
}

async function answer(
  screen: WatchedScreen,
  since: number,
  response: ServerResponse,
  left: AbortSignal,
): Promise<void> {
  if (screen.version === since) await changed(screen, left);
  // What is drawn in the same turn goes with it.
  await nextTurn();
  if (left.aborted) return;
  const update = screen.updateSince(since);
  const head = Buffer.from(`${JSON.stringify(headOf(update))}\n`);
  const pixels = [...update.rects.map(pixelsIn), update.pointer?.pixels?.length ?? 0];
  response.writeHead(200, {
    "content-type": "application/octet-stream",
    "content-length": head.length + pixels.reduce((sum, count) => sum + count) * PIXEL_BYTES,
  });
  response.setTimeout(STUCK_MS, () => response.destroy());
  await write(response, head, left);
  for (const bytes of piecesOf(update)) await write(response, bytes, left);
  response.end();
}

/** Resolves at the next change, when there has been none for long, and when the watcher leaves. */
function changed(screen: WatchedScreen, left: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    let unhear = () => {};
    const done = () => {
      clearTimeout(timer);
      takeBack();
      unhear();
      resolve();
    };
    const timer = setTimeout(done, WAIT_MS).unref();
    const takeBack = screen.onChange(done);
    unhear = onAbort(left, done);
  });
}

function headOf({ version, width, height, rects, pointer }: ScreenUpdate): ScreenHead {
  const { x = 0, y = 0, pixels } = pointer ?? {};
  return {
    version,
    width,
    height,
    rects: rects.map(({ x, y, width, height }) => ({ x, y, width, height })),
    pointer: pointer ? { x, y, pixels: pixels?.length ?? 0 } : null,
  };
}

/** Each is copied when it is asked for, so that one waits at the most. */
function* piecesOf({ rects, pointer, copy }: ScreenUpdate): Generator<Uint8Array> {
  for (const { x, y, width, height } of rects) {
    const rows = Math.max(1, Math.floor(PIECE_PIXELS / width));
    for (let row = 0; row < height; row += rows) {
      const piece = { x, y: y + row, width, height: Math.min(rows, height - row) };
      const pixels = new Uint32Array(pixelsIn(piece));
      copy(piece, pixels);
      yield bytesOf(pixels);
    }
  }
  if (pointer?.pixels) yield bytesOf(pointer.pixels);
}

async function write(response: ServerResponse, bytes: Uint8Array, left: AbortSignal): Promise<void> {
  if (!response.write(bytes)) await once(response, "drain", { signal: left });
}

function pixelsIn({ width, height }: ScreenRect): number {
  return width * height;
}

function bytesOf({ buffer, byteOffset, byteLength }: Uint32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
