// The file or block device behind the virtual disk: opened, locked and measured. It knows nothing of rings.
import { closeSync, constants, fstatSync, openSync, type Stats, statSync } from "node:fs";
import { basename } from "node:path";
import { SECTOR_SIZE, VIRTIO_BLK_ID_BYTES } from "../../assembly/spec/virtio-blk.ts";
import type { BlockDisk } from "../disk/block-disk.ts";
import { reasonOf, StartError } from "../errors.ts";
import { blockDeviceGeometry } from "../linux/block-device.ts";
import { directIoAlignment } from "../linux/direct-io.ts";
import { SystemError } from "../linux/libc.ts";
import { keepAccessTime, neverWaitsIfInMemory } from "../linux/status-flags.ts";
import type { Log } from "../log.ts";
import { lockImage } from "./image-lock.ts";

export interface DiskOptions {
  path: string;
  readOnly: boolean;
  /** Past the page cache, with O_DIRECT. */
  direct: boolean;
  /** Left out: what the file itself needs. */
  blockSize?: number | undefined;
  discard: "unmap" | "ignore";
  /** Left out: the file's name. */
  serial?: string | undefined;
  /** Segments that one discard or write-zeroes request may have. */
  rangeSegments: number;
  lock: "auto" | "off";
  lockTimeoutMs: number;
}

/** What a file's size and nature say of the disk, in bytes. */
interface Geometry {
  byteLength: bigint;
  /** The least that I/O can address. */
  blockSize: number;
  /** The least that the storage writes without reading first. */
  physicalBlockSize: number;
  minimumIoSize: number;
  /** 0: no preference. */
  optimalIoSize: number;
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
    readonly physicalBlockSize: number,
    readonly minimumIoSize: number,
    readonly optimalIoSize: number,
    /** Bits that O_DIRECT wants clear in addresses, offsets and lengths. */
    readonly directMask: number,
    readonly readOnly: boolean,
    readonly discardUnmaps: boolean,
    readonly maxRanges: number,
    readonly serial: string,
  ) {}

  /** `stopping` ends a wait for the image's lock. */
  static async open(options: DiskOptions, stopping: AbortSignal, log: Log): Promise<Disk> {
    const { path } = options;
    const stats = checkedStat(path);
    const fds = openAll(options);
    try {
      fds.forEach(keepAccessTime);
      fds.forEach(neverWaitsIfInMemory);
      if (options.lock === "auto") await lockUnlessUnsupported(fds, options, stopping, log);
      const fd = fds[0]!;
      const alignment = options.direct ? directAlignment(fd, stats) : 1;
      const geometry = stats.isBlockDevice() ? deviceGeometry(fd) : fileGeometry(fd);
      const blockSize =
        options.blockSize ?? Math.min(Math.max(geometry.blockSize, alignment, SECTOR_SIZE), BLOCK_SIZE_MAX);
      checkSize(path, geometry.byteLength, blockSize);
      return new Disk(
        path,
        fd,
        fds[1] ?? fd,
        geometry.byteLength / BigInt(SECTOR_SIZE),
        blockSize,
        Math.max(geometry.physicalBlockSize, blockSize),
        Math.max(geometry.minimumIoSize, blockSize),
        geometry.optimalIoSize,
        alignment - 1,
        options.readOnly,
        options.discard === "unmap",
        options.rangeSegments,
        options.serial ?? serialOf(path),
      );
    } catch (error) {
      fds.forEach(closeSync);
      throw error;
    }
  }

  /** Closing lets go of the lock, once the last request in the kernel has finished. */
  close(): void | Promise<void> {
    closeSync(this.fd);
    if (this.unalignedFd !== this.fd) closeSync(this.unalignedFd);
  }
}

// Asked before opening: to open a pipe would wait for its other end.
function checkedStat(path: string): Stats {
  const stats = attempt(`can't open ${path}`, () => statSync(path));
  if (stats.isDirectory())
    throw new StartError(`${path} is a directory; --blk-file takes a file or a block device`);
  if (!stats.isFile() && !stats.isBlockDevice()) {
    throw new StartError(`${path} is neither a file nor a block device`);
  }
  return stats;
}

function openAll({ path, readOnly, direct }: DiskOptions): number[] {
  const access = readOnly ? constants.O_RDONLY : constants.O_RDWR;
  if (!direct) return [openFile(path, access)];
  const fd = openFile(path, access | constants.O_DIRECT);
  // By descriptor: the path may have come to name another file.
  return [fd, openSync(`/proc/self/fd/${fd}`, access)];
}

function openFile(path: string, flags: number): number {
  try {
    return openSync(path, flags);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const isDirect = (flags & constants.O_DIRECT) !== 0;
    const isWriting = (flags & constants.O_RDWR) !== 0;
    if (isDirect && code === "EINVAL") {
      throw new StartError(`can't open ${path}: its file system has no O_DIRECT, so leave out --direct`);
    }
    if (isWriting && (code === "EACCES" || code === "EPERM" || code === "EROFS")) {
      throw new StartError(`can't open ${path} for writing: ${reasonOf(error)}; --read-only may serve it`);
    }
    throw new StartError(`can't open ${path}: ${reasonOf(error)}`);
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

function directAlignment(fd: number, stats: Stats): number {
  const known = directIoAlignment(fd);
  if (known !== undefined) return known;
  return stats.isBlockDevice() ? blockDeviceGeometry(fd).logicalBlockSize : DIRECT_ALIGNMENT_FALLBACK;
}

function deviceGeometry(fd: number): Geometry {
  const geometry = blockDeviceGeometry(fd);
  return { ...geometry, blockSize: geometry.logicalBlockSize };
}

/** A file takes I/O of any size, but its file system allocates and caches by blocks. */
function fileGeometry(fd: number): Geometry {
  const { size, blksize } = fstatSync(fd, { bigint: true });
  const blockSize = Math.min(Number(blksize), BLOCK_SIZE_MAX);
  return {
    byteLength: size,
    blockSize: SECTOR_SIZE,
    physicalBlockSize: blockSize,
    minimumIoSize: blockSize,
    optimalIoSize: 0,
  };
}

function checkSize(path: string, byteLength: bigint, blockSize: number): void {
  if (byteLength === 0n)
    throw new StartError(`${path} is empty; give it a size first, as with truncate -s 10G`);
  if (byteLength % BigInt(blockSize) !== 0n) {
    throw new StartError(
      `${path} has ${byteLength} bytes, which is not a multiple of its block size, ${blockSize}`,
    );
  }
}

/** What fits the ID string (virtio 1.4, 5.2.6): printable ASCII, 20 bytes. */
export function serialOf(path: string): string {
  const name = basename(path).replace(/[^\x21-\x7e]/g, "");
  return name.slice(0, VIRTIO_BLK_ID_BYTES) || "vringd";
}

function attempt<T>(what: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw new StartError(`${what}: ${reasonOf(error)}`);
  }
}
