// The file of an overlay: where its parts lie, and what its header says. All numbers are little-endian.
//
//        0  header      4096 bytes: what the file is, of which base, and a commit under way: header.ts
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

export const BLOCK_BYTES = 4096;
/** Parts of a map are written as one: so much of it at a time. */
export const MAP_PAGE_BYTES = 4096;
export const HEADER_BYTES = 4096;
export const SESSION_POSITION = 4096;
export const SESSION_BYTES = 4096;
const MAPS_POSITION = 8192;

const SESSION_CRC_POSITION = 64;

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
