// Which blocks an overlay has of its own: a bit each, here, in the working map and, after a flush, in the durable map.
import type { Storage } from "../disk-file.ts";
import { SharedTask } from "../shared-task.ts";
import { MAP_PAGE_BYTES, type OverlayLayout } from "./format.ts";

/** A page of the durable map as it is to be written. */
interface Page {
  index: number;
  bytes: Uint8Array;
}

export class BlockMap {
  /** Pages in which the working map in the file lacks bits. */
  private readonly unsaved = new Set<number>();
  private readonly saving = new SharedTask(() => this.saveNow());
  /** Pages in which the durable map lacks bits. */
  private readonly undurable = new Set<number>();

  private constructor(
    private readonly storage: Storage,
    private readonly layout: OverlayLayout,
    private readonly bits: Uint8Array,
  ) {}

  /** `isWorking`: the working map counts, else the durable one does. */
  static async load(storage: Storage, layout: OverlayLayout, isWorking: boolean): Promise<BlockMap> {
    const working = new Uint8Array(layout.mapBytes);
    const durable = new Uint8Array(layout.mapBytes);
    await storage.read(layout.workingMap, [working]);
    await storage.read(layout.durableMap, [durable]);
    const map = new BlockMap(storage, layout, isWorking ? working : durable);
    if (isWorking) map.findUndurable(durable);
    return map;
  }

  has(block: number): boolean {
    return (this.bits[block >>> 3]! & (1 << (block & 7))) !== 0;
  }

  hasAll(first: number, last: number): boolean {
    return this.has(first) && this.endOfRun(first, last) > last;
  }

  /** The first block behind `block`, up to `last`, that differs from it; else the one behind `last`. */
  endOfRun(block: number, last: number): number {
    const isOwn = this.has(block);
    const whole = isOwn ? 0xff : 0;
    let at = block + 1;
    while (at <= last) {
      if ((at & 7) === 0 && at + 7 <= last && this.bits[at >>> 3] === whole) at += 8;
      else if (this.has(at) === isOwn) at++;
      else break;
    }
    return at;
  }

  /** Sets the bits of `first` to `last`, whose blocks are in the file. Resolves when the working map has them too. */
  async set(first: number, last: number): Promise<void> {
    for (let block = first; block <= last; block++) this.bits[block >>> 3]! |= 1 << (block & 7);
    for (let page = pageOf(first); page <= pageOf(last); page++) {
      this.unsaved.add(page);
      this.undurable.add(page);
    }
    await this.saving.run();
  }

  /** Makes the working map what is here. */
  async saveAll(): Promise<void> {
    await this.storage.write(this.layout.workingMap, [this.bits]);
  }

  /** What the durable map will lack once the blocks that are written now are stable: a copy, since bits go on being set. */
  takeUndurable(): Page[] {
    const pages = [...this.undurable].map((index) => {
      const start = index * MAP_PAGE_BYTES;
      return { index, bytes: this.bits.slice(start, start + MAP_PAGE_BYTES) };
    });
    this.undurable.clear();
    return pages;
  }

  async writeDurable(pages: readonly Page[]): Promise<void> {
    for (const { index, bytes } of pages) {
      await this.storage.write(this.layout.durableMap + index * MAP_PAGE_BYTES, [bytes]);
    }
  }

  private findUndurable(durable: Uint8Array): void {
    for (let at = 0; at < durable.length; at++) {
      if (durable[at] !== this.bits[at]) this.undurable.add(pageOf(at * 8));
    }
  }

  /** For all who wait. Bits are only ever set, so it does no harm if some are while a page is being written. */
  private async saveNow(): Promise<void> {
    const pages = [...this.unsaved];
    this.unsaved.clear();
    try {
      await Promise.all(
        pages.map((page) => {
          const start = page * MAP_PAGE_BYTES;
          const bytes = this.bits.subarray(start, start + MAP_PAGE_BYTES);
          return this.storage.write(this.layout.workingMap + start, [bytes]);
        }),
      );
    } catch (error) {
      for (const page of pages) this.unsaved.add(page);
      throw error;
    }
  }
}

function pageOf(block: number): number {
  return Math.floor(block / (MAP_PAGE_BYTES * 8));
}
