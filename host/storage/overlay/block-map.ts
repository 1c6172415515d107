// Which blocks an overlay has of its own: a bit each, here, in the working map and, after a flush, in the durable map.
import type { ByteStore } from "../file/disk-file.ts";
import { SharedTask } from "../shared-task.ts";
import { MAP_PAGE_BYTES, type OverlayLayout } from "./format.ts";

/** Blocks of which one page of a map has the bits. */
const PAGE_BLOCKS = MAP_PAGE_BYTES * 8;

/** A page of a map as it is to be written. */
interface Page {
  index: number;
  bytes: Uint8Array;
}

/** Blocks, `first` to `last`. */
interface Run {
  first: number;
  last: number;
}

export class BlockMap {
  /** Blocks that are stored, and whose bits are to be saved by the next run. */
  private unsaved: Run[] = [];
  private readonly saving = new SharedTask(() => this.saveNow());
  /** Pages in which the durable map lacks bits. */
  private readonly undurable = new Set<number>();

  private constructor(
    private readonly storage: ByteStore,
    private readonly layout: OverlayLayout,
    /** Never more than the working map in the file has: what others go by must not be lost with the process. */
    private readonly bits: Uint8Array,
  ) {}

  /** Of an overlay that is another process's. */
  static empty(storage: ByteStore, layout: OverlayLayout): BlockMap {
    return new BlockMap(storage, layout, new Uint8Array(layout.mapBytes));
  }

  /** `isWorking`: the working map counts as well as the durable one. */
  static async load(storage: ByteStore, layout: OverlayLayout, isWorking: boolean): Promise<BlockMap> {
    const bits = new Uint8Array(layout.mapBytes);
    const durable = new Uint8Array(layout.mapBytes);
    await storage.read(layout.durableMap, [durable]);
    if (isWorking) await storage.read(layout.workingMap, [bits]);
    // A block with its bit in the durable map is stable, whatever has become of the working map.
    for (let at = 0; at < bits.length; at++) bits[at]! |= durable[at]!;
    const map = new BlockMap(storage, layout, bits);
    map.findUndurable(durable);
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

  /**
   * Adds `first` to `last`, whose blocks are in the file. Resolves when the working map has them; until then nobody sees
   * them here, and if it fails nobody will.
   */
  async add(first: number, last: number): Promise<void> {
    this.unsaved.push({ first, last });
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

  /** If it fails, the next that are taken have these pages too. */
  async writeDurable(pages: readonly Page[]): Promise<void> {
    try {
      for (const { index, bytes } of pages) {
        await this.storage.write(this.layout.durableMap + index * MAP_PAGE_BYTES, [bytes]);
      }
    } catch (error) {
      for (const { index } of pages) this.undurable.add(index);
      throw error;
    }
  }

  /** How many blocks there are. */
  count(): number {
    let count = 0;
    for (let byte of this.bits) for (; byte !== 0; byte &= byte - 1) count++;
    return count;
  }

  /** Both maps have no block any more. Any part of this may have been done if it fails; nothing else is under way. */
  async clear(): Promise<void> {
    this.bits.fill(0);
    this.undurable.clear();
    await this.saveAll();
    await this.storage.write(this.layout.durableMap, [this.bits]);
  }

  private findUndurable(durable: Uint8Array): void {
    for (let at = 0; at < durable.length; at++) {
      if (durable[at] !== this.bits[at]) this.undurable.add(pageOf(at * 8));
    }
  }

  /** For all who wait. It alone writes the working map, so no page of it is written twice at a time. */
  private async saveNow(): Promise<void> {
    const runs = this.unsaved;
    this.unsaved = [];
    const pages = this.pagesWith(runs);
    const writes = pages.map(({ index, bytes }) =>
      this.storage.write(this.layout.workingMap + index * MAP_PAGE_BYTES, [bytes]),
    );
    // All of them, even if one fails: an older page must not overtake that of the next run.
    for (const result of await Promise.allSettled(writes)) {
      if (result.status === "rejected") throw result.reason;
    }
    for (const { first, last } of runs) setBits(this.bits, first, last);
    for (const { index } of pages) this.undurable.add(index);
  }

  /** The pages that the runs lie in, as they are with them. */
  private pagesWith(runs: readonly Run[]): Page[] {
    const pages = new Map<number, Page>();
    for (const { first, last } of runs) {
      for (let index = pageOf(first); index <= pageOf(last); index++) {
        const start = index * MAP_PAGE_BYTES;
        const page = pages.get(index) ?? { index, bytes: this.bits.slice(start, start + MAP_PAGE_BYTES) };
        pages.set(index, page);
        setBits(page.bytes, Math.max(first - start * 8, 0), Math.min(last - start * 8, PAGE_BLOCKS - 1));
      }
    }
    return [...pages.values()];
  }
}

function setBits(bits: Uint8Array, first: number, last: number): void {
  for (let block = first; block <= last; block++) bits[block >>> 3]! |= 1 << (block & 7);
}

function pageOf(block: number): number {
  return Math.floor(block / PAGE_BLOCKS);
}
