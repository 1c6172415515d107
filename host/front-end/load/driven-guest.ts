// A guest whose queues the ring driver drives: its memory, part of which the driver sees, and its eventfds.
import {
  DRIVER_F_INDIRECT,
  DRIVER_QUEUE_SIZE,
  DRIVER_SLOT_SIZE,
  HISTOGRAM_BUCKETS,
} from "../../../assembly/abi/driver.ts";
import { QUEUE_F_EVENT_IDX, QUEUE_F_PACKED } from "../../../assembly/abi/queue.ts";
import type { RingAddresses } from "../../driver/ring.ts";
import { createEventfd } from "../../linux/eventfd.ts";
import { close } from "../../linux/libc.ts";
import { Memory } from "../memory.ts";
import {
  GuestLayout,
  gpaOf,
  memoryFor,
  RING_ENTRIES_MAX,
  RING_SIZE,
  RINGS_OFFSET,
  regionsOf,
  SEGMENTS_MAX,
  SLAB_ENTRY_SIZE,
  SLAB_SIZE,
  SLABS,
} from "./guest-layout.ts";
import { ARENA_SIZE, type RingDriver } from "./ring-driver.ts";

export interface GuestOptions {
  memoryBytes: number;
  queues: number;
  /** Requests in flight in each queue. */
  depth: number;
  packed: boolean;
  indirect: boolean;
  eventIdx: boolean;
  blockBytes: number;
  /** Data buffers in each request. */
  segments: number;
  /** Whether the driver writes and checks the data. */
  isChecked: boolean;
  /** Of so many requests, the data of the first begins within a sector: 1 is all of them. Left out: none. */
  unalignedEvery?: number;
}

/** Counts by bucket: see HISTOGRAM_BUCKETS. */
export interface Latencies {
  reads: Uint32Array;
  writes: Uint32Array;
  all: Uint32Array;
}

export interface Load {
  readPercent: number;
  isSequential: boolean;
  /** Where those blocks begin: 0 if left out. */
  firstSector?: number;
  /** Blocks of the disk that are used. */
  blocks: number;
  seed: number;
  /** With `isChecked`: eight bytes at offset x of the disk hold this plus x. 0 leaves the data alone. */
  stamp?: number;
}

/** QEMU's default for vhost-user-blk. */
const QUEUE_SIZE_MIN = 128;
export const QUEUES_MAX = 8;

/** An arena: queues, histograms, slots; then pieces of guest memory. */
const HISTOGRAM = 0x1000;
const IDLE = 0x8000;
const IDLE_STRIDE = 0x800;
const SLOTS = 0x10000;
const RINGS = 0x20000;
const SLAB_PIECES = RINGS + QUEUES_MAX * RING_SIZE;
const DATA_PIECES = SLAB_PIECES + SLABS * SLAB_SIZE;

/** A ring's parts, each on pages of its own. */
const DRIVER_AREA = 0x8000;
const DEVICE_AREA = 0xa000;

const TABLE_OFFSET = 64;

/** No multiple of what O_DIRECT asks for. */
const UNALIGNED_BYTES = 64;

export class DrivenGuest {
  readonly memory: Memory;
  readonly queueSize: number;
  /** Pointers to the queues' states. */
  readonly queues: readonly number[];
  readonly kickFds: readonly number[];
  /** One for all queues, as a guest has that has fewer vectors than queues. */
  readonly callFd = createEventfd();
  private readonly arena: number;
  private readonly layout: GuestLayout;
  /** From one data buffer of a request to the next: they don't touch, so the host can't merge them. */
  private readonly segmentStride: number;

