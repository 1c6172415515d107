// A disk that keeps what is written in a file of its own, over a base that nobody writes. The file's form: format.ts.

import type { BlockDisk } from "../../engines/block-disk.ts";
import { reasonOf, StartError } from "../../errors.ts";
import { lengthOf, slice } from "../buffers.ts";
import type { ByteStore } from "../file/disk-file.ts";
import { RangeLock } from "../range-lock.ts";
import { SharedTask } from "../shared-task.ts";
import type { Handover } from "../storage.ts";
import { BlockMap } from "./block-map.ts";
import { type OverlayOptions, openFiles } from "./files.ts";
import {
  BLOCK_BYTES,
  encodeSession,
  layoutOf,
  type OverlayLayout,
  SESSION_BYTES,
  SESSION_POSITION,
} from "./format.ts";
import { OverlayHandover } from "./overlay-handover.ts";

export interface OverlayParts {
  base: BlockDisk;
  storage: ByteStore;
  /** Of the running kernel. */
  bootId: string;
  readOnly: boolean;
  serial?: string;
  /** Of the storage's file, where several processes can have it. */
  file?: Handover | undefined;
}

/** Of a disk: bytes from `start` up to `end`. */
export interface Piece {
  start: number;
  end: number;
}

/**
 * Copy-on-write over a base. A process killed at any instant loses nothing that was written; a machine that dies loses
 * nothing that was flushed. Blocks of 4 KiB come to the overlay with the first write to them.
 */
export class OverlayDisk implements BlockDisk {
  readonly byteLength: bigint;
  readonly blockSize: number;
  /** As it was opened. */
  readonly readOnly: boolean;
  /** Made from the identity of the overlay's file. */
  readonly serial: string;
  /** @internal */
  readonly handover: Handover | undefined;
  private readonly allocations = new RangeLock();
  private readonly flushing = new SharedTask(() => this.flushNow());
  /** Once stable storage has failed, what it holds can't be known. */
  private failure: unknown;

  private constructor(
    private readonly parts: OverlayParts,
    private readonly layout: OverlayLayout,
    private map: BlockMap,
  ) {
    this.byteLength = parts.base.byteLength;
    this.blockSize = parts.base.blockSize ?? 512;
    this.readOnly = parts.readOnly;
    this.serial = parts.serial ?? "";
    this.handover = parts.file && new OverlayHandover(parts.file, this);
  }

  /** Opens the overlay, or makes it. Throws {@link StartError}, also if the base has changed since it was made. */
  static async open(options: OverlayOptions): Promise<OverlayDisk> {
    const parts = await openFiles(options);
    try {
      return await OverlayDisk.over(parts);
    } catch (error) {
      await parts.storage.close();
      await parts.base.close?.();
      throw new StartError(`can't use the overlay ${options.path}: ${reasonOf(error)}`, error);
    }
  }

  /**
   * The storage holds an overlay of this base.
   * @internal
   */
  static async over(parts: OverlayParts): Promise<OverlayDisk> {
    const layout = layoutOf(parts.base.byteLength);
    const isAnothers = parts.file?.isOurs === false;
    const map = isAnothers ? BlockMap.empty(parts.storage, layout) : await loadMap(parts, layout);
    return new OverlayDisk(parts, layout, map);
  }

  /**
   * Another process may have written it since.
   * @internal
   */
  async reload(): Promise<void> {
    this.map = await loadMap(this.parts, this.layout);
  }

  async read(offset: bigint, buffers: readonly Uint8Array[]): Promise<void> {
    const at = Number(offset);
    const end = at + lengthOf(buffers);
    const last = lastBlock(end);
    const first = Math.floor(at / BLOCK_BYTES);
    if (this.map.endOfRun(first, last) > last) return this.readRun(first, at, buffers);
    const runs: Promise<void>[] = [];
    for (let block = first; block <= last; ) {
      const next = this.map.endOfRun(block, last);
      const from = Math.max(block * BLOCK_BYTES, at);
      const to = Math.min(next * BLOCK_BYTES, end);
      runs.push(this.readRun(block, from, slice(buffers, from - at, to - at)));
      block = next;
    }
    await Promise.all(runs);
  }

  async write(offset: bigint, buffers: readonly Uint8Array[]): Promise<void> {
    const at = Number(offset);
    const end = at + lengthOf(buffers);
    const first = Math.floor(at / BLOCK_BYTES);
    const last = lastBlock(end);
    if (this.map.hasAll(first, last)) return this.writeHere(at, buffers);
    const release = await this.allocations.acquire(first, last);
    try {
      // What the base has of the first and the last block beside what is written.
      const lead = this.map.has(first) ? [] : await this.readBase(first * BLOCK_BYTES, at);
      const tail = this.map.has(last) ? [] : await this.readBase(end, this.endOf(last));
      await this.writeHere(at - lengthOf(lead), [...lead, ...buffers, ...tail]);
      await this.map.add(first, last);
    } finally {
      release();
    }
  }

  flush(): Promise<void> {
    return this.flushing.run();
  }

