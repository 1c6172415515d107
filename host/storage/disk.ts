// The file or block device behind the virtual disk: opened, locked and measured. It knows nothing of rings.
import { SECTOR_SIZE } from "../../assembly/spec/virtio-blk.ts";
import type { BlockDisk } from "../engines/block-disk.ts";
import { StartError } from "../errors.ts";
import { blockDeviceFacts } from "../linux/block-device.ts";
import { directIoAlignment, readsSectors } from "../linux/direct-io.ts";
import { fileSize, S_IFBLK } from "../linux/file-status.ts";
import { iovecOf, readHere } from "../linux/immediate-io.ts";
import { addressOf, SystemError } from "../linux/libc.ts";
import { keepAccessTime, neverWaitsIfInMemory } from "../linux/status-flags.ts";
import type { Log } from "../process/log.ts";
import { SIGNATURE_BYTES } from "./file/format.ts";
import { type Identity, identityOf, serialFrom } from "./file/identity.ts";
import { lockImage } from "./file/lock.ts";
import { closeImage, type ImageChoice, type OpenImage, openImage } from "./file/open-file.ts";
import { checkRaw } from "./file/raw-check.ts";

export interface DiskOptions extends ImageChoice {
  /** What the guest sees. Left out: 512, whatever the medium has. */
  blockSize?: number | undefined;
  discard: "unmap" | "ignore";
  /** Left out: made from the file's or the device's identity. */
  serial?: string | undefined;
  /** "raw": whatever the image seems to hold. Left out: one of another format is refused. */
  format?: "raw" | undefined;
  /** Segments that one discard or write-zeroes request may have. */
  rangeSegments: number;
}

export const BLOCK_SIZE_MAX = 4096;

/** Just under 2 GiB in whole 4 KiB: what fits the kernel's signed 32-bit lengths. */
export const RANGE_SECTORS_MAX = 0x3ffff8;

/** Where the kernel can't tell, this suits any file system. */
const DIRECT_ALIGNMENT_FALLBACK = 4096;

const ENOLCK = 37;
const ENOSYS = 38;
const EOPNOTSUPP = 95;
const EINVAL = 22;

export class Disk {
  /** Set where a program gave an object instead of a file: the descriptors stand for it then. */
  readonly object?: BlockDisk;
  /** Where changes go, if not to the path. */
  readonly overlay?: string | undefined;
  readonly maxDiscardSectors: number = RANGE_SECTORS_MAX;
  readonly maxWriteZeroesSectors: number = RANGE_SECTORS_MAX;

  private constructor(
    readonly path: string,
    readonly fd: number,
    /** The same file through the page cache, for what O_DIRECT refuses; without O_DIRECT the same descriptor. */
    readonly unalignedFd: number,
    readonly capacitySectors: bigint,
    readonly blockSize: number,
    /** Bits that O_DIRECT wants clear in addresses, offsets and lengths. */
    readonly directMask: number,
    readonly readOnly: boolean,
    readonly discardUnmaps: boolean,
    readonly maxRanges: number,
    readonly serial: string,
    /** The file ends before the disk does: it is read as if zeroes followed. */
    readonly isPadded: boolean,
    /** Lets go of the lock, once the last request in the kernel has finished. */
    readonly close: () => void | Promise<void>,
  ) {}

  /** `stopping` ends a wait for the image's lock. */
  static async open(options: DiskOptions, stopping: AbortSignal, log: Log): Promise<Disk> {
    const { path, readOnly, direct, blockSize = SECTOR_SIZE } = options;
    const image = await openImage(options, stopping, log);
    try {
      const fds = [...new Set([image.fd, image.bufferedFd])];
      fds.forEach(keepAccessTime);
      fds.forEach(neverWaitsIfInMemory);
      if (options.lock === "auto") await lockUnlessUnsupported(fds, options, stopping, log);
      const byteLength = byteLengthOf(image);
      const identity = identityOf(image.fd);
      checkImage(image, byteLength, identity, options, log);
      const size = servedSize(path, byteLength, blockSize, readOnly, log);
      const alignment = direct ? Math.max(directAlignment(image), SECTOR_SIZE) : 1;
      const isDirect = direct && alignment <= blockSize;
      if (direct && !isDirect) tellNotDirect(path, alignment, log);
      return new Disk(
        path,
        isDirect ? image.fd : image.bufferedFd,
        image.bufferedFd,
        size / BigInt(SECTOR_SIZE),
        blockSize,
        isDirect ? alignment - 1 : 0,
        readOnly,
        options.discard === "unmap",
        options.rangeSegments,
        options.serial ?? serialFrom(identity.parts),
        size > byteLength,
        () => closeImage(image),
      );
    } catch (error) {
      closeImage(image);
      throw error;
    }
  }
}

