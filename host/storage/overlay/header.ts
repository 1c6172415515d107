// An overlay's header: what the file is, which base it lies over, and a commit under way. All numbers are little-endian.
//
//        0  the disk     a sector: 0 magic "VRINGDOV"   8 version u32   12 bytes a block u32   16 bytes of the disk u64
//                        24 where the working map, 32 the durable map and 40 the blocks begin: u64, from the file's start
//                        48 the base's time of last change u64, in ns since 1970; 0 where it has none
//                        56 which of the base's names counts u32: 1, 2, or 0 for none   60 CRC-32 of all before, u32
//      512  the commit   a sector: 0 its id, 16 bytes; all zeroes where none is under way
//                        16 the base's time of last change when it was interrupted u64, or 0   24 CRC-32 of all before, u32
//     1024  a name       0 its length u32   4 its CRC-32, u32   8 the base's name
//     2560  another name
//
// A change is one sector's, which reaches the medium whole. A name is stable before the sector of the disk says that it counts.
// Version 1 has neither names nor commits, and its CRC-32 at 56.
import { crc32 } from "node:zlib";
import { StartError } from "../../errors.ts";
import { bytesOfText, textOfBytes } from "../../process/paths.ts";
import type { ByteStore } from "../file/disk-file.ts";
import { BLOCK_BYTES, HEADER_BYTES, layoutOf } from "./format.ts";

const MAGIC = Buffer.from("VRINGDOV");
const VERSION = 2;
const UNNAMED_VERSION = 1;
const SECTOR_BYTES = 512;
const UNNAMED_CRC_POSITION = 56;
const NAME_CHOICE = 56;
const CRC_POSITION = 60;
const COMMIT_POSITION = 512;
const COMMIT_ID_BYTES = 16;
const COMMIT_CRC_POSITION = 24;
const NAME_POSITIONS = [1024, 2560] as const;
const NAME_HEAD_BYTES = 8;
const NAME_BYTES_MAX = 1536 - NAME_HEAD_BYTES;

/** Of the base, what tells it from another, and from itself after a change. */
export interface BaseIdentity {
  /** When it last changed, in ns since 1970; 0: not known. */
  baseChangedNs: bigint;
  /** As it can be opened from any directory. */
  baseName?: string | undefined;
}

/** Blocks are being written into the base, or were when that was interrupted. */
export interface Commit {
  /** Written on the base, too. */
  id: string;
  /** When the base last changed, in ns since 1970, once it was interrupted in good order; 0: not known. */
  baseChangedNs: bigint;
}

export interface OverlayHeader extends BaseIdentity {
  /** Of the disk, and so of its base. */
  byteLength: bigint;
  commit?: Commit | undefined;
}

export function encodeHeader(header: OverlayHeader): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  const name = encodeName(header.baseName);
  if (name !== undefined) bytes.set(name, NAME_POSITIONS[0]);
  bytes.set(encodeDisk(header, name === undefined ? 0 : 1));
  bytes.set(encodeCommit(header.commit), COMMIT_POSITION);
  return bytes;
}

/** Throws StartError for a file that is no overlay, or none that this version reads. */
export function decodeHeader(bytes: Buffer, path: string): OverlayHeader {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new StartError(`${path} is no overlay; name one, or a file that doesn't exist to have it made`);
  }
  const version = bytes.readUInt32LE(8);
  const crcPosition = version === UNNAMED_VERSION ? UNNAMED_CRC_POSITION : CRC_POSITION;
  const damaged = new StartError(`${path} is an overlay with a damaged header; restore it from a copy`);
  if (!isSound(bytes, crcPosition)) throw damaged;
  const found = { byteLength: bytes.readBigUInt64LE(16), baseChangedNs: bytes.readBigUInt64LE(48) };
  const isKnown = version === UNNAMED_VERSION || version === VERSION;
  const expected = encodeDisk(found, 0);
  if (!isKnown || !expected.subarray(12, NAME_CHOICE).equals(bytes.subarray(12, NAME_CHOICE))) {
    throw new StartError(`${path} is an overlay of version ${version}, which a later vringd may read`);
  }
  const commit = bytes.subarray(COMMIT_POSITION, COMMIT_POSITION + SECTOR_BYTES);
  if (commit.every((byte) => byte === 0)) return { ...found, baseName: decodeName(bytes) };
  if (!isSound(commit, COMMIT_CRC_POSITION)) throw damaged;
  return { ...found, baseName: decodeName(bytes), commit: decodeCommit(commit) };
}

