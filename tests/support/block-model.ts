// What a virtio-blk device is to its driver (virtio 1.4, 5.2.6), as plainly as it can be said: no rings, no I/O.
import {
  BLK_HEADER_SECTOR,
  BLK_HEADER_SIZE,
  BLK_HEADER_TYPE,
  RANGE_FLAGS,
  RANGE_NUM_SECTORS,
  RANGE_SECTOR,
  RANGE_SIZE,
  SECTOR_SIZE,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from "../../assembly/spec/virtio-blk.ts";

export interface BlockModelOptions {
  capacity: number;
  readOnly: boolean;
  rangesMax: number;
  id: string;
}

/** Sectors from `first` on. */
export interface Sectors {
  first: number;
  count: number;
}

/** How a request must end. */
export interface Outcome {
  /** None: the chain has no place for it. */
  status: number | undefined;
  /** What the device writes before the status. */
  data: Buffer;
  /** What it must have to itself meanwhile. */
  sectors: Sectors[];
  /** Changes the image, once the request is done. */
  apply(): void;
}

export class BlockModel {
  constructor(
    readonly image: Buffer,
    readonly options: BlockModelOptions,
  ) {}

  /** Of a request of these readable bytes, and as many writable ones. */
  outcomeOf(readable: Buffer, writableLength: number): Outcome {
    if (readable.length < BLK_HEADER_SIZE || writableLength === 0) return ended(undefined);
    const type = readable.readUInt32LE(BLK_HEADER_TYPE);
    const sector = readable.readBigUInt64LE(BLK_HEADER_SECTOR);
    const out = readable.subarray(BLK_HEADER_SIZE);
    switch (type) {
      case VIRTIO_BLK_T_IN:
        return this.read(sector, writableLength - 1);
      case VIRTIO_BLK_T_OUT:
        return this.write(sector, out);
      case VIRTIO_BLK_T_FLUSH:
        return ended(VIRTIO_BLK_S_OK);
      case VIRTIO_BLK_T_GET_ID:
        return { ...ended(VIRTIO_BLK_S_OK), data: this.id().subarray(0, writableLength - 1) };
      case VIRTIO_BLK_T_DISCARD:
      case VIRTIO_BLK_T_WRITE_ZEROES:
        return this.zero(type, out);
      default:
        return ended(VIRTIO_BLK_S_UNSUPP);
    }
  }

  bytesOf({ first, count }: Sectors): Buffer {
    return this.image.subarray(first * SECTOR_SIZE, (first + count) * SECTOR_SIZE);
  }

  private id(): Buffer {
    const id = Buffer.alloc(VIRTIO_BLK_ID_BYTES);
    id.write(this.options.id, "latin1");
    return id;
  }

  private read(sector: bigint, byteLength: number): Outcome {
    const sectors = this.sectorsAt(sector, byteLength);
    if (sectors === undefined) return ended(VIRTIO_BLK_S_IOERR);
    return { ...ended(VIRTIO_BLK_S_OK), data: Buffer.from(this.bytesOf(sectors)), sectors: [sectors] };
  }

  private write(sector: bigint, out: Buffer): Outcome {
    const sectors = this.sectorsAt(sector, out.length);
    if (this.options.readOnly || sectors === undefined) return ended(VIRTIO_BLK_S_IOERR);
    const apply = () => this.bytesOf(sectors).set(out);
    return { ...ended(VIRTIO_BLK_S_OK), sectors: [sectors], apply };
  }

  private zero(type: number, out: Buffer): Outcome {
    const { readOnly, rangesMax } = this.options;
    if (readOnly) return ended(VIRTIO_BLK_S_IOERR);
    if (out.length > rangesMax * RANGE_SIZE) return ended(VIRTIO_BLK_S_UNSUPP);
    if (out.length === 0 || out.length % RANGE_SIZE !== 0) return ended(VIRTIO_BLK_S_IOERR);
    const known = type === VIRTIO_BLK_T_DISCARD ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
    const sectors: Sectors[] = [];
    for (let at = 0; at < out.length; at += RANGE_SIZE) {
      const byteLength = out.readUInt32LE(at + RANGE_NUM_SECTORS) * SECTOR_SIZE;
      const range = this.sectorsAt(out.readBigUInt64LE(at + RANGE_SECTOR), byteLength);
      if (range === undefined) return ended(VIRTIO_BLK_S_IOERR);
      if ((out.readUInt32LE(at + RANGE_FLAGS) & ~known) !== 0) return ended(VIRTIO_BLK_S_UNSUPP);
      sectors.push(range);
    }
    const apply = () => {
      for (const range of sectors) this.bytesOf(range).fill(0);
    };
    return { ...ended(VIRTIO_BLK_S_OK), sectors, apply };
  }

  /** Undefined if they are not whole sectors of the disk. */
  private sectorsAt(sector: bigint, byteLength: number): Sectors | undefined {
    if (byteLength % SECTOR_SIZE !== 0) return undefined;
    const count = byteLength / SECTOR_SIZE;
    const isInDisk = sector + BigInt(count) <= BigInt(this.options.capacity);
    return isInDisk ? { first: Number(sector), count } : undefined;
  }
}

function ended(status: number | undefined): Outcome {
  return { status, data: Buffer.alloc(0), sectors: [], apply: () => {} };
}

export function overlap(a: Sectors, b: Sectors): boolean {
  return a.first < b.first + b.count && b.first < a.first + a.count;
}
