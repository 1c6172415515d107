// A disk that is an object, as the device sees it: checked, and with what a file would have had of itself.
import { SECTOR_SIZE, VIRTIO_BLK_ID_BYTES } from "../../assembly/spec/virtio-blk.ts";
import type { BlockDisk } from "../engines/block-disk.ts";
import { StartError } from "../errors.ts";
import { BLOCK_SIZE_MAX, type Disk, RANGE_SECTORS_MAX } from "./disk.ts";

/** Stands for the disk where an SQE has a descriptor: no descriptor is negative, and -1 is none. */
export const DISK_FD = -2;

/** An object that says nothing of its identity has none; one for all would have guests take two disks for one. */
const NO_SERIAL = "";

export interface ObjectDiskOptions {
  /** For messages and the log. */
  name: string;
  /** Each of these over what the disk itself says. */
  readOnly?: boolean | undefined;
  blockSize?: number | undefined;
  serial?: string | undefined;
  discard?: "unmap" | "ignore" | undefined;
  /** Segments that one discard or write-zeroes request may have. Left out: 1. */
  rangeSegments?: number | undefined;
  overlay?: string | undefined;
}

/** Throws StartError if the disk can't be what it says. */
export function describeObject(object: BlockDisk, options: ObjectDiskOptions): Disk {
  const { name, rangeSegments = 1 } = options;
  const blockSize = options.blockSize ?? object.blockSize ?? SECTOR_SIZE;
  const serial = options.serial ?? object.serial ?? NO_SERIAL;
  check(object, blockSize, serial, name);
  const readOnly = options.readOnly || object.readOnly || object.write === undefined;
  return {
    path: name,
    overlay: options.overlay,
    object,
    fd: DISK_FD,
    unalignedFd: DISK_FD,
    capacitySectors: object.byteLength / BigInt(SECTOR_SIZE),
    blockSize,
    directMask: 0,
    readOnly,
    discardUnmaps: options.discard !== "ignore",
    maxDiscardSectors: RANGE_SECTORS_MAX,
    maxWriteZeroesSectors: RANGE_SECTORS_MAX,
    maxRanges: rangeSegments,
    serial,
    isPadded: false,
    close: async () => object.close?.(),
  };
}

function check(object: BlockDisk, blockSize: number, serial: string, name: string): void {
  const { byteLength } = object;
  const isPowerOfTwo = Number.isInteger(blockSize) && (blockSize & (blockSize - 1)) === 0;
  if (!isPowerOfTwo || blockSize < SECTOR_SIZE || blockSize > BLOCK_SIZE_MAX) {
    throw new StartError(`${name} has blocks of ${blockSize} bytes; give it 512, 1024, 2048 or 4096`);
  }
  if (blockSize < (object.blockSize ?? SECTOR_SIZE)) {
    throw new StartError(
      `${name} has blocks of ${object.blockSize} bytes, which can't be served as ${blockSize}`,
    );
  }
  if (typeof byteLength !== "bigint" || byteLength <= 0n || byteLength % BigInt(blockSize) !== 0n) {
    throw new StartError(
      `${name} has ${byteLength} bytes; give it a bigint that is a multiple of its block size, ${blockSize}`,
    );
  }
  if (!/^[\x20-\x7e]*$/.test(serial) || serial.length > VIRTIO_BLK_ID_BYTES) {
    throw new StartError(`${name} has the serial "${serial}"; it takes up to 20 ASCII characters`);
  }
}
