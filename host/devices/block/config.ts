// What the device offers and says of itself: feature bits and configuration space (virtio 1.4, 5.2.3 and 5.2.4).
import {
  IOVECS_MAX,
  WRITE_THROUGH_OFF,
  WRITE_THROUGH_ON,
  WRITE_THROUGH_UNTIL_FLUSH,
} from "../../../assembly/abi/layout.ts";
import * as blk from "../../../assembly/spec/virtio-blk.ts";
import {
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_RING_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "../../../assembly/spec/virtqueue.ts";
import { ProtocolError } from "../../errors.ts";
import { featureMask, hasFeature } from "../../protocol/feature-bits.ts";
import {
  VHOST_USER_CONFIG_F_MIGRATION,
  VHOST_USER_CONFIG_F_WRITABLE,
  VHOST_USER_MAX_CONFIG_SIZE,
} from "../../protocol/messages.ts";
import type { StorageFacts } from "../../storage/storage.ts";

export interface BlkOptions {
  queueCount: number;
  /** Only seg_max follows from it: rings may be of any size. */
  queueSize: number;
  packed: boolean;
}

/** Header and status take two of a queue's descriptors; the kernel takes no more vectors than this in a request. */
const BESIDE_DATA = 2;
const MMIO_CONFIG_OFFSET = 0x100;
/**
 * What the guest is told that the storage prefers: whole pages of 4 KiB, as page cache, file systems and disks do. The same for
 * every medium: guests lay out partitions and file systems by it, and keep them when their image moves.
 */
const PREFERRED_BYTES = 4096;
const NO_OPTIMUM = 0;
/** 1 MiB: with the most segments, a request still fits the 2 GiB that the kernel transfers at once. */
const SIZE_MAX = 0x100000;

export function deviceFeatures(disk: Pick<StorageFacts, "readOnly">, packed: boolean): bigint {
  return featureMask([
    VIRTIO_F_VERSION_1,
    VIRTIO_F_RING_INDIRECT_DESC,
    VIRTIO_F_RING_EVENT_IDX,
    ...(packed ? [VIRTIO_F_RING_PACKED] : []),
    blk.VIRTIO_BLK_F_SIZE_MAX,
    blk.VIRTIO_BLK_F_SEG_MAX,
    blk.VIRTIO_BLK_F_BLK_SIZE,
    blk.VIRTIO_BLK_F_TOPOLOGY,
    blk.VIRTIO_BLK_F_FLUSH,
    blk.VIRTIO_BLK_F_CONFIG_WCE,
    blk.VIRTIO_BLK_F_MQ,
    ...(disk.readOnly ? [blk.VIRTIO_BLK_F_RO] : [blk.VIRTIO_BLK_F_DISCARD, blk.VIRTIO_BLK_F_WRITE_ZEROES]),
  ]);
}

/** The configuration space as one front-end sees it. */
export class BlkConfig {
  private readonly fields: Buffer;
  private features = 0n;
  /** What the driver has written; until then the features decide. */
  private chosenWriteback: boolean | undefined;
  /** The driver may have written it while another daemon, or another host, served it. */
  private isInherited = false;

  constructor(disk: StorageFacts, options: BlkOptions) {
    this.fields = encodeFields(disk, options);
  }

  negotiate(features: bigint): void {
    this.features = features;
  }

  /** Whether each write must be stable when it completes (virtio 1.4, 5.2.5 and 5.2.6.2). */
  get isWriteThrough(): boolean {
    if (hasFeature(this.features, blk.VIRTIO_BLK_F_CONFIG_WCE)) return !this.isWriteback;
    return !hasFeature(this.features, blk.VIRTIO_BLK_F_FLUSH);
  }

  /**
   * The same as WRITE_THROUGH_*, for writes. Front-ends forward writeback when the driver writes it, but not to a
   * successor. A driver that has turned it off sends no FLUSH; so until one comes, or writeback does, it may be off.
   */
  get writeThrough(): number {
    if (this.isWriteThrough) return WRITE_THROUGH_ON;
    const mayBeOff = this.isInherited && hasFeature(this.features, blk.VIRTIO_BLK_F_CONFIG_WCE);
    return mayBeOff && this.chosenWriteback === undefined ? WRITE_THROUGH_UNTIL_FLUSH : WRITE_THROUGH_OFF;
  }

  /** The driver was there before this front-end connected. */
  inherit(): void {
    this.isInherited = true;
  }

  /** Any part of the 256 bytes that the protocol has room for. What lies past the last field is zero. */
  read(frontEndOffset: number, byteLength: number): Buffer {
    const offset = offsetInSpace(frontEndOffset);
    if (offset + byteLength > VHOST_USER_MAX_CONFIG_SIZE) {
      throw new ProtocolError("GET_CONFIG", `${byteLength} bytes at ${frontEndOffset}`);
    }
    const space = Buffer.alloc(VHOST_USER_MAX_CONFIG_SIZE);
    this.fields.copy(space);
    space[blk.BLK_CONFIG_WRITEBACK] = this.isWriteback ? 1 : 0;
    return space.subarray(offset, offset + byteLength);
  }

  write(frontEndOffset: number, bytes: Buffer, flags: number): void {
    const offset = offsetInSpace(frontEndOffset);
    if (flags === VHOST_USER_CONFIG_F_WRITABLE) this.writeAsDriver(offset, bytes);
    else if (flags === VHOST_USER_CONFIG_F_MIGRATION) this.restore(offset, bytes);
    else throw new ProtocolError("SET_CONFIG", `flags ${flags}`);
  }

  /** 5.2.5, "Device Initialization": without FLUSH, a device with CONFIG_WCE starts at 0. */
  private get isWriteback(): boolean {
    const canOnlyWriteThrough =
      hasFeature(this.features, blk.VIRTIO_BLK_F_CONFIG_WCE) &&
      !hasFeature(this.features, blk.VIRTIO_BLK_F_FLUSH);
    return this.chosenWriteback ?? !canOnlyWriteThrough;
  }

  /** writeback is the only field that a driver may write. */
  private writeAsDriver(offset: number, bytes: Buffer): void {
    if (offset !== blk.BLK_CONFIG_WRITEBACK || bytes.length !== 1) {
      throw new ProtocolError("SET_CONFIG", `${bytes.length} bytes at ${offset} are read-only`);
    }
    this.chooseWriteback(bytes[0]!);
  }

  /** Every field may come; writeback is the only one that isn't a fact of this disk. */
  private restore(offset: number, bytes: Buffer): void {
    const writeback = bytes[blk.BLK_CONFIG_WRITEBACK - offset];
    if (writeback !== undefined) this.chooseWriteback(writeback);
  }

  private chooseWriteback(value: number): void {
    if (value > 1) throw new ProtocolError("SET_CONFIG", `writeback ${value}`);
    this.chosenWriteback = value === 1;
  }
}

/**
 * Cloud Hypervisor up to v50 gives offsets as virtio-mmio has them, where the config space begins at 0x100. No offset of
 * the space itself is that large.
 */
function offsetInSpace(offset: number): number {
  return offset < VHOST_USER_MAX_CONFIG_SIZE ? offset : offset - MMIO_CONFIG_OFFSET;
}

function encodeFields(disk: StorageFacts, { queueCount, queueSize }: BlkOptions): Buffer {
  const fields = Buffer.alloc(blk.BLK_CONFIG_SIZE);
  const u16 = (value: number, at: number) => fields.writeUInt16LE(value, at);
  const u32 = (value: number, at: number) => fields.writeUInt32LE(value, at);
  const preferredBlocks = Math.max(PREFERRED_BYTES / disk.blockSize, 1);

  fields.writeBigUInt64LE(disk.byteLength / BigInt(blk.SECTOR_SIZE), blk.BLK_CONFIG_CAPACITY);
  u32(SIZE_MAX, blk.BLK_CONFIG_SIZE_MAX);
  u32(Math.min(queueSize, IOVECS_MAX) - BESIDE_DATA, blk.BLK_CONFIG_SEG_MAX);
  u32(disk.blockSize, blk.BLK_CONFIG_BLK_SIZE);
  fields[blk.BLK_CONFIG_PHYSICAL_BLOCK_EXP] = Math.log2(preferredBlocks);
  u16(preferredBlocks, blk.BLK_CONFIG_MIN_IO_SIZE);
  u32(NO_OPTIMUM, blk.BLK_CONFIG_OPT_IO_SIZE);
  u16(queueCount, blk.BLK_CONFIG_NUM_QUEUES);
  if (disk.readOnly) return fields;

  const rangeSectors = disk.rangeBytesMax / blk.SECTOR_SIZE;
  u32(rangeSectors, blk.BLK_CONFIG_MAX_DISCARD_SECTORS);
  u32(disk.rangeSegments, blk.BLK_CONFIG_MAX_DISCARD_SEG);
  u32(PREFERRED_BYTES / blk.SECTOR_SIZE, blk.BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT);
  u32(rangeSectors, blk.BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS);
  u32(disk.rangeSegments, blk.BLK_CONFIG_MAX_WRITE_ZEROES_SEG);
  fields[blk.BLK_CONFIG_WRITE_ZEROES_MAY_UNMAP] = disk.discard === "unmap" ? 1 : 0;
  return fields;
}
