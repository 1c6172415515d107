// An NBD export as a disk: what it can do, and requests cut to sizes that the server takes.
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import type { BlockDisk } from "../../engines/block-disk.ts";
import { StartError } from "../../errors.ts";
import { choice } from "../../process/choices.ts";
import { lengthOf, slice } from "../buffers.ts";
import { NbdClient, type NbdLog } from "./client.ts";
import { ConnectionError } from "./errors.ts";
import type { ExportInfo } from "./handshake.ts";
import {
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
  NO_MAXIMUM,
  PAYLOAD_MAX,
} from "./protocol.ts";
import { NbdRequest } from "./request.ts";
import { tlsOptionsOf } from "./tls.ts";
import { type NbdTarget, parseNbdUri } from "./uri.ts";

export interface NbdOptions {
  readOnly: boolean;
  log: NbdLog;
  /** Ends the start. */
  stopping?: AbortSignal;
}

const BLOCK_SIZE_MAX = 4096;
/** A discard without a maximum of the server's. Lengths have 32 bits. */
const RANGE_MAX = 1 << 30;

/** Connects and negotiates. Rejects with a StartError: what is wrong, and what would help. */
export async function openNbdDisk(uri: string, options: NbdOptions): Promise<BlockDisk> {
  const target = parseNbdUri(uri);
  const { log, stopping = new AbortController().signal } = options;
  const client = await NbdClient.open(target, tlsOptionsOf(target), log, stopping).catch((error) => {
    if (!(error instanceof ConnectionError)) throw error;
    throw new StartError(`can't use ${uri}: ${error.message}`);
  });
  try {
    checkExport(target, client.info, options.readOnly);
    const byteLength = servedLength(client.info, options.readOnly);
    if (byteLength === 0n)
      throw new StartError(
        `can't use ${uri}: the export has only ${client.info.byteLength} bytes, less than a block`,
      );
    if (byteLength !== client.info.byteLength) tellLength(target, client.info, byteLength, log);
    return diskOf(client, byteLength, options.readOnly);
  } catch (error) {
    await client.close();
    throw error;
  }
}

function checkExport({ uri }: NbdTarget, info: ExportInfo, readOnly: boolean): void {
  const { byteLength, flags, minimumBlock } = info;
  if (byteLength === 0n) throw new StartError(`can't use ${uri}: the export is empty`);
  if (minimumBlock > BLOCK_SIZE_MAX) {
    throw new StartError(
      `can't use ${uri}: the server wants blocks of ${minimumBlock} bytes, a guest's have ${BLOCK_SIZE_MAX} at most`,
    );
  }
  if (flags & NBD_FLAG_READ_ONLY && !readOnly)
    throw new StartError(
      `can't write to ${uri}: the server exports it read-only; ${choice("readOnly")} may serve it`,
    );
}

/**
 * In whole blocks. What is only read may end with zeroes that the export doesn't have, so that the end of an ISO or squashfs
 * image is there; what is written may not. Nor can an end be read that is less than the server's own block.
 */
function servedLength(info: ExportInfo, readOnly: boolean): bigint {
  const blockSize = BigInt(blockSizeOf(info));
  const rest = info.byteLength % blockSize;
  if (rest === 0n) return info.byteLength;
  const isPadded = readOnly && rest % BigInt(info.minimumBlock) === 0n;
  return info.byteLength - rest + (isPadded ? blockSize : 0n);
}

function tellLength({ uri }: NbdTarget, { byteLength }: ExportInfo, served: bigint, log: NbdLog): void {
  const how = served > byteLength ? "zeroes follow its end" : "its end is left out";
  log.warn(
    { uri, bytes: Number(byteLength), served: Number(served) },
    `the export's size is no multiple of a block: ${how}`,
  );
}

function blockSizeOf({ minimumBlock }: ExportInfo): number {
  return Math.max(minimumBlock, SECTOR_SIZE);
}

async function measured(client: NbdClient, mayShrink: boolean): Promise<bigint> {
  try {
    return await client.measure(mayShrink);
  } catch (error) {
    if (!(error instanceof ConnectionError)) throw error;
    throw new RangeError(
      `the NBD server tells no size anew, which takes a second connection: ${error.message}; start the daemon anew for another size`,
    );
  }
}

