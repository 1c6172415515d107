// The shared memory in which requests in flight are recorded (vhost-user, "Inflight I/O tracking"): made, checked, mapped.

import { INFLIGHT_PTR, INFLIGHT_SIZE_MAX } from "../../assembly/abi/memory.ts";
import {
  INFLIGHT_ALIGN,
  INFLIGHT_REGION_VERSION,
  PACKED_ENTRIES,
  PACKED_ENTRY_SIZE,
  SPLIT_ENTRIES,
  SPLIT_ENTRY_SIZE,
} from "../../assembly/spec/inflight.ts";
import { VIRTQ_SIZE_MAX } from "../../assembly/spec/virtqueue.ts";
import { fileSize } from "../linux/file-status.ts";
import { close, SystemError } from "../linux/libc.ts";
import { PAGE_SIZE, replaceSharedAt, reserveAt } from "../linux/mapping.ts";
import { createSealedMemfd } from "../linux/memfd.ts";
import type { LinearMemory } from "./linear-memory.ts";
import { GuestMemoryError } from "./region-list.ts";

/** "Inflight description" of vhost-user: what both sides say of a region. Sizes and offsets in bytes. */
export interface InflightDescription {
  mmapSize: bigint;
  mmapOffset: bigint;
  numQueues: number;
  queueSize: number;
  /** Made here, since the front-end gives none. */
  isOwn?: boolean;
}

/** A queue's part of the region, for the core. */
export interface QueueInflight {
  ptr: number;
  /** Descriptors that it has room for. */
  entries: number;
  /** Somebody has recorded requests in it. */
  isUsed: boolean;
}

/** How a region is divided: each queue's part, in bytes, and the descriptors that it has room for. */
export interface InflightParts {
  stride: number;
  entries: number;
}

/**
 * Front-ends ask for a region before rings have a size, some by a setting that rings don't keep to: QEMU 10.0 asks for
 * 128 entries where its rings have up to 1024, the most that QEMU can give a ring. So this is the least.
 */
const ENTRIES_LEAST = 1024;

function roundUp(byteLength: number, unit: number): number {
  return Math.ceil(byteLength / unit) * unit;
}

/** What one queue's header and entries take, in bytes. */
function partLength(entries: number, isPacked: boolean): number {
  return isPacked ? PACKED_ENTRIES + entries * PACKED_ENTRY_SIZE : SPLIT_ENTRIES + entries * SPLIT_ENTRY_SIZE;
}

function strideOf(entries: number, isPacked: boolean): number {
  return roundUp(partLength(entries, isPacked), INFLIGHT_ALIGN);
}

/**
 * Where each queue's part lies. The front-end sends back the four numbers of the reply to GET_INFLIGHT_FD, and they are
 * all that a successor has. mmap_size tells two kinds of region apart:
 *
 * - as large as parts for queue_size entries, with or without rounding (a part to INFLIGHT_ALIGN, the whole to a page):
 *   what libvhost-user, DPDK and we (for the largest regions) make. Parts follow each other, each for queue_size entries.
 * - of any other size: each queue has an equal share, rounded down to INFLIGHT_ALIGN, and as many entries as fit.
 */
export function partsOf(
  { mmapSize, numQueues, queueSize }: Omit<InflightDescription, "mmapOffset">,
  isPacked: boolean,
): InflightParts {
  const byteLength = Number(mmapSize);
  for (const stride of [strideOf(queueSize, isPacked), partLength(queueSize, isPacked)]) {
    const exact = numQueues * stride;
    if (byteLength === exact || byteLength === roundUp(exact, PAGE_SIZE))
      return { stride, entries: queueSize };
  }
  const share = Math.floor(byteLength / numQueues);
  const stride = share - (share % INFLIGHT_ALIGN);
  const room = stride - partLength(0, isPacked);
  const entries = Math.floor(room / (isPacked ? PACKED_ENTRY_SIZE : SPLIT_ENTRY_SIZE));
  return { stride, entries: Math.min(entries, VIRTQ_SIZE_MAX) };
}

/**
 * The bytes of a new region, and so its parts. A packed ring's entries are the larger ones: with room for these it does
 * not matter which format is negotiated later. Where that is too much in all, parts for queue_size entries have to do.
 */
export function regionSize(numQueues: number, queueSize: number, isPacked: boolean): number {
  const ample = numQueues * strideOf(Math.max(queueSize, ENTRIES_LEAST), true);
  return ample <= INFLIGHT_SIZE_MAX ? ample : numQueues * strideOf(queueSize, isPacked);
}

function checkShape(numQueues: number, queueSize: number): void {
  if (numQueues === 0 || queueSize === 0 || queueSize > VIRTQ_SIZE_MAX) {
    throw new GuestMemoryError(`an inflight region for ${numQueues} queues of size ${queueSize}`);
  }
}

