// A disk that is an object, as storage: checked, and with what a file would have had of itself.
import { SECTOR_SIZE, VIRTIO_BLK_ID_BYTES } from "../../assembly/spec/virtio-blk.ts";
import type { BlockDisk } from "../engines/block-disk.ts";
import type { ChangeGuard } from "../engines/change-guard.ts";
import { OBJECT_FD, ObjectEngine } from "../engines/objects.ts";
import { StartError } from "../errors.ts";
import { type Copying, copyingOfObject } from "./backup/copying.ts";
import {
  BLOCK_SIZE_MAX,
  type EnginesSetup,
  type Handover,
  type Inheritance,
  RANGE_BYTES_MAX,
  type Sizing,
  type Storage,
  type StorageEngines,
  type StorageFacts,
} from "./storage.ts";
import { enginesHere } from "./this-thread.ts";

const HERE_ALONE: Inheritance = {
  kind: "none",
  why: "is in this process's memory alone, so no other can go on with it",
};

/** An object that says nothing of its identity has none; one for all would have guests take two disks for one. */
const NO_SERIAL = "";

export interface ObjectStorageOptions {
  /** For messages and the log. */
  name: string;
  /** Whether the name is a path of this machine. */
  isPath?: boolean;
  /** Each of these over what the disk itself says. */
  readOnly?: boolean | undefined;
  blockSize?: number | undefined;
  serial?: string | undefined;
  discard?: "unmap" | "ignore" | undefined;
  /** Segments that one discard or write-zeroes request may have. Left out: 1. */
  rangeSegments?: number | undefined;
  overlay?: string | undefined;
  /** Left out: nobody else reaches what the object stores. */
  handover?: Handover | undefined;
  /** Left out: no other process can go on with it. */
  inheritance?: Inheritance | undefined;
}

export class ObjectStorage implements Storage {
  readonly facts: StorageFacts;
  readonly isLocal = true;
  readonly sizing: Sizing | string;
  readonly handover: Handover | undefined;
  readonly inheritance: Inheritance;
  readonly copying: Copying;
  private readonly guard: ChangeGuard = {};

  /** Takes the object, which is closed with the storage. Throws StartError if it can't be what it says, and leaves it open. */
  constructor(
    private readonly object: BlockDisk,
    {
      name,
      isPath = false,
      overlay,
      handover,
      inheritance = HERE_ALONE,
      rangeSegments = 1,
      ...options
    }: ObjectStorageOptions,
  ) {
    const blockSize = options.blockSize ?? object.blockSize ?? SECTOR_SIZE;
    const serial = options.serial ?? object.serial ?? NO_SERIAL;
    check(object, blockSize, serial, name);
    this.facts = {
      name,
      isPath,
      overlay,
      byteLength: object.byteLength,
      blockSize,
      readOnly: options.readOnly || object.readOnly || object.write === undefined,
      discard: options.discard ?? "unmap",
      rangeSegments,
      rangeBytesMax: RANGE_BYTES_MAX,
      serial,
      direct: false,
    };
    this.sizing = sizingOf(object, this.facts);
    this.handover = this.facts.readOnly ? undefined : handover;
    this.inheritance = inheritance;
    this.copying = copyingOfObject(object, this.guard);
  }

  openEngines({ onFailure }: EnginesSetup): StorageEngines {
    const { object, guard } = this;
    const { blockSize } = this.facts;
    return enginesHere(OBJECT_FD, (worker) => new ObjectEngine(worker, object, blockSize, onFailure, guard));
  }

  async close(): Promise<void> {
    await this.object.close?.();
  }
}

const IN_OVERLAY =
  "is served in an overlay, whose disk can't be resized: an overlay is made for a base of one size";
const AS_STARTED = "keeps the size that it was started with: start it anew with another one";

function sizingOf(object: BlockDisk, { overlay, blockSize }: StorageFacts): Sizing | string {
  if (overlay !== undefined) return IN_OVERLAY;
  if (object.measure === undefined) return AS_STARTED;
  return {
    async measure(mayShrink) {
      const byteLength = await object.measure!(mayShrink);
      return byteLength - (byteLength % BigInt(blockSize));
    },
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
