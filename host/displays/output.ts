// One output of a display: what it shows, and what its viewer has not been told of that. All that waits is bounded.
import { GPU_CURSOR_SIDE } from "../../assembly/spec/virtio-gpu.ts";
import type { Screen, ScreenUpdate, WatchedScreen } from "../devices/device.ts";
import { Changes } from "./changes.ts";
import * as message from "./messages.ts";
import { type Picture, type Place, type Pointer, whole } from "./picture.ts";
import { Damage, type Rect } from "./rect.ts";

/**
 * Pixels of a message: it fits a socket's buffer, so that a viewer that waits for the end of one does not wait long. A row of the
 * widest picture fits, too.
 */
export const MESSAGE_PIXELS = 16384;

const CORNER: Place = { x: 0, y: 0 };

type PointerNews = "picture" | "place";

export class Output implements WatchedScreen {
  picture: Picture | undefined;
  private readonly changes = new Changes();
  /** Of `changes`: where the pointer's picture came or went. */
  private pointerVersion = 0;
  private readonly damage = new Damage();
  /** The size that the viewer knows. */
  private known: { width: number; height: number } | undefined;
  private pointer: Pointer | undefined;
  private place = CORNER;
  private news: PointerNews | undefined;

  constructor(private readonly index: number) {}

  get hasPointer(): boolean {
    return this.pointer !== undefined;
  }

  get screen(): Screen | undefined {
    return this.picture && screenOf(this.picture);
  }

  get version(): number {
    return this.changes.version;
  }

  show(picture: Picture | undefined): void {
    if (picture || this.picture) this.changes.restart();
    this.picture = picture;
    this.tellAll();
  }

  /** `rect` lies within the picture. */
  change(rect: Rect): void {
    this.damage.add(rect);
    this.changes.add(rect);
  }

  /** Undefined: there is none. */
  point(place: Place, pointer: Pointer | undefined): void {
    this.place = place;
    this.pointer = pointer;
    this.news = pointer ? "picture" : "place";
    this.pointerVersion = this.changes.note();
  }

  move(place: Place): void {
    this.place = place;
    this.news ??= "place";
    this.changes.note();
  }

  /** A viewer has come who knows nothing. */
  begin(): void {
    this.known = undefined;
    this.tellAll();
    this.news = this.pointer && "picture";
  }

  updateSince(version: number): ScreenUpdate {
    const { picture, changes } = this;
    const size = { width: picture?.width ?? 0, height: picture?.height ?? 0 };
    const rects = picture ? (changes.since(version) ?? [whole(size)]) : [];
    const copy = (rect: Rect, into: Uint32Array) => picture?.copy(rect, into);
    return { version: changes.version, ...size, rects, pointer: this.pointerSince(version), copy };
  }

  onChange(changed: () => void): () => void {
    return this.changes.next(changed);
  }

  private pointerSince(version: number): ScreenUpdate["pointer"] {
    const { pointer, place, changes, pointerVersion } = this;
    if (pointer === undefined) return undefined;
    const isKnown = version >= pointerVersion && version <= changes.version;
    // Of its upper left corner, as Linux has it, signed: it may stand out at the left and above.
    const corner = { x: place.x | 0, y: place.y | 0 };
    return { ...corner, pixels: isKnown ? undefined : pointer.pixels };
  }

  private tellAll(): void {
    this.damage.clear();
    if (this.picture) this.damage.add(whole(this.picture));
  }

  /** The next message for the viewer. */
  next(update: message.UpdateMessage): Uint8Array | undefined {
    return this.nextPointer() ?? this.nextSize() ?? this.nextPixels(update);
  }

  private nextPointer(): Uint8Array | undefined {
    const { news, pointer, index, place } = this;
    this.news = undefined;
    if (news === "picture") return message.encodePointer(index, place, pointer!);
    if (news === undefined) return undefined;
    const request = pointer ? message.VHOST_USER_GPU_CURSOR_POS : message.VHOST_USER_GPU_CURSOR_POS_HIDE;
    return message.encode(request, index, place.x, place.y);
  }

  /** Viewers begin with an empty picture at each such message, so none is sent for the same size again. */
  private nextSize(): Uint8Array | undefined {
    const { picture, known, index } = this;
    if (picture?.width === known?.width && picture?.height === known?.height) return undefined;
    this.known = picture && { width: picture.width, height: picture.height };
    return message.encode(message.VHOST_USER_GPU_SCANOUT, index, picture?.width ?? 0, picture?.height ?? 0);
  }

  private nextPixels(update: message.UpdateMessage): Uint8Array | undefined {
    const { picture, damage, index } = this;
    if (picture === undefined || damage.isEmpty) return undefined;
    const rect = damage.take(MESSAGE_PIXELS);
    return update.encode(index, rect, (pixels) => picture.copy(rect, pixels));
  }
}

function pixelsOf(picture: Picture): Uint32Array {
  const pixels = new Uint32Array(picture.width * picture.height);
  picture.copy(whole(picture), pixels);
  return pixels;
}

function screenOf(picture: Picture): Screen {
  return { width: picture.width, height: picture.height, pixels: () => pixelsOf(picture) };
}

/** A picture's pixels as a pointer's. It must be 64 x 64 (virtio 1.4, 5.7.6.2). */
export function pointerOf(picture: Picture, hotX: number, hotY: number): Pointer | undefined {
  if (picture.width !== GPU_CURSOR_SIDE || picture.height !== GPU_CURSOR_SIDE) return undefined;
  return { pixels: pixelsOf(picture), hotX, hotY };
}