export async function readHeader(storage: ByteStore, path: string): Promise<OverlayHeader> {
  const bytes = Buffer.alloc(HEADER_BYTES);
  await storage.read(0, [bytes]);
  return decodeHeader(bytes, path);
}

/** From now on the overlay is one of this base; of the former, if it is interrupted at any point before. It is stable then. */
export async function writeBase(storage: ByteStore, byteLength: bigint, base: BaseIdentity): Promise<void> {
  const bytes = Buffer.alloc(HEADER_BYTES);
  await storage.read(0, [bytes]);
  const name = encodeName(base.baseName);
  const next = name === undefined ? 0 : nameChoice(bytes) === 1 ? 2 : 1;
  if (name !== undefined) {
    await storage.write(NAME_POSITIONS[next - 1]!, [name]);
    await storage.sync();
  }
  await storage.write(0, [encodeDisk({ ...base, byteLength }, next)]);
  await storage.sync();
}

/** Undefined: none is under way. It is stable then. */
export async function writeCommit(storage: ByteStore, commit: Commit | undefined): Promise<void> {
  await storage.write(COMMIT_POSITION, [encodeCommit(commit)]);
  await storage.sync();
}

function encodeDisk({ byteLength, baseChangedNs }: OverlayHeader, choice: number): Buffer {
  const { workingMap, durableMap, blocks } = layoutOf(byteLength);
  const sector = Buffer.alloc(SECTOR_BYTES);
  MAGIC.copy(sector);
  sector.writeUInt32LE(VERSION, 8);
  sector.writeUInt32LE(BLOCK_BYTES, 12);
  sector.writeBigUInt64LE(byteLength, 16);
  sector.writeBigUInt64LE(BigInt(workingMap), 24);
  sector.writeBigUInt64LE(BigInt(durableMap), 32);
  sector.writeBigUInt64LE(BigInt(blocks), 40);
  sector.writeBigUInt64LE(baseChangedNs, 48);
  sector.writeUInt32LE(choice, NAME_CHOICE);
  sector.writeUInt32LE(crc32(sector.subarray(0, CRC_POSITION)), CRC_POSITION);
  return sector;
}

function encodeCommit(commit: Commit | undefined): Buffer {
  const sector = Buffer.alloc(SECTOR_BYTES);
  if (commit === undefined) return sector;
  sector.write(commit.id, "hex");
  sector.writeBigUInt64LE(commit.baseChangedNs, COMMIT_ID_BYTES);
  sector.writeUInt32LE(crc32(sector.subarray(0, COMMIT_CRC_POSITION)), COMMIT_CRC_POSITION);
  return sector;
}

function decodeCommit(sector: Buffer): Commit {
  return {
    id: sector.toString("hex", 0, COMMIT_ID_BYTES),
    baseChangedNs: sector.readBigUInt64LE(COMMIT_ID_BYTES),
  };
}

/** Undefined: there is none, or none that has room. */
function encodeName(name: string | undefined): Buffer | undefined {
  if (name === undefined) return undefined;
  const text = bytesOfText(name);
  if (text.length > NAME_BYTES_MAX) return undefined;
  const bytes = Buffer.alloc(NAME_HEAD_BYTES + text.length);
  bytes.writeUInt32LE(text.length);
  bytes.writeUInt32LE(crc32(text), 4);
  text.copy(bytes, NAME_HEAD_BYTES);
  return bytes;
}

function decodeName(header: Buffer): string | undefined {
  const position = NAME_POSITIONS[nameChoice(header) - 1];
  if (position === undefined) return undefined;
  const length = Math.min(header.readUInt32LE(position), NAME_BYTES_MAX);
  const start = position + NAME_HEAD_BYTES;
  const text = header.subarray(start, start + length);
  return crc32(text) === header.readUInt32LE(position + 4) ? textOfBytes(text) : undefined;
}

function nameChoice(header: Buffer): number {
  return header.readUInt32LE(8) === UNNAMED_VERSION ? 0 : header.readUInt32LE(NAME_CHOICE);
}

function isSound(bytes: Buffer, crcPosition: number): boolean {
  return bytes.readUInt32LE(crcPosition) === crc32(bytes.subarray(0, crcPosition));
}
