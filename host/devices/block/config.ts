// The configuration space of a disk (virtio 1.4, 5.2.4), and the features that give its fields their meaning (5.2.3).
import { IOVECS_MAX } from "../../../assembly/abi/worker.ts";
import * as blk from "../../../assembly/spec/virtio-blk.ts";
import { featureMask } from "../../protocol/feature-bits.ts";
import type { StorageFacts } from "../../storage/storage.ts";
import type { ConfigSpace } from "../device.ts";
import type { CacheMode } from "./cache-mode.ts";

export interface QueueOptions {
  queueCount: number;
  /** Only seg_max follows from it: rings may be of any size. */
  queueSize: number;
}

/** Header and status take two of a queue's descriptors; the kernel takes no more vectors than this in a request. */
const BESIDE_DATA = 2;
/**
 * What the guest is told that the storage prefers: whole pages of 4 KiB, as page cache, file systems and disks do. The same for
 * every medium of this host: guests lay out partitions and file systems by it, and keep them when their image moves.
 */
const PREFERRED_BYTES = 4096;
const NO_OPTIMUM = 0;
const CAPACITY_BYTES = 8;
/** 1 MiB: with the most segments, a request still fits the 2 GiB that the kernel transfers at once. */
const SIZE_MAX = 0x100000;

export function blockFeatures({ readOnly }: Pick<StorageFacts, "readOnly">): bigint {
  return featureMask([
    blk.VIRTIO_BLK_F_SIZE_MAX,
    blk.VIRTIO_BLK_F_SEG_MAX,
    blk.VIRTIO_BLK_F_BLK_SIZE,
    blk.VIRTIO_BLK_F_TOPOLOGY,
    blk.VIRTIO_BLK_F_FLUSH,
    blk.VIRTIO_BLK_F_CONFIG_WCE,
    blk.VIRTIO_BLK_F_MQ,
    ...(readOnly ? [blk.VIRTIO_BLK_F_RO] : [blk.VIRTIO_BLK_F_DISCARD, blk.VIRTIO_BLK_F_WRITE_ZEROES]),
  ]);
}

export class BlockConfig implements ConfigSpace {
  readonly byteLength = blk.BLK_CONFIG_SIZE;
  private readonly fields: Buffer;
  private wasResized = false;

  constructor(
    disk: StorageFacts,
    options: QueueOptions,
    private readonly cache: CacheMode,
  ) {
    this.fields = encodeFields(disk, options);
  }

  /** At any time. */
  setSize(byteLength: bigint): void {
    this.wasResized = true;
    writeCapacity(this.fields, byteLength);
  }

  read(): Uint8Array {
    this.fields[blk.BLK_CONFIG_WRITEBACK] = this.cache.isWriteback ? 1 : 0;
    return this.fields;
  }

  /** writeback is the only field that a driver may write. Some front-ends send all of the space for it, with the rest as it was. */
  write(offset: number, bytes: Uint8Array): void {
    const at = blk.BLK_CONFIG_WRITEBACK - offset;
    const space = this.read();
    const isAllElseSame = bytes.every(
      (byte, i) => i === at || byte === space[offset + i] || this.isOld(offset + i),
    );
    if (bytes[at] === undefined || !isAllElseSame) {
      throw new RangeError(`${bytes.length} bytes at ${offset} are read-only`);
    }
    this.chooseWriteback(bytes[at]);
  }

  /** Every field may come; writeback is the only one that isn't a fact of this disk. */
  restore(offset: number, bytes: Uint8Array): void {
    const writeback = bytes[blk.BLK_CONFIG_WRITEBACK - offset];
    if (writeback !== undefined) this.chooseWriteback(writeback);
  }

  /** A front-end may not have heard of the size that there is now. */
  private isOld(at: number): boolean {
    return this.wasResized && at < blk.BLK_CONFIG_CAPACITY + CAPACITY_BYTES;
  }

  private chooseWriteback(value: number): void {
    if (value > 1) throw new RangeError(`writeback ${value}`);
    this.cache.choose(value === 1);
  }
}

function writeCapacity(fields: Buffer, byteLength: bigint): void {
  fields.writeBigUInt64LE(byteLength / BigInt(blk.SECTOR_SIZE), blk.BLK_CONFIG_CAPACITY);
}

function encodeFields(disk: StorageFacts, { queueCount, queueSize }: QueueOptions): Buffer {
  const fields = Buffer.alloc(blk.BLK_CONFIG_SIZE);
  const u16 = (value: number, at: number) => fields.writeUInt16LE(value, at);
  const u32 = (value: number, at: number) => fields.writeUInt32LE(value, at);
  const preferredBlocks = Math.max(PREFERRED_BYTES / disk.blockSize, 1);

  writeCapacity(fields, disk.byteLength);
  u32(SIZE_MAX, blk.BLK_CONFIG_SIZE_MAX);
  u32(Math.min(queueSize, IOVECS_MAX) - BESIDE_DATA, blk.BLK_CONFIG_SEG_MAX);
  u32(disk.blockSize, blk.BLK_CONFIG_BLK_SIZE);
  fields[blk.BLK_CONFIG_PHYSICAL_BLOCK_EXP] = Math.log2(preferredBlocks);
  u16(preferredBlocks, blk.BLK_CONFIG_MIN_IO_SIZE);
  u32((disk.optimalBytes ?? NO_OPTIMUM) / disk.blockSize, blk.BLK_CONFIG_OPT_IO_SIZE);
  u16(queueCount, blk.BLK_CONFIG_NUM_QUEUES);
  if (disk.readOnly) return fields;

  const rangeSectors = disk.rangeBytesMax / blk.SECTOR_SIZE;
  u32(rangeSectors, blk.BLK_CONFIG_MAX_DISCARD_SECTORS);
  u32(disk.rangeSegments, blk.BLK_CONFIG_MAX_DISCARD_SEG);
  const alignment = disk.discardAlignment ?? PREFERRED_BYTES;
  u32(alignment / blk.SECTOR_SIZE, blk.BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT);
  u32(rangeSectors, blk.BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS);
  u32(disk.rangeSegments, blk.BLK_CONFIG_MAX_WRITE_ZEROES_SEG);
  fields[blk.BLK_CONFIG_WRITE_ZEROES_MAY_UNMAP] = disk.discard === "unmap" ? 1 : 0;
  return fields;
}