/** "The client MUST NOT use a feature documented as 'exposed' by a flag unless that flag was set": such methods are left out. */
function diskOf(client: NbdClient, byteLength: bigint, readOnly: boolean): BlockDisk {
  const { info } = client;
  const { flags } = info;
  const has = (flag: number) => (flags & flag) !== 0;
  const pieces = new Pieces(client, info);
  // Without a flush, the only way to make a write stable.
  const fua = !has(NBD_FLAG_SEND_FLUSH) && has(NBD_FLAG_SEND_FUA) ? NBD_CMD_FLAG_FUA : 0;
  return {
    byteLength,
    blockSize: blockSizeOf(info),
    readOnly,
    read: (offset, buffers) => pieces.read(offset, buffers),
    ...(!readOnly && {
      write: (offset, buffers) => pieces.transfer(NBD_CMD_WRITE, fua, offset, buffers),
      ...(has(NBD_FLAG_SEND_FLUSH) && { flush: () => client.flush() }),
      ...(has(NBD_FLAG_SEND_TRIM) && {
        discard: (offset, length) => pieces.range(NBD_CMD_TRIM, fua, offset, length),
      }),
      ...(has(NBD_FLAG_SEND_WRITE_ZEROES) && {
        writeZeroes: (offset, length, mayUnmap) =>
          pieces.range(NBD_CMD_WRITE_ZEROES, fua | (mayUnmap ? 0 : NBD_CMD_FLAG_NO_HOLE), offset, length),
      }),
    }),
    measure: async (mayShrink) =>
      servedLength({ ...info, byteLength: await measured(client, mayShrink) }, readOnly),
    close: () => client.close(),
  };
}

/** Sends requests in pieces that are not larger than the server's maximum ("Block size constraints"). */
class Pieces {
  private readonly payloadMax: number;
  private readonly rangeMax: number;

  constructor(
    private readonly client: NbdClient,
    { minimumBlock, maximumBlock }: ExportInfo,
  ) {
    const blockSize = Math.max(minimumBlock, SECTOR_SIZE);
    const most = (limit: number) => Math.max(limit - (limit % blockSize), blockSize);
    this.payloadMax = most(Math.min(maximumBlock, PAYLOAD_MAX));
    this.rangeMax = maximumBlock === NO_MAXIMUM ? RANGE_MAX : most(Math.min(maximumBlock, RANGE_MAX));
  }

  read(offset: bigint, buffers: readonly Uint8Array[]): Promise<void> {
    const byteLength = lengthOf(buffers);
    const there = Math.min(byteLength, Math.max(Number(this.client.info.byteLength - offset), 0));
    if (there === byteLength) return this.transfer(NBD_CMD_READ, 0, offset, buffers);
    for (const buffer of slice(buffers, there, byteLength)) buffer.fill(0);
    return this.transfer(NBD_CMD_READ, 0, offset, slice(buffers, 0, there));
  }

  transfer(type: number, flags: number, offset: bigint, buffers: readonly Uint8Array[]): Promise<void> {
    const byteLength = lengthOf(buffers);
    if (byteLength === 0) return Promise.resolve();
    if (byteLength <= this.payloadMax)
      return this.client.request(new NbdRequest(type, flags, offset, byteLength, buffers));
    const answers: Promise<void>[] = [];
    for (let at = 0; at < byteLength; at += this.payloadMax) {
      const length = Math.min(this.payloadMax, byteLength - at);
      const piece = new NbdRequest(type, flags, offset + BigInt(at), length, slice(buffers, at, at + length));
      answers.push(this.client.request(piece));
    }
    return allSettled(answers);
  }

  range(type: number, flags: number, offset: bigint, byteLength: bigint): Promise<void> {
    const answers: Promise<void>[] = [];
    const most = BigInt(this.rangeMax);
    for (let at = 0n; at < byteLength; at += most) {
      const length = Number(byteLength - at < most ? byteLength - at : most);
      answers.push(this.client.request(new NbdRequest(type, flags, offset + at, length)));
    }
    return allSettled(answers);
  }
}

/** Waits for all, whatever becomes of one: as long as a piece is under way, its memory is in use. */
async function allSettled(answers: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(answers)) {
    if (result.status === "rejected") throw result.reason;
  }
}
