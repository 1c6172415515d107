// What a block device says of itself: its configuration space, as far as the features it offers give it meaning.
import * as blk from "../../assembly/spec/virtio-blk.ts";
import { hasFeature } from "../protocol/feature-bits.ts";

/** Undefined: the device offers no feature that would tell. Sizes are in bytes unless they are sectors, of 512 bytes. */
export interface DiskFacts {
  capacitySectors: bigint;
  readOnly: boolean;
  blockSize: number | undefined;
  physicalBlockSize: number | undefined;
  alignmentOffset: number | undefined;
  minimumIoSize: number | undefined;
  /** 0: no preference. */
  optimalIoSize: number | undefined;
  /** Of one segment. */
  sizeMax: number | undefined;
  segMax: number | undefined;
  numQueues: number | undefined;
  canFlush: boolean;
  /** Whether a driver can turn the write cache on and off. */
  canSetWriteCache: boolean;
  writeCache: "writeback" | "writethrough";
  discard: { maxSectors: number; maxSegments: number; alignmentSectors: number } | undefined;
  writeZeroes: { maxSectors: number; maxSegments: number; mayUnmap: boolean } | undefined;
}

/** The block size is that of the protocol where a device has none of its own (virtio 1.4, 5.2.5). */
export function logicalBlockSize({ blockSize }: Pick<DiskFacts, "blockSize">): number {
  return blockSize ?? blk.SECTOR_SIZE;
}

/** Of at least the first 60 bytes of the configuration space (virtio 1.4, 5.2.4), and of what is offered. */
export function diskFacts(config: Buffer, features: bigint): DiskFacts {
  const has = (bit: number) => hasFeature(features, bit);
  const when = <T>(bit: number, value: () => T) => (has(bit) ? value() : undefined);
  const u32 = (at: number) => config.readUInt32LE(at);
  const blockSize = when(blk.VIRTIO_BLK_F_BLK_SIZE, () => u32(blk.BLK_CONFIG_BLK_SIZE));
  // The topology counts in logical blocks.
  const unit = logicalBlockSize({ blockSize });
  const topology = <T>(value: () => T) => when(blk.VIRTIO_BLK_F_TOPOLOGY, value);
  return {
    capacitySectors: config.readBigUInt64LE(blk.BLK_CONFIG_CAPACITY),
    readOnly: has(blk.VIRTIO_BLK_F_RO),
    blockSize,
    physicalBlockSize: topology(() => unit * 2 ** config[blk.BLK_CONFIG_PHYSICAL_BLOCK_EXP]!),
    alignmentOffset: topology(() => unit * config[blk.BLK_CONFIG_ALIGNMENT_OFFSET]!),
    minimumIoSize: topology(() => unit * config.readUInt16LE(blk.BLK_CONFIG_MIN_IO_SIZE)),
    optimalIoSize: topology(() => unit * u32(blk.BLK_CONFIG_OPT_IO_SIZE)),
    sizeMax: when(blk.VIRTIO_BLK_F_SIZE_MAX, () => u32(blk.BLK_CONFIG_SIZE_MAX)),
    segMax: when(blk.VIRTIO_BLK_F_SEG_MAX, () => u32(blk.BLK_CONFIG_SEG_MAX)),
    numQueues: when(blk.VIRTIO_BLK_F_MQ, () => config.readUInt16LE(blk.BLK_CONFIG_NUM_QUEUES)),
    canFlush: has(blk.VIRTIO_BLK_F_FLUSH),
    canSetWriteCache: has(blk.VIRTIO_BLK_F_CONFIG_WCE),
    writeCache: isWriteBack(config, has) ? "writeback" : "writethrough",
    discard: when(blk.VIRTIO_BLK_F_DISCARD, () => ({
      maxSectors: u32(blk.BLK_CONFIG_MAX_DISCARD_SECTORS),
      maxSegments: u32(blk.BLK_CONFIG_MAX_DISCARD_SEG),
      alignmentSectors: u32(blk.BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT),
    })),
    writeZeroes: when(blk.VIRTIO_BLK_F_WRITE_ZEROES, () => ({
      maxSectors: u32(blk.BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS),
      maxSegments: u32(blk.BLK_CONFIG_MAX_WRITE_ZEROES_SEG),
      mayUnmap: config[blk.BLK_CONFIG_WRITE_ZEROES_MAY_UNMAP] !== 0,
    })),
  };
}

/** What the field says where there is one; else what follows from the other feature (5.2.5). */
function isWriteBack(config: Buffer, has: (bit: number) => boolean): boolean {
  if (has(blk.VIRTIO_BLK_F_CONFIG_WCE)) return config[blk.BLK_CONFIG_WRITEBACK] !== 0;
  return has(blk.VIRTIO_BLK_F_FLUSH);
}

/** Why this can't be a block device's, whatever the protocol says; there is no message that asks for the type. */
export function whyNoDisk(facts: DiskFacts): string | undefined {
  const { blockSize, numQueues } = facts;
  const isBlockSize = (size: number) => size >= blk.SECTOR_SIZE && Number.isInteger(Math.log2(size));
  if (blockSize !== undefined && !isBlockSize(blockSize)) return `its block size would be ${blockSize}`;
  if (numQueues === 0) return "it would have no queue";
  return undefined;
}