/** Locks the file as lockImage() does, where its file system has locks; the log says if it has none. */
export async function lockUnlessUnsupported(
  fds: readonly number[],
  { path, readOnly, lockTimeoutMs }: Pick<DiskOptions, "path" | "readOnly" | "lockTimeoutMs">,
  stopping: AbortSignal,
  log: Log,
): Promise<void> {
  try {
    await lockImage(fds, path, readOnly, { timeoutMs: lockTimeoutMs, stopping }, log);
  } catch (error) {
    // ENOLCK: NFS without its lock service. The others: file systems or kernels that don't know such locks.
    const isUnsupported =
      error instanceof SystemError && [ENOLCK, ENOSYS, EOPNOTSUPP, EINVAL].includes(error.errno);
    if (!isUnsupported) throw error;
    log.warn({ file: path }, "the file system has no locks: nothing keeps a second writer away");
  }
}

function directAlignment({ fd, status }: OpenImage): number {
  const known = directIoAlignment(fd);
  if (known !== undefined) return known;
  if (status.type === S_IFBLK) return blockDeviceFacts(fd).logicalBlockSize;
  return readsSectors(fd) ? SECTOR_SIZE : DIRECT_ALIGNMENT_FALLBACK;
}

/**
 * A guest may write a part of what O_DIRECT writes at the least. Through the page cache that is the kernel's doing; but only if
 * all else goes that way, too, since a direct write throws away what the cache has of its page (open(2)).
 */
function tellNotDirect(file: string, alignment: number, log: Log): void {
  const advice = `give the guest such blocks with --block-size=${alignment} to serve it past the page cache`;
  log.warn(
    { file, alignment, advice },
    "O_DIRECT takes no blocks as small as the guest's: served through the page cache",
  );
}

function byteLengthOf({ fd, status }: OpenImage): bigint {
  return status.type === S_IFBLK ? blockDeviceFacts(fd).byteLength : fileSize(fd);
}

/** The disk's size: whole blocks. What is only read may have its last block filled with zeroes. */
function servedSize(
  path: string,
  byteLength: bigint,
  blockSize: number,
  readOnly: boolean,
  log: Log,
): bigint {
  if (byteLength === 0n)
    throw new StartError(`${path} is empty; give it a size first, as with truncate -s 10G`);
  const rest = byteLength % BigInt(blockSize);
  if (byteLength < blockSize) {
    const size = `${byteLength} bytes, less than one block of ${blockSize}`;
    throw new StartError(`${path} has ${size}; make it longer: truncate -s %${blockSize}`);
  }
  if (rest === 0n) return byteLength;
  const advice = `its size is no multiple of ${blockSize}: truncate -s %${blockSize} makes it one`;
  const fields = { file: path, bytes: Number(rest) };
  if (readOnly) {
    log.warn(fields, `the image ends within a block, which zeroes fill; ${advice}`);
    return byteLength - rest + BigInt(blockSize);
  }
  log.warn(fields, `the image ends within a block, which is not served; ${advice}`);
  return byteLength - rest;
}

function checkImage(
  { fd, bufferedFd, status }: OpenImage,
  byteLength: bigint,
  identity: Identity,
  choice: DiskOptions,
  log: Log,
): void {
  const isBlockDevice = status.type === S_IFBLK;
  const start = readBytes(bufferedFd, 0n);
  // The end of a device is seldom that of an image on it.
  const end = isBlockDevice ? undefined : readBytes(bufferedFd, byteLength - BigInt(SIGNATURE_BYTES));
  const attributes = isBlockDevice ? {} : { fd };
  checkRaw({ start, end, isBlockDevice, byteLength, identity, ...attributes }, choice, log);
}

/** What can't be read is the guest's to find out: a device may have bad sectors. */
function readBytes(fd: number, offset: bigint): Uint8Array {
  const bytes = Buffer.alloc(SIGNATURE_BYTES);
  const count = readHere(fd, iovecOf(addressOf(bytes), bytes.length), 1, offset);
  return bytes.subarray(0, Math.max(count, 0));
}
