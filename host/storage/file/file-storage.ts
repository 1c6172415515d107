// A file or a block device as storage: opened, locked and measured, and then served by the kernel.
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import { StartError } from "../../errors.ts";
import { blockDeviceFacts } from "../../linux/block-device.ts";
import { Descriptor } from "../../linux/descriptor.ts";
import { directIoAlignment, readsSectors } from "../../linux/direct-io.ts";
import { truncate } from "../../linux/file-io.ts";
import { fileSize, S_IFBLK } from "../../linux/file-status.ts";
import { isInMemory } from "../../linux/file-system.ts";
import { iovecOf, readHere } from "../../linux/immediate-io.ts";
import { addressOf, SystemError } from "../../linux/libc.ts";
import { keepAccessTime, neverWaitsIfInMemory } from "../../linux/status-flags.ts";
import { choice } from "../../process/choices.ts";
import type { Log } from "../../process/log.ts";
import { type Copying, copyingOfFile } from "../backup/copying.ts";
import {
  type EnginesSetup,
  type Inheritance,
  type InheritedFile,
  RANGE_BYTES_MAX,
  type Sizing,
  type Storage,
  type StorageEngines,
  type StorageFacts,
} from "../storage.ts";
import { BounceBuffers } from "./bounce-buffers.ts";
import { halfCommitted, readCommitMark } from "./commit-mark.ts";
import type { RememberedDisk } from "./disk-record.ts";
import { FileHandover } from "./file-handover.ts";
import { SIGNATURE_BYTES } from "./format.ts";
import { type Identity, identityOf, serialFrom } from "./identity.ts";
import { lockUnlessUnsupported } from "./lock.ts";
import { closeImage, type ImageChoice, inheritedImage, type OpenImage, openImage } from "./open-file.ts";
import { checkRaw } from "./raw-check.ts";
import { recordServedRaw } from "./raw-record.ts";

export interface FileStorageOptions extends ImageChoice {
  /** What the guest sees. Left out: 512, whatever the medium has. */
  blockSize?: number | undefined;
  discard: "unmap" | "ignore";
  /** Left out: made from the file's or the device's identity. */
  serial?: string | undefined;
  /** "raw": whatever the image seems to hold. Left out: one of another format is refused. */
  format?: "raw" | undefined;
  /** Segments that one discard or write-zeroes request may have. */
  rangeSegments: number;
  /** It is beneath an overlay, which knows what a commit into it means. */
  isBase?: boolean | undefined;
  /** As a predecessor has opened it, which has checked it and has its lock. */
  inherited?: InheritedFile | undefined;
}

/**
 * Operations submitted at a time. The block layer holds larger submissions back until they are complete (its plug): with
 * 256 a turn, direct reads of 4 KiB from a disk at depth 32 reached 0.87 of qemu-storage-daemon's IOPS, with 4 they reach
 * 1.03. A file in memory has no block layer.
 */
const TURN_ON_BLOCK_LAYER = 4;
const TURN_IN_MEMORY = 16;

const DEVICE_COPY =
  "is a block device, which can't be copied while it is served; a disk in an overlay can, and so can a snapshot of the device (LVM)";

/** Where the kernel can't tell, this suits any file system. */
const DIRECT_ALIGNMENT_FALLBACK = 4096;

interface OpenedFile {
  fd: number;
  /** The same file through the page cache, for what O_DIRECT refuses; without O_DIRECT the same descriptor. */
  unalignedFd: number;
  /** Bits that O_DIRECT wants clear in addresses, offsets and lengths. */
  directMask: number;
  /** The file ends before the disk does: it is to be read as if zeroes followed, which the kernel doesn't do. */
  isPadded: boolean;
}

export class FileStorage implements Storage {
  readonly isLocal = false;
  readonly sizing: Sizing;
  readonly inheritance: Inheritance;
  readonly copying: Copying | string;

  private constructor(
    readonly facts: StorageFacts,
    readonly file: Readonly<OpenedFile>,
    private readonly image: OpenImage,
    private readonly identity: Identity,
    /** Readers share the file. */
    readonly handover: FileHandover | undefined,
    isLocking: boolean,
  ) {
    this.sizing = sizingOf(image, facts, identity);
    this.copying = image.status.type === S_IFBLK ? DEVICE_COPY : copyingOfFile(facts.name, image.bufferedFd);
    this.inheritance = {
      kind: "descriptors",
      offer: () => ({
        image: new Descriptor(image.fd),
        buffered: new Descriptor(image.bufferedFd),
        isAdopted: image.isAdopted,
        isLocking: handover?.hasLock ?? isLocking,
        serial: facts.serial,
      }),
    };
  }