  constructor(
    private readonly driver: RingDriver,
    private readonly options: GuestOptions,
  ) {
    const { memoryBytes, queues, depth, blockBytes, segments } = options;
    this.segmentStride = strideOf(blockBytes, segments);
    if (queues > QUEUES_MAX || segments > SEGMENTS_MAX)
      throw new RangeError(`at most ${QUEUES_MAX} queues and ${SEGMENTS_MAX} segments`);
    this.queueSize = queueSizeFor(options);
    const shift = options.unalignedEvery === undefined ? 0 : UNALIGNED_BYTES;
    this.layout = new GuestLayout(memoryBytes, queues * depth, this.dataSpan + shift);
    this.memory = new Memory(regionsOf(memoryBytes));
    this.arena = driver.takeArena();
    this.map(RINGS, RINGS_OFFSET, QUEUES_MAX * RING_SIZE);
    for (let i = 0; i < SLABS; i++)
      this.map(SLAB_PIECES + i * SLAB_SIZE, this.layout.slabOffset(i), SLAB_SIZE);
    this.kickFds = Array.from({ length: queues }, createEventfd);
    this.queues = this.kickFds.map((_, i) => this.openQueue(i));
  }

  /** As SET_VRING_ADDR names them, by guest address. */
  ringAddresses(index: number): RingAddresses {
    const descriptor = gpaOf(RINGS_OFFSET + index * RING_SIZE);
    return { descriptor, available: descriptor + DRIVER_AREA, used: descriptor + DEVICE_AREA };
  }

  /** Copies of the histograms of all queues since they were last reset. */
  latencies(): Latencies {
    const [reads, writes] = [this.histogram(0), this.histogram(1)];
    return { reads: reads.slice(), writes: writes.slice(), all: reads.map((count, i) => count + writes[i]!) };
  }

  resetLatencies(): void {
    this.histogram(0).fill(0);
    this.histogram(1).fill(0);
  }

  /** Fills all data buffers with what these bytes repeat. Only while nothing is in flight. */
  fillData(bytes: Uint8Array): void {
    const slots = this.options.queues * this.options.depth;
    for (let slot = 0; slot < slots; slot++) {
      const data = this.memory.bytes(gpaOf(this.dataOffset(slot)), this.dataSpan);
      for (let at = 0; at < data.length; at += bytes.length)
        data.set(bytes.subarray(0, data.length - at), at);
    }
  }

  setLoad(load: Load): void {
    const { depth, blockBytes, segments } = this.options;
    const { readPercent, isSequential, firstSector = 0, blocks, seed, stamp = 0 } = load;
    const { calls } = this.driver;
    for (const [i, queue] of this.queues.entries()) {
      // Each queue begins a sequential load at a place of its own, and has its own random numbers.
      const first = Math.floor((blocks / this.queues.length) * i);
      const ownSeed = (seed + i * 0x9e3779b9) >>> 0 || 1;
      const sequential = isSequential ? 1 : 0;
      calls.setLoad(
        queue,
        depth,
        blockBytes,
        segments,
        this.segmentStride,
        readPercent,
        sequential,
        firstSector,
        first,
        blocks,
        ownSeed,
        this.options.isChecked ? stamp : 0,
      );
    }
  }

  /** How many requests may be started from now on, in each queue. */
  allow(requests: number): void {
    for (const queue of this.queues) this.driver.calls.allow(queue, requests);
  }

  get finished(): number {
    return this.queues.reduce((sum, queue) => sum + this.driver.calls.finished(queue), 0);
  }

  get failures(): number {
    return this.queues.reduce((sum, queue) => sum + this.driver.calls.failures(queue), 0);
  }

  get inFlight(): number {
    return this.queues.reduce((sum, queue) => sum + this.driver.calls.inFlight(queue), 0);
  }

  close(): void {
    this.driver.giveBack(this.arena);
    this.memory.close();
    for (const fd of [this.callFd, ...this.kickFds]) close(fd);
  }

  private get dataSpan(): number {
    return this.segmentStride * this.options.segments;
  }

