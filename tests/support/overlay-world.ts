// An overlay and bases as stores of bytes, with all that the host would know of a base's file: when it changed, and its mark.
import assert from "node:assert/strict";
import type { BlockDisk } from "../../host/engines/block-disk.ts";
import type { ByteStore } from "../../host/storage/file/disk-file.ts";
import type { BaseFacts } from "../../host/storage/overlay/base.ts";
import type { CommitTarget } from "../../host/storage/overlay/commit.ts";
import { encodeSession, layoutOf, SESSION_POSITION } from "../../host/storage/overlay/format.ts";
import { encodeHeader, type OverlayHeader, readHeader } from "../../host/storage/overlay/header.ts";
import { OverlayDisk } from "../../host/storage/overlay/overlay-disk.ts";
import { type Contents, RecordedStores } from "./recorded-stores.ts";

export const SECTOR = 512;
export const BLOCK_SECTORS = 8;
/** Of blocks whole, and of one that is not. */
export const SECTORS = 5 * BLOCK_SECTORS + 3;
export const BYTES = SECTORS * SECTOR;
export const BOOT = "first";
export const NEXT_BOOT = "second";

const byteLength = BigInt(BYTES);
const layout = layoutOf(byteLength);
/** Behind a base's data: its time of last change, and its mark. */
const CHANGED = BYTES;
const MARK = BYTES + SECTOR;
const ID_BYTES = 16;

/** A base whose sectors hold these numbers. */
export function baseContents(values: readonly number[], changed: number): Uint8Array {
  const contents = Buffer.alloc(BYTES + 2 * SECTOR);
  contents.set(sectorsOf(values));
  contents.writeBigUInt64LE(BigInt(changed), CHANGED);
  return new Uint8Array(contents);
}

/** An overlay over `base`, which has these sectors' blocks, stable. */
export function overlayContents(
  base: Uint8Array,
  baseName: string,
  own: ReadonlyMap<number, number[]>,
): Uint8Array {
  const contents = new Uint8Array(layout.fileBytes);
  contents.set(encodeHeader({ byteLength, baseChangedNs: factsIn(base).changedNs, baseName }));
  contents.set(encodeSession(BOOT), SESSION_POSITION);
  for (const [block, values] of own) {
    contents[layout.workingMap]! |= 1 << block;
    contents[layout.durableMap]! |= 1 << block;
    contents.set(sectorsOf(values), layout.blocks + block * BLOCK_SECTORS * SECTOR);
  }
  return contents;
}

/** One life of it all. */
export class OverlayWorld {
  readonly stores: RecordedStores;

  constructor(
    contents: Contents,
    readonly bootId: string,
  ) {
    this.stores = new RecordedStores(contents);
  }

  get overlay(): ByteStore {
    return this.stores.store("overlay");
  }

  header(): Promise<OverlayHeader> {
    return readHeader(this.overlay, "the overlay");
  }

  facts(base: string): BaseFacts {
    return factsIn(this.stores.contents()[base]!);
  }

  base(name: string): BlockDisk {
    const store = this.stores.store(name);
    return { byteLength, readOnly: true, read: (offset, buffers) => store.read(Number(offset), buffers) };
  }

  disk(base: string): Promise<OverlayDisk> {
    return OverlayDisk.over({
      base: this.base(base),
      storage: this.overlay,
      bootId: this.bootId,
      readOnly: false,
    });
  }

  /** As the kernel has it: the time comes before the bytes, and every write has one of its own. */
  target(name: string): CommitTarget {
    const store = this.stores.store(name);
    const touch = async () => {
      const changed = Buffer.alloc(8);
      changed.writeBigUInt64LE(this.facts(name).changedNs + 1n);
      await store.write(CHANGED, [changed]);
    };
    return {
      async write(position, bytes) {
        await touch();
        await store.write(position, [bytes]);
      },
      async punch(position, length) {
        await touch();
        await store.punch(position, length);
      },
      settle: async () => {
        await store.sync();
        return this.facts(name).changedNs;
      },
      async mark(id) {
        await store.write(MARK, [Buffer.from((id ?? "").padEnd(2 * ID_BYTES, "0"), "hex")]);
        await store.sync();
      },
    };
  }
}

function factsIn(contents: Uint8Array): BaseFacts {
  const bytes = Buffer.from(contents);
  const id = bytes.toString("hex", MARK, MARK + ID_BYTES);
  const mark = /^0+$/.test(id) ? undefined : { id };
  return { byteLength, changedNs: bytes.readBigUInt64LE(CHANGED), mark };
}

export function sectorsOf(values: readonly number[]): Uint8Array {
  const words = new Uint32Array((values.length * SECTOR) / 4);
  values.forEach((value, i) => {
    words.fill(value, (i * SECTOR) / 4, ((i + 1) * SECTOR) / 4);
  });
  return new Uint8Array(words.buffer);
}

/** The number that each sector holds as a whole. */
export function valuesOf(bytes: Uint8Array): number[] {
  const words = new Uint32Array(bytes.slice(0, BYTES).buffer);
  return Array.from({ length: SECTORS }, (_, sector) => {
    const own = words.subarray((sector * SECTOR) / 4, ((sector + 1) * SECTOR) / 4);
    assert.ok(
      own.every((word) => word === own[0]),
      `sector ${sector} is a mixture`,
    );
    return own[0]!;
  });
}

export async function shownBy(disk: BlockDisk): Promise<number[]> {
  const bytes = new Uint8Array(BYTES);
  await disk.read(0n, [bytes]);
  return valuesOf(bytes);
}