/** How far into a page it begins. */
function leadOf(mmapOffset: bigint): number {
  return Number(mmapOffset % BigInt(PAGE_SIZE));
}

/** Throws GuestMemoryError if a region that a front-end sent can't be what it is said to be. */
export function checkInflight(
  { mmapSize, mmapOffset, numQueues, queueSize }: InflightDescription,
  fd: number,
): void {
  checkShape(numQueues, queueSize);
  if (mmapOffset % 8n !== 0n) throw new GuestMemoryError("a misaligned inflight region");
  if (mmapSize + BigInt(leadOf(mmapOffset)) > BigInt(INFLIGHT_SIZE_MAX)) {
    throw new GuestMemoryError("an inflight region past 64 MiB");
  }
  if (fileSize(fd) < mmapOffset + mmapSize) {
    throw new GuestMemoryError("a file that is smaller than its inflight region");
  }
  // Of the two formats the split one needs less; which it is shows at ring start.
  if (Number(mmapSize) < numQueues * partLength(queueSize, false)) {
    throw new GuestMemoryError("an inflight region too small for its queues");
  }
}

function tryToReserve(address: number, byteLength: number): void {
  try {
    reserveAt(address, byteLength);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
  }
}

/** A new region, zeroed, which makes it one that nobody has used yet. The caller owns the descriptor. */
export function createInflightRegion(
  numQueues: number,
  queueSize: number,
  isPacked: boolean,
): { description: InflightDescription; fd: number } {
  checkShape(numQueues, queueSize);
  const byteLength = regionSize(numQueues, queueSize, isPacked);
  if (byteLength > INFLIGHT_SIZE_MAX) throw new GuestMemoryError("an inflight region past 64 MiB");
  // Neither side can pull it from under the other. Writing is what it is for.
  const fd = createSealedMemfd("vringd-inflight", byteLength);
  return { description: { mmapSize: BigInt(byteLength), mmapOffset: 0n, numQueues, queueSize }, fd };
}

/** A region as somebody sent it. Whoever has it owns the descriptor. */
export interface SentInflight {
  readonly description: InflightDescription;
  readonly fd: number;
}

/** The region that the front-end holds for us, as long as one is set. */
export class InflightRegion {
  private current: (SentInflight & { ptr: number }) | undefined;

  constructor(private readonly linear: LinearMemory) {}

  get isSet(): boolean {
    return this.current !== undefined;
  }

  /** The descriptor stays its own. */
  get sent(): SentInflight | undefined {
    return this.current;
  }

  /** What was given to set(), as long as that is set. */
  get description(): InflightDescription | undefined {
    return this.current?.description;
  }

  /**
   * Maps a region that the front-end sent: ours, a predecessor's, or one from another host. Takes the descriptor. Only
   * while no ring runs. Throws GuestMemoryError, with the region before still set, if it can't be what it is said to be.
   */
  set(description: InflightDescription, fd: number): void {
    const { mmapSize, mmapOffset } = description;
    const lead = leadOf(mmapOffset);
    const byteLength = lead + Number(mmapSize);
    const address = this.linear.hostAddress + INFLIGHT_PTR;
    try {
      checkInflight(description, fd);
      replaceSharedAt(address, fd, mmapOffset - BigInt(lead), byteLength);
    } catch (error) {
      close(fd);
      throw error;
    }
    // From here on it is set, so what is left of a longer one before it can't be a reason to refuse this one.
    if (this.current !== undefined) close(this.current.fd);
    this.current = { ptr: INFLIGHT_PTR + lead, description, fd };
    const end = roundUp(byteLength, PAGE_SIZE);
    if (end < INFLIGHT_SIZE_MAX) tryToReserve(address + end, INFLIGHT_SIZE_MAX - end);
  }

  /** Only while no ring runs. */
  clear(): void {
    const sent = this.takeOut();
    if (sent !== undefined) close(sent.fd);
  }

  /** The same, but the region is the caller's: set() brings it back. */
  takeOut(): SentInflight | undefined {
    if (this.current === undefined) return undefined;
    const { description, fd } = this.current;
    reserveAt(this.linear.hostAddress + INFLIGHT_PTR, INFLIGHT_SIZE_MAX);
    this.current = undefined;
    return { description, fd };
  }

  /** Where a ring's requests are recorded; undefined if no region is set, or none with room for this ring. */
  forQueue(index: number, ringSize: number, isPacked: boolean): QueueInflight | undefined {
    if (this.current === undefined) return undefined;
    const { ptr, description } = this.current;
    const { stride, entries } = partsOf(description, isPacked);
    if (index >= description.numQueues || ringSize > entries) return undefined;
    const part = ptr + index * stride;
    const isUsed = this.linear.view.getUint16(part + INFLIGHT_REGION_VERSION, true) !== 0;
    return { ptr: part, entries, isUsed };
  }
}
