// The shared memory in which requests in flight are recorded (vhost-user, "Inflight I/O tracking"): made, checked, mapped.
import {
  INFLIGHT_ALIGN,
  PACKED_ENTRIES,
  PACKED_ENTRY_SIZE,
  SPLIT_ENTRIES,
  SPLIT_ENTRY_SIZE,
} from "../../assembly/spec/inflight.ts";
import { INFLIGHT_PTR, INFLIGHT_SIZE_MAX } from "../../assembly/spec/layout.ts";
import { VIRTQ_SIZE_MAX } from "../../assembly/spec/virtqueue.ts";
import { fileSize } from "../linux/file-status.ts";
import { close } from "../linux/libc.ts";
import { mapSharedAt, PAGE_SIZE, reserveAt } from "../linux/mapping.ts";
import { createMemfd, sealSize } from "../linux/memfd.ts";
import { GuestMemoryError } from "./guest-memory.ts";
import type { LinearMemory } from "./linear-memory.ts";

/** "Inflight description" of vhost-user: what both sides say of a region. Sizes and offsets in bytes. */
export interface InflightDescription {
  mmapSize: bigint;
  mmapOffset: bigint;
  numQueues: number;
  queueSize: number;
}

/** A queue's part of the region, for the core. */
export interface QueueInflight {
  ptr: number;
  /** Descriptors that it has room for. */
  entries: number;
}

/** What one queue takes, in bytes. */
function strideOf(queueSize: number, isPacked: boolean): number {
  const byteLength = isPacked
    ? PACKED_ENTRIES + queueSize * PACKED_ENTRY_SIZE
    : SPLIT_ENTRIES + queueSize * SPLIT_ENTRY_SIZE;
  return Math.ceil(byteLength / INFLIGHT_ALIGN) * INFLIGHT_ALIGN;
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

function checkRegion({ mmapSize, mmapOffset, numQueues, queueSize }: InflightDescription, fd: number): void {
  checkShape(numQueues, queueSize);
  if (mmapOffset % 8n !== 0n) throw new GuestMemoryError("a misaligned inflight region");
  if (mmapSize + BigInt(leadOf(mmapOffset)) > BigInt(INFLIGHT_SIZE_MAX)) {
    throw new GuestMemoryError("an inflight region past 64 MiB");
  }
  if (fileSize(fd) < mmapOffset + mmapSize) {
    throw new GuestMemoryError("a file that is smaller than its inflight region");
  }
  // Of the two formats the split one needs less; which it is shows at ring start.
  if (Number(mmapSize) < numQueues * strideOf(queueSize, false)) {
    throw new GuestMemoryError("an inflight region too small for its queues");
  }
}

/** A new region, zeroed, which makes it one that nobody has used yet. The caller owns the descriptor. */
export function createInflightRegion(
  numQueues: number,
  queueSize: number,
  isPacked: boolean,
): { description: InflightDescription; fd: number } {
  checkShape(numQueues, queueSize);
  const byteLength = numQueues * strideOf(queueSize, isPacked);
  if (byteLength > INFLIGHT_SIZE_MAX) throw new GuestMemoryError("an inflight region past 64 MiB");
  const fd = createMemfd("vringd-inflight", byteLength);
  // Neither side can pull it from under the other. Writing is what it is for.
  sealSize(fd);
  return { description: { mmapSize: BigInt(byteLength), mmapOffset: 0n, numQueues, queueSize }, fd };
}

/** The region that the front-end holds for us, as long as one is set. */
export class InflightRegion {
  private current: { ptr: number; byteLength: number; numQueues: number; queueSize: number } | undefined;

  constructor(private readonly linear: LinearMemory) {}

  /**
   * Maps a region that the front-end sent: ours, a predecessor's, or one from another host. Takes the descriptor. Only
   * while no ring runs. Throws GuestMemoryError, with the region before still set, if it can't be what it is said to be.
   */
  set(description: InflightDescription, fd: number): void {
    try {
      checkRegion(description, fd);
      this.clear();
      const { mmapSize, mmapOffset, numQueues, queueSize } = description;
      const lead = leadOf(mmapOffset);
      const byteLength = Number(mmapSize);
      mapSharedAt(this.linear.hostAddress + INFLIGHT_PTR, fd, mmapOffset - BigInt(lead), lead + byteLength);
      this.current = { ptr: INFLIGHT_PTR + lead, byteLength, numQueues, queueSize };
    } finally {
      close(fd);
    }
  }

  /** Only while no ring runs. */
  clear(): void {
    if (this.current === undefined) return;
    reserveAt(this.linear.hostAddress + INFLIGHT_PTR, INFLIGHT_SIZE_MAX);
    this.current = undefined;
  }

  /** Where a ring's requests are recorded; undefined if they aren't. Throws GuestMemoryError if the ring doesn't fit. */
  forQueue(index: number, ringSize: number, isPacked: boolean): QueueInflight | undefined {
    if (this.current === undefined) return undefined;
    const { ptr, byteLength, numQueues, queueSize } = this.current;
    const stride = strideOf(queueSize, isPacked);
    if (index >= numQueues || (index + 1) * stride > byteLength) {
      throw new GuestMemoryError(`the inflight region has no part for ring ${index}`);
    }
    if (ringSize > queueSize) {
      throw new GuestMemoryError(`the inflight region is for rings of size ${queueSize}, not ${ringSize}`);
    }
    return { ptr: ptr + index * stride, entries: queueSize };
  }
}
