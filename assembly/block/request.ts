// One request in flight: what was read of its chain, and how far it has come.
import { REQUEST_STRIDE } from "../abi/layout.ts";
import { BLK_HEADER_SIZE, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES } from "../spec/virtio-blk.ts";
import { Chain, Virtqueue } from "../virtqueue/state.ts";

/** The request goes on: its next operation has been submitted. Other results are status bytes. */
export const SUBMITTED = -1;
/** The chain has no place for a header or a status byte: it is used with length 0. */
export const NO_STATUS = -2;

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
export class Request extends Chain {
  /** struct virtio_blk_req up to its data, copied from the guest. */
  type: u32;
  reserved: u32;
  sector: u64;

  queue: Virtqueue;
  /** The next free request, while this one is free; else the next place that holds vectors of the same request. */
  nextFree: Request;
  /** Of the places whose vectors this request has, its own included: how many, the last, and the one at hand. */
  placeCount: u32;
  lastPlace: Request;
  place: Request;
  isFree: u32;
  isCancelled: u32;
  userData: u64;
  /** The host's clock when it was taken, or 0. */
  takenAt: f64;

  headerBytes: u32;
  /** Device-readable bytes behind the header; device-writable bytes, the status included. */
  outBytes: u64;
  inBytes: u64;
  statusGpa: u64;
  /** What the driver is told was written, beside the status. */
  writtenBytes: u64;
  /** How it ends, once it has; and the next of those whose status byte the host writes. */
  status: i32;
  nextDeferred: Request;
  /** The host writes the ID, or part of it. */
  isIdDeferred: u32;

  stage: u32;
  retries: u32;
  /** SYNC_*: whether the transfer in flight is to be stable when it completes. */
  sync: u32;
  fileOffset: u64;
  remaining: u64;

  /** I/O vectors of a transfer, or the ranges of a discard or write zeroes. */
  table: usize;
  /** The first vector with something left, and how many there are from there. */
  vector: usize;
  vectorCount: u32;
  /** Data that found no vector, and how many vectors it would take. */
  overflowBytes: u64;
  overflowVectors: u32;
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