  /** `stopping` ends a wait for the image's lock. Throws StartError, with nothing left open. */
  static async open(options: FileStorageOptions, stopping: AbortSignal, log: Log): Promise<FileStorage> {
    const { path, readOnly, direct, inherited, blockSize = SECTOR_SIZE } = options;
    const image = inherited ? inheritedImage(inherited) : await openImage(options, stopping, log);
    try {
      const fds = [...new Set([image.fd, image.bufferedFd])];
      fds.forEach(keepAccessTime);
      fds.forEach(neverWaitsIfInMemory);
      const isLater = options.incoming && !readOnly;
      const isLocking =
        inherited?.isLocking ??
        (options.lock === "auto" && (isLater || (await lockUnlessUnsupported(fds, options, stopping, log))));
      const fileLength = byteLengthOf(image);
      const identity = identityOf(image.fd);
      // By now a guest may have written what an image of another format begins with.
      if (!inherited) checkImage(image, fileLength, identity, options, log);
      const mark = readCommitMark(rememberedAs(image, identity));
      if (mark !== undefined && !options.isBase) throw halfCommitted(path, mark);
      const byteLength = servedLength(path, fileLength, blockSize, readOnly, log);
      const alignment = direct ? Math.max(directAlignment(image), SECTOR_SIZE) : 1;
      const isDirect = direct && alignment <= blockSize;
      if (direct && !isDirect) tellNotDirect(path, alignment, log);
      const facts = {
        name: path,
        isPath: !/^fd:\d+$/.test(path),
        byteLength,
        blockSize,
        readOnly,
        discard: options.discard,
        rangeSegments: options.rangeSegments,
        rangeBytesMax: RANGE_BYTES_MAX,
        serial: inherited?.serial ?? options.serial ?? serialFrom(identity.parts),
        direct: isDirect,
      };
      const file = {
        fd: isDirect ? image.fd : image.bufferedFd,
        unalignedFd: image.bufferedFd,
        directMask: isDirect ? alignment - 1 : 0,
        isPadded: byteLength > fileLength,
      };
      const isIncoming = options.incoming && !inherited;
      const handover = readOnly
        ? undefined
        : new FileHandover(image, { ...options, incoming: isIncoming }, isLocking, log);
      return new FileStorage(facts, file, image, identity, handover, isLocking);
    } catch (error) {
      closeImage(image);
      throw error;
    }
  }

  /** As what others remember it. */
  get remembered(): RememberedDisk {
    return rememberedAs(this.image, this.identity);
  }

  openEngines({ memory, workerCount, engine }: EnginesSetup): StorageEngines {
    const { fd, unalignedFd, directMask } = this.file;
    const bounce = directMask === 0 ? undefined : BounceBuffers.open(memory, workerCount);
    const fds = [fd, unalignedFd, ...(bounce ? [bounce.fd] : [])];
    const form = {
      fd,
      unalignedFd,
      directMask,
      bounceFd: bounce?.fd,
      marksDiscards: false,
      keepsAccount: false,
      turnRequests: isInMemory(fd) ? TURN_IN_MEMORY : TURN_ON_BLOCK_LAYER,
    };
    return {
      recipe: { place: "own-threads", fds, engine },
      form,
      tellsFailures: false,
      close: () => bounce?.close(),
    };
  }

  async close(): Promise<void> {
    closeImage(this.image);
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
  const advice = `give the guest such blocks with ${choice("blockSize", alignment)} to serve it past the page cache`;
  log.warn(
    { file, alignment, advice },
    "O_DIRECT takes no blocks as small as the guest's: served through the page cache",
  );
}

/** Of a device, and of what is only read, the size is somebody else's to change. */
function sizingOf(image: OpenImage, { blockSize, readOnly }: StorageFacts, identity: Identity): Sizing {
  const look = () => {
    const byteLength = byteLengthOf(image);
    return byteLength - (byteLength % BigInt(blockSize));
  };
  const measure = async () => look();
  if (readOnly) return { measure, look };
  const isBlockDevice = image.status.type === S_IFBLK;
  // What is served raw is known by its size, too: a guest may by now have written what another format begins with.
  const taken = () =>
    void recordServedRaw({ byteLength: byteLengthOf(image), ...rememberedAs(image, identity) });
  if (isBlockDevice) return { measure, look, taken };
  return { measure, look, taken, set: (byteLength) => setSize(image.fd, byteLength) };
}

async function setSize(fd: number, byteLength: bigint): Promise<void> {
  const result = await truncate(fd, byteLength);
  if (result < 0) throw new SystemError("ftruncate", -result);
}

function byteLengthOf({ fd, status }: OpenImage): bigint {
  return status.type === S_IFBLK ? blockDeviceFacts(fd).byteLength : fileSize(fd);
}

/** The disk's size: whole blocks. What is only read may have its last block filled with zeroes. */
function servedLength(
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
  image: OpenImage,
  byteLength: bigint,
  identity: Identity,
  options: FileStorageOptions,
  log: Log,
): void {
  const { bufferedFd, status } = image;
  const isBlockDevice = status.type === S_IFBLK;
  const start = readBytes(bufferedFd, 0n);
  // The end of a device is seldom that of an image on it.
  const end = isBlockDevice ? undefined : readBytes(bufferedFd, byteLength - BigInt(SIGNATURE_BYTES));
  checkRaw({ start, end, isBlockDevice, byteLength, ...rememberedAs(image, identity) }, options, log);
}

/** A device has no attributes, but its node may. */
function rememberedAs({ fd, status }: OpenImage, identity: Identity): RememberedDisk {
  return status.type === S_IFBLK ? { identity } : { identity, fd };
}

/** What can't be read is the guest's to find out: a device may have bad sectors. */
function readBytes(fd: number, offset: bigint): Uint8Array {
  const bytes = Buffer.alloc(SIGNATURE_BYTES);
  const count = readHere(fd, iovecOf(addressOf(bytes), bytes.length), 1, offset);
  return bytes.subarray(0, Math.max(count, 0));
}