  private histogram(index: number): Uint32Array<ArrayBuffer> {
    const offset = this.arena + HISTOGRAM + index * HISTOGRAM_BUCKETS * 4;
    return new Uint32Array(this.driver.memory.buffer, offset, HISTOGRAM_BUCKETS);
  }

  private openQueue(index: number): number {
    const queue = this.arena + index * DRIVER_QUEUE_SIZE;
    const { depth, packed, indirect, eventIdx } = this.options;
    const flags =
      (packed ? QUEUE_F_PACKED : 0) | (eventIdx ? QUEUE_F_EVENT_IDX : 0) | (indirect ? DRIVER_F_INDIRECT : 0);
    const ring = this.arena + RINGS + index * RING_SIZE;
    this.driver.calls.openQueue(
      queue,
      flags,
      this.queueSize,
      ring,
      ring + DRIVER_AREA,
      ring + DEVICE_AREA,
      this.arena + SLOTS + index * depth * DRIVER_SLOT_SIZE,
      this.arena + IDLE + index * IDLE_STRIDE,
      this.arena + HISTOGRAM,
    );
    for (let i = 0; i < depth; i++) this.placeSlot(queue, i, index * depth + i);
    return queue;
  }

  /** `slot` counts through all queues. */
  private placeSlot(queue: number, index: number, slot: number): void {
    const slab = slot % SLABS;
    const entry = Math.floor(slot / SLABS) * SLAB_ENTRY_SIZE;
    const ptr = this.arena + SLAB_PIECES + slab * SLAB_SIZE + entry;
    const gpa = gpaOf(this.layout.slabOffset(slab) + entry);
    const dataOffset = this.dataOffset(slot);
    const dataPtr = this.options.isChecked ? this.mapData(slot, dataOffset) : 0;
    this.driver.calls.placeSlot(
      queue,
      index,
      ptr,
      gpa,
      ptr + TABLE_OFFSET,
      gpa + TABLE_OFFSET,
      dataPtr,
      gpaOf(dataOffset),
    );
  }

  private dataOffset(slot: number): number {
    const { unalignedEvery } = this.options;
    const isUnaligned = unalignedEvery !== undefined && slot % unalignedEvery === 0;
    return this.layout.dataOffset(slot) + (isUnaligned ? UNALIGNED_BYTES : 0);
  }

  private mapData(slot: number, offset: number): number {
    const pages = Math.ceil(this.dataSpan / 4096) * 4096;
    const piece = DATA_PIECES + slot * pages;
    if (piece + pages > ARENA_SIZE) throw new RangeError("too much data in flight to be checked");
    this.map(piece, offset, pages);
    return this.arena + piece;
  }

  private map(piece: number, offset: number, byteLength: number): void {
    const gpa = gpaOf(offset);
    const region = this.memory.regions.find((candidate) => candidate.holds(gpa, byteLength));
    if (region === undefined) throw new RangeError(`${byteLength} bytes at ${gpa} are not guest memory`);
    this.driver.map(this.arena + piece, region.fd, gpa - region.gpa, byteLength);
  }
}

function strideOf(blockBytes: number, segments: number): number {
  return segments === 1 ? blockBytes : (2 * blockBytes) / segments;
}

/** Guest memory that such a guest needs at the least. */
export function memoryNeeded(options: Omit<GuestOptions, "memoryBytes">): number {
  const { queues, depth, blockBytes, segments } = options;
  return memoryFor(queues * depth, strideOf(blockBytes, segments) * segments);
}

/** A split ring's size is a power of two; without indirect tables each request takes entries for all its buffers. */
function queueSizeFor({ depth, indirect, segments }: GuestOptions): number {
  const entries = indirect ? depth : depth * (segments + 2);
  const size = Math.max(QUEUE_SIZE_MIN, 2 ** Math.ceil(Math.log2(entries)));
  if (size > RING_ENTRIES_MAX) throw new RangeError(`a ring of ${size} entries: at most ${RING_ENTRIES_MAX}`);
  return size;
}
