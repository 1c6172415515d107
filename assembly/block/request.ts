// One request in flight: what was read of its chain, and how far it has come. Its table holds I/O vectors of a transfer, or
// the ranges of a discard or write zeroes.
import { REQUEST_STRIDE } from "../abi/layout.ts";
import { Slot } from "../io/slots.ts";
import { BLK_HEADER_SIZE, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES } from "../spec/virtio-blk.ts";

/** In place of a status byte. The chain has no place for a header or a status byte: it is used with length 0. */
export const NO_STATUS = -0x110;

/** What the operation that is in flight does. */
export const STAGE_TRANSFER: u32 = 1;
export const STAGE_FLUSH: u32 = 2;
export const STAGE_RANGE: u32 = 3;
export const STAGE_ZEROES: u32 = 4;
export const STAGE_BOUNCE_COPY: u32 = 5;
export const STAGE_BOUNCE_MOVE: u32 = 6;

export const SYNC_NONE: u32 = 0;
export const SYNC_ASKED: u32 = 1;
/** A stable write has failed; the same is written once more without that, to learn what failed. */
export const SYNC_DOUBTED: u32 = 2;

@unmanaged
export class Request extends Slot {
  /** struct virtio_blk_req up to its data, copied from the guest. */
  type: u32;
  reserved: u32;
  sector: u64;

  headerBytes: u32;
  /** Device-readable bytes behind the header; device-writable bytes, the status included. */
  outBytes: u64;
  inBytes: u64;
  statusGpa: u64;
  /** What the driver is told was written, beside the status. */
  writtenBytes: u64;
  /** How it ends, once it has. */
  status: i32;
  /** The host writes the ID, or part of it. */
  isIdDeferred: u32;

  stage: u32;
  retries: u32;
  /** SYNC_*: whether the transfer in flight is to be stable when it completes. */
  sync: u32;
  /** Where the sync in flight is counted (overlaps.ts), and since when the request waits for others; it does if isHeld. */
  syncCount: u32;
  heldSince: u32;
  isHeld: u32;
  fileOffset: u64;
  remaining: u64;

  /** Data that found no vector. */
  overflowBytes: u64;
  /** What of a transfer is in the request's bounce buffer, or on the way there, in bytes. */
  bounceLength: u32;
  /** A vector that was cut short to fit there, or 0, and how long it was. */
  cutVector: usize;
  cutLength: u64;
  rangeIndex: u32;
  rangeCount: u32;
}
if (<i32>offsetof<Request>() > REQUEST_STRIDE) ERROR("Request");

export function hasHeader(request: Request): bool {
  return request.headerBytes === BLK_HEADER_SIZE;
}

/** A discard or write zeroes: its data are ranges. */
export function isRanges(request: Request): bool {
  return request.type === VIRTIO_BLK_T_DISCARD || request.type === VIRTIO_BLK_T_WRITE_ZEROES;
}

/** Counts what an operation has moved. False if that is nothing: the image has become shorter than it was, or full. */
export function countMoved(request: Request, result: i32): bool {
  if (result <= 0 || <u64>result > request.remaining) return false;
  request.fileOffset += result;
  request.remaining -= result;
  return true;
}
