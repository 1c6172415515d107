// What has changed on an output, for whoever watches it: numbered, so that each says from where on. Watchers leave nothing here but
// a call that they wait for.
import { Damage, type Rect } from "./rect.ts";

/** Rectangles that are remembered. Whoever has missed more of them is shown all. */
const REMEMBERED = 64;

export class Changes {
  private current = 1;
  /** Whoever knows an older version is shown all. */
  private oldest = 1;
  private readonly recent: { readonly version: number; readonly rect: Rect }[] = [];
  private readonly waiting = new Set<() => void>();

  get version(): number {
    return this.current;
  }

  /** This has been drawn. */
  add(rect: Rect): void {
    this.note();
    this.recent.push({ version: this.current, rect });
    if (this.recent.length > REMEMBERED) this.oldest = this.recent.shift()!.version;
  }

  /** Something else is shown, or nothing. */
  restart(): void {
    this.note();
    this.recent.length = 0;
    this.oldest = this.current;
  }

  /** Something that is no part of the picture is other. Returns the version that has it. */
  note(): number {
    this.current++;
    const waiting = [...this.waiting];
    this.waiting.clear();
    for (const changed of waiting) changed();
    return this.current;
  }

  /** What covers all that has been drawn since. Undefined: all may be other. */
  since(version: number): Rect[] | undefined {
    if (version < this.oldest || version > this.current) return undefined;
    const damage = new Damage();
    for (const each of this.recent) if (each.version > version) damage.add(each.rect);
    const rects: Rect[] = [];
    while (!damage.isEmpty) rects.push(damage.take(Number.POSITIVE_INFINITY));
    return rects;
  }

  /** Calls `changed` at the next change. Returns what takes that back. */
  next(changed: () => void): () => void {
    this.waiting.add(changed);
    return () => this.waiting.delete(changed);
  }
}
