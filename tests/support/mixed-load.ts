// A random mixed load on one queue, against a model of the disk in memory: whatever is read must be what was written.
import assert from "node:assert/strict";
import {
  BLK_HEADER_SIZE,
  SECTOR_SIZE,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from "../../assembly/spec/virtio-blk.ts";
import { type BlkDriver, type BlkRequest, encodeRanges } from "../../host/front-end/blk-driver.ts";
import type { Random } from "./random.ts";

export interface MixedLoadOptions {
  random: Random;
  count: number;
  depth: number;
  /** The part of the disk to use; nobody else may. */
  firstSector: number;
  sectors: number;
  indirect: boolean;
  /** The most buffers to cut a request's data into. */
  piecesMax?: number;
  /** Zeroes in place of discards, which may do nothing on some storage. */
  noDiscards?: boolean;
}

interface Range {
  sector: number;
  sectors: number;
}

/** Requests of up to this many sectors. */
const SECTORS_MAX = 48;
const READ_SECTORS_MAX = 2048;

export class MixedLoad {
  private readonly busy = new Set<Range>();
  private left: number;

  /** What the disk must hold, from `firstSector`. */
  readonly model: Buffer;

  private constructor(
    private readonly disk: BlkDriver,
    private readonly options: MixedLoadOptions,
    model: Buffer,
  ) {
    this.model = model;
    this.left = options.count;
  }

  /** Ends with a look at all of the part, as read through the queue. */
  static async run(disk: BlkDriver, options: MixedLoadOptions): Promise<MixedLoad> {
    const load = new MixedLoad(disk, options, await readAll(disk, options));
    await Promise.all(Array.from({ length: options.depth }, () => load.goOn()));
    assert.ok(load.model.equals(await readAll(disk, options)), "the disk is not what the model says");
    return load;
  }

  private async goOn(): Promise<void> {
    while (this.left-- > 0) {
      const range = this.freeRange();
      this.busy.add(range);
      await this.oneRequest(range);
      this.busy.delete(range);
    }
  }

  /** Requests in flight at a time have no order, so they must not touch the same sectors. */
  private freeRange(): Range {
    const { random, firstSector, sectors: total } = this.options;
    for (;;) {
      const sectors = random.between(1, SECTORS_MAX);
      const range = { sector: firstSector + random.below(total - sectors), sectors };
      if (![...this.busy].some((other) => overlap(range, other))) return range;
    }
  }

  private async oneRequest(range: Range): Promise<void> {
    const { random } = this.options;
    const roll = random.below(100);
    if (roll < 40) return this.write(range);
    if (roll < 80) return this.read(range);
    if (roll < 85) return this.flush();
    if (roll < 90 && !this.options.noDiscards) return this.zero(range, VIRTIO_BLK_T_DISCARD, 0);
    const flags = roll < 95 ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
    return this.zero(range, VIRTIO_BLK_T_WRITE_ZEROES, flags);
  }

  private async write({ sector, sectors }: Range): Promise<void> {
    const out = this.options.random.bytes(sectors * SECTOR_SIZE);
    const readableLengths = [BLK_HEADER_SIZE, ...this.pieces(out.length)];
    await this.succeed({ type: VIRTIO_BLK_T_OUT, sector, out, readableLengths });
    out.copy(this.model, this.offsetOf(sector));
  }

  private async read({ sector, sectors }: Range): Promise<void> {
    const inLength = sectors * SECTOR_SIZE;
    const writableLengths = [...this.pieces(inLength), 1];
    const data = await this.succeed({ type: VIRTIO_BLK_T_IN, sector, inLength, writableLengths });
    const at = this.offsetOf(sector);
    assert.ok(data.equals(this.model.subarray(at, at + inLength)), `sector ${sector} holds something else`);
  }

  private async flush(): Promise<void> {
    await this.succeed({ type: VIRTIO_BLK_T_FLUSH });
  }

  /** What is discarded reads as zeroes too, here: the file has a hole there. */
  private async zero(range: Range, type: number, flags: number): Promise<void> {
    await this.succeed({ type, out: encodeRanges([{ ...range, flags }]) });
    const at = this.offsetOf(range.sector);
    this.model.fill(0, at, at + range.sectors * SECTOR_SIZE);
  }

  private async succeed(request: BlkRequest): Promise<Buffer> {
    const { indirect } = this.options;
    const { status, data } = await this.disk.request({ ...request, indirect });
    assert.equal(status, VIRTIO_BLK_S_OK, `request type ${request.type} at sector ${request.sector}`);
    return data;
  }

  private pieces(byteLength: number): number[] {
    const { random, piecesMax = 4 } = this.options;
    return random.cut(byteLength, random.between(1, piecesMax));
  }

  private offsetOf(sector: number): number {
    return (sector - this.options.firstSector) * SECTOR_SIZE;
  }
}

async function readAll(disk: BlkDriver, { firstSector, sectors }: MixedLoadOptions): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let at = 0; at < sectors; at += READ_SECTORS_MAX) {
    parts.push(await disk.read(firstSector + at, Math.min(READ_SECTORS_MAX, sectors - at)));
  }
  return Buffer.concat(parts);
}

function overlap(a: Range, b: Range): boolean {
  return a.sector < b.sector + b.sectors && b.sector < a.sector + a.sectors;
}
