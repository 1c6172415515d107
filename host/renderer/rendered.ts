// A resource that the renderer has: a picture, or anything else that is drawn from. Its pixels are seen here only when a screen shows them.
import type { PixelFormat } from "../displays/formats.ts";
import { whole } from "../displays/picture.ts";
import type { Rect } from "../displays/rect.ts";
import { Resource } from "../displays/resource.ts";
import * as message from "./messages.ts";
import { SharedPixels } from "./shared-pixels.ts";

/** How it asks its renderer. */
export interface Asking {
  ask(kind: number, words: readonly number[], bytes?: Uint8Array): Promise<void>;
  askWith(fds: readonly number[], kind: number, words: readonly number[]): Promise<void>;
}

const NO_PIXELS = new Uint8Array(0);

/** What can't be shown has no format that shows it. */
const NO_FORMAT: PixelFormat = { isPlain: true, isOpaque: true, convert: (pixel) => pixel };

export class RenderedResource extends Resource {
  private shared: SharedPixels | undefined;

  /** `bytes`: what it takes of memory, pixels to be seen included. `format`: undefined for what no screen can show. */
  constructor(
    private readonly id: number,
    size: { readonly width: number; readonly height: number },
    private readonly shownAs: PixelFormat | undefined,
    private readonly bytes: number,
    private readonly renderer: Asking,
  ) {
    super(size.width, size.height, shownAs ?? NO_FORMAT, false);
  }

  override get byteLength(): number {
    return this.bytes;
  }

  override get isPicture(): boolean {
    return this.shownAs !== undefined;
  }

  /** A driver's transfer for two dimensions, of what it draws in three. */
  override async transfer({ x, y, width, height }: Rect, offset: number): Promise<void> {
    const place = [this.id, 0, x, y, 0, width, height, 1, 0, this.stride, 0];
    await this.renderer.ask(message.TRANSFER_TO_HOST, [...place, ...message.halves(BigInt(offset))]);
  }

  override async backingChanged(entries?: Uint8Array): Promise<void> {
    if (entries) await this.renderer.ask(message.ATTACH_BACKING, [this.id], entries);
    else await this.renderer.ask(message.DETACH_BACKING, [this.id]);
  }

  override async refresh(rect: Rect): Promise<void> {
    const isFirst = this.shared === undefined;
    if (isFirst) await this.share();
    const { x, y, width, height } = isFirst ? whole(this) : rect;
    await this.renderer.ask(message.READ_PIXELS, [this.id, x, y, width, height]);
  }

  override async release(): Promise<void> {
    this.forget();
    await this.renderer.ask(message.UNREF_RESOURCE, [this.id]);
  }

  /** The renderer has lost it. */
  override forget(): void {
    this.pixels = NO_PIXELS;
    this.shared?.release();
    this.shared = undefined;
  }

  private async share(): Promise<void> {
    let known: Promise<void> | undefined;
    this.shared = SharedPixels.create(this.stride * this.height, (fd) => {
      known = this.renderer.askWith([fd], message.SHOW, [this.id, this.width, this.height]);
    });
    this.pixels = this.shared.bytes;
    await known;
  }
}