  /** Gives back what the overlay has of the range, which reads as zeroes then; the base goes on showing where it has nothing. */
  async discard(offset: bigint, byteLength: bigint): Promise<void> {
    const at = Number(offset);
    const end = at + Number(byteLength);
    const last = lastBlock(end);
    for (let block = Math.floor(at / BLOCK_BYTES); block <= last; ) {
      const next = this.map.endOfRun(block, last);
      const from = Math.max(block * BLOCK_BYTES, at);
      if (this.map.has(block)) await this.punch(from, Math.min(next * BLOCK_BYTES, end));
      block = next;
    }
  }

  async writeZeroes(offset: bigint, byteLength: bigint): Promise<void> {
    const at = Number(offset);
    const end = at + Number(byteLength);
    const { first, last } = this.wholeBlocks(at, Number(byteLength));
    if (first > last) return this.write(offset, [new Uint8Array(end - at)]);
    const start = first * BLOCK_BYTES;
    if (start > at) await this.write(offset, [new Uint8Array(start - at)]);
    const release = await this.allocations.acquire(first, last);
    try {
      await this.punch(first * BLOCK_BYTES, this.endOf(last));
      if (!this.map.hasAll(first, last)) await this.map.add(first, last);
    } finally {
      release();
    }
    const stop = this.endOf(last);
    if (end > stop) await this.write(BigInt(stop), [new Uint8Array(end - stop)]);
  }

  /**
   * What of the disk the overlay has, or has not, in pieces of up to `most` bytes.
   * @internal
   */
  *pieces(isOwn: boolean, most: number): Generator<Piece> {
    const end = Number(this.byteLength);
    const last = lastBlock(end);
    for (let block = 0; block <= last; ) {
      const next = this.map.endOfRun(block, Math.min(last, block + most / BLOCK_BYTES - 1));
      if (this.map.has(block) === isOwn)
        yield { start: block * BLOCK_BYTES, end: Math.min(next * BLOCK_BYTES, end) };
      block = next;
    }
  }

  /**
   * Gives back all that it has: the base has the same, stable, and goes on showing it. Nothing else is under way.
   * @internal
   */
  async letGoOfAll(): Promise<void> {
    const { storage } = this.parts;
    await this.map.clear();
    // First no map names the blocks, then they go.
    await this.syncOnce();
    await storage.punch(this.layout.blocks, Number(this.byteLength));
  }

  async close(): Promise<void> {
    const { storage, base } = this.parts;
    try {
      if (!this.readOnly && this.failure === undefined) await this.flush();
    } finally {
      await storage.close();
      await base.close?.();
    }
  }

  private readRun(block: number, at: number, buffers: readonly Uint8Array[]): Promise<void> {
    if (!this.map.has(block)) return this.parts.base.read(BigInt(at), buffers);
    return this.parts.storage.read(this.layout.blocks + at, buffers);
  }

  private async readBase(start: number, end: number): Promise<Uint8Array[]> {
    if (start >= end) return [];
    const bytes = new Uint8Array(end - start);
    await this.parts.base.read(BigInt(start), [bytes]);
    return [bytes];
  }

  private writeHere(at: number, buffers: readonly Uint8Array[]): Promise<void> {
    return this.parts.storage.write(this.layout.blocks + at, buffers);
  }

  private punch(start: number, end: number): Promise<void> {
    return this.parts.storage.punch(this.layout.blocks + start, end - start);
  }

  private async flushNow(): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    // Taken first: these bits' blocks were written before the sync.
    const pages = this.map.takeUndurable();
    await this.syncOnce();
    if (pages.length === 0) return;
    await this.map.writeDurable(pages);
    await this.syncOnce();
  }

  private async syncOnce(): Promise<void> {
    const { storage } = this.parts;
    try {
      await storage.sync();
    } catch (error) {
      this.failure = error;
      // The kernel may have dropped blocks that the working map names.
      await storage.write(SESSION_POSITION, [new Uint8Array(SESSION_BYTES)]).catch(() => {});
      throw error;
    }
  }

  /** Blocks that lie in the range as a whole; `first` > `last` if none does. */
  private wholeBlocks(at: number, byteLength: number): { first: number; last: number } {
    const end = at + byteLength;
    const isToTheEnd = end === Number(this.byteLength);
    const first = Math.ceil(at / BLOCK_BYTES);
    return { first, last: isToTheEnd ? lastBlock(end) : Math.floor(end / BLOCK_BYTES) - 1 };
  }

  /** The last block may be shorter than others. */
  private endOf(block: number): number {
    return Math.min((block + 1) * BLOCK_BYTES, Number(this.byteLength));
  }
}

function lastBlock(end: number): number {
  return Math.ceil(end / BLOCK_BYTES) - 1;
}

/** Has the working map count under this kernel. */
async function loadMap(parts: OverlayParts, layout: OverlayLayout): Promise<BlockMap> {
  const { storage, bootId, readOnly } = parts;
  const session = encodeSession(bootId);
  const last = Buffer.alloc(SESSION_BYTES);
  await storage.read(SESSION_POSITION, [last]);
  const isSameKernel = last.equals(session);
  const map = await BlockMap.load(storage, layout, isSameKernel);
  if (!isSameKernel && !readOnly) {
    // First what it stands for, then the session: it must never vouch for a map of before.
    await map.saveAll();
    await storage.sync();
    await storage.write(SESSION_POSITION, [session]);
  }
  return map;
}
