// The file of an overlay: where its parts lie, and what its header says. All numbers are little-endian.
//
//        0  header      4096 bytes, written once:
//                        0 magic "VRINGDOV"   8 version u32   12 bytes a block u32   16 bytes of the disk u64
//                       24 where the working map, 32 the durable map and 40 the blocks begin: u64, from the file's start
//                       48 the base's time of last change u64, in ns since 1970; 0 where it has none   56 CRC-32 of all before, u32
//     4096  session     4096 bytes: the boot id of the kernel under which the working map was written; its CRC-32 at 64, u32
//     8192  working map   a bit a block, lowest bit first: set where the block is in this file; in whole 4096 bytes
//           durable map   the same, as of the last flush
//           blocks        each where it lies on the disk, in a sparse file
//
// A write stores the block, then sets its bit in the working map: enough for a process that dies, since the kernel keeps
// both. A machine that dies may have kept one without the other. So a flush makes the blocks stable before it sets their
// bits in the durable map; and the working map counts only under the kernel that it was written under.
import { readFileSync } from "node:fs";
import { crc32 } from "node:zlib";
import { StartError } from "../../errors.ts";

export const BLOCK_BYTES = 4096;
/** Parts of a map are written as one: so much of it at a time. */
export const MAP_PAGE_BYTES = 4096;
export const HEADER_BYTES = 4096;
export const SESSION_POSITION = 4096;
export const SESSION_BYTES = 4096;
const MAPS_POSITION = 8192;

const MAGIC = Buffer.from("VRINGDOV");
const VERSION = 1;
const CRC_POSITION = 56;
const SESSION_CRC_POSITION = 64;

export interface OverlayHeader {
  /** Of the disk, and so of its base. */
  byteLength: bigint;
  /** When the base last changed, in ns since 1970; 0: not known. */
  baseChangedNs: bigint;
}

/** Positions in bytes. */
export interface OverlayLayout {
  mapBytes: number;
  workingMap: number;
  durableMap: number;
  blocks: number;
  fileBytes: number;
}

export function layoutOf(byteLength: bigint): OverlayLayout {
  const blockCount = Math.ceil(Number(byteLength) / BLOCK_BYTES);
  const mapBytes = Math.ceil(blockCount / 8 / MAP_PAGE_BYTES) * MAP_PAGE_BYTES;
  const durableMap = MAPS_POSITION + mapBytes;
  const blocks = durableMap + mapBytes;
  return {
    mapBytes,
    workingMap: MAPS_POSITION,
    durableMap,
    blocks,
    fileBytes: blocks + Number(byteLength),
  };
}

export function encodeHeader({ byteLength, baseChangedNs }: OverlayHeader): Buffer {
  const { workingMap, durableMap, blocks } = layoutOf(byteLength);
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(VERSION, 8);
  header.writeUInt32LE(BLOCK_BYTES, 12);
  header.writeBigUInt64LE(byteLength, 16);
  header.writeBigUInt64LE(BigInt(workingMap), 24);
  header.writeBigUInt64LE(BigInt(durableMap), 32);
  header.writeBigUInt64LE(BigInt(blocks), 40);
  header.writeBigUInt64LE(baseChangedNs, 48);
  header.writeUInt32LE(crc32(header.subarray(0, CRC_POSITION)), CRC_POSITION);
  return header;
}

/** Throws StartError for a file that is no overlay, or none that this version reads. */
export function decodeHeader(header: Buffer, path: string): OverlayHeader {
  if (!header.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new StartError(`${path} is no overlay; name one, or a file that doesn't exist to have it made`);
  }
  if (header.readUInt32LE(CRC_POSITION) !== crc32(header.subarray(0, CRC_POSITION))) {
    throw new StartError(`${path} is an overlay with a damaged header; restore it from a copy`);
  }
  const version = header.readUInt32LE(8);
  const found = { byteLength: header.readBigUInt64LE(16), baseChangedNs: header.readBigUInt64LE(48) };
  if (version !== VERSION || !encodeHeader(found).equals(header)) {
    throw new StartError(`${path} is an overlay of version ${version}, which a later vringd may read`);
  }
  return found;
}

export function encodeSession(bootId: string): Buffer {
  const session = Buffer.alloc(SESSION_BYTES);
  session.write(bootId, "latin1");
  session.writeUInt32LE(crc32(session.subarray(0, SESSION_CRC_POSITION)), SESSION_CRC_POSITION);
  return session;
}

/** Changes with every start of the kernel. */
export function currentBootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
}
