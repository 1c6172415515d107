// What a load means for a given disk: which requests, where, and in which memory. Refuses what can't be.
import { SECTOR_SIZE } from "../../../assembly/spec/virtio-blk.ts";
import {
  VIRTIO_F_RING_EVENT_IDX,
  VIRTIO_F_RING_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
} from "../../../assembly/spec/virtqueue.ts";
import { UsageError } from "../../command-line/program.ts";
import { StartError } from "../../errors.ts";
import { type DiskFacts, logicalBlockSize } from "../../front-end/disk-facts.ts";
import type { FrontEnd } from "../../front-end/front-end.ts";
import { type GuestOptions, type Load, memoryNeeded } from "../../front-end/load/driven-guest.ts";
import { RING_ENTRIES_MAX, SEGMENTS_MAX, SLOTS_MAX } from "../../front-end/load/guest-layout.ts";
import { formatBytes } from "../units.ts";
import type { BenchOptions, Pattern } from "./command.ts";

export interface Plan {
  guest: GuestOptions;
  load: Load;
  /** The range that is used. */
  offsetBytes: number;
  byteLength: number;
}

const REQUEST_BYTES_MAX = 1 << 20;
const BESIDE_DATA = 2;

export function writes(pattern: Pattern): boolean {
  return !pattern.endsWith("read");
}

/** What is wrong whatever the disk is. Throws UsageError. */
export function checkUsage({ rw, write, bs, iodepth, queues, offset, size }: BenchOptions): void {
  if (writes(rw) && !write)
    throw new UsageError(`--rw=${rw} destroys data on the disk: give --write too if it may`);
  if (bs === 0 || bs % SECTOR_SIZE !== 0 || bs > REQUEST_BYTES_MAX)
    throw new UsageError(`--bs takes a multiple of ${SECTOR_SIZE} bytes up to 1M, not ${bs}`);
  if (iodepth * queues > SLOTS_MAX)
    throw new UsageError(
      `at most ${SLOTS_MAX} requests can be in flight, not ${iodepth} in each of ${queues} queues`,
    );
  if (offset % bs !== 0)
    throw new UsageError(`--offset takes a multiple of --bs, ${bs} bytes, not ${offset}`);
  if (size !== undefined && size < bs)
    throw new UsageError(`--size takes at least --bs, ${bs} bytes, not ${size}`);
}

/** Throws StartError. */
export function planFor(options: BenchOptions, frontEnd: FrontEnd, disk: DiskFacts): Plan {
  const { rw, bs, queues, iodepth, packed = false } = options;
  checkDisk(options, frontEnd, disk);
  const range = rangeOn(disk, options);
  const guest = {
    queues,
    depth: iodepth,
    packed,
    indirect: frontEnd.hasFeature(VIRTIO_F_RING_INDIRECT_DESC),
    eventIdx: frontEnd.hasFeature(VIRTIO_F_RING_EVENT_IDX),
    blockBytes: bs,
    segments: segmentsFor(bs, disk),
    isChecked: false,
  };
  checkRing(guest);
  const load = {
    readPercent: writes(rw) ? (rw.endsWith("rw") ? options.rwmix : 0) : 100,
    isSequential: !rw.startsWith("rand"),
    firstSector: range.offsetBytes / SECTOR_SIZE,
    blocks: Math.floor(range.byteLength / bs),
    seed: options.seed,
  };
  return { ...range, guest: { ...guest, memoryBytes: memoryNeeded(guest) }, load };
}

function checkDisk({ rw, bs, queues, packed }: BenchOptions, frontEnd: FrontEnd, disk: DiskFacts): void {
  if (writes(rw) && disk.readOnly) throw new StartError(`the disk is read-only, so --rw=${rw} can't be done`);
  if (bs % logicalBlockSize(disk) !== 0)
    throw new StartError(
      `the disk's blocks have ${logicalBlockSize(disk)} bytes: give --bs a multiple of that, not ${bs}`,
    );
  const queueCount = Math.min(frontEnd.maxQueues, disk.numQueues ?? 1);
  if (queues > queueCount)
    throw new StartError(
      `the back-end has ${queueCount} queue${queueCount === 1 ? "" : "s"}, not ${queues} (--queues)`,
    );
  if (packed && !frontEnd.hasFeature(VIRTIO_F_RING_PACKED))
    throw new StartError("the back-end offers no packed rings: leave out --packed");
}

function rangeOn(
  disk: DiskFacts,
  { bs, offset, size }: BenchOptions,
): { offsetBytes: number; byteLength: number } {
  const diskBytes = Number(disk.capacitySectors) * SECTOR_SIZE;
  const byteLength = size ?? diskBytes - offset;
  if (byteLength < bs || offset + byteLength > diskBytes) {
    const wanted = size === undefined ? `--offset=${offset}` : `--offset=${offset} --size=${size}`;
    throw new StartError(
      `the disk has ${diskBytes} bytes (${formatBytes(diskBytes)}), too few for ${wanted}`,
    );
  }
  return { offsetBytes: offset, byteLength: byteLength - (byteLength % bs) };
}

/** As few data buffers as size_max allows; some back-ends say 0 and mean that there is no limit. */
function segmentsFor(bs: number, { sizeMax, segMax }: DiskFacts): number {
  let segments = 1;
  while (sizeMax && bs / segments > sizeMax) segments *= 2;
  const most = Math.min(segMax || 1, SEGMENTS_MAX);
  if (segments === 1 || (segments <= most && Number.isInteger(bs / segments))) return segments;
  throw new StartError(
    `the back-end takes ${segMax || 1} segments of ${sizeMax} bytes a request at the most: give a smaller --bs than ${bs}`,
  );
}

/** Without indirect tables each request takes entries of the ring for all its buffers. */
function checkRing({ depth, indirect, segments }: Omit<GuestOptions, "memoryBytes">): void {
  const most = Math.floor(RING_ENTRIES_MAX / (segments + BESIDE_DATA));
  if (indirect || depth <= most) return;
  throw new StartError(
    `the back-end offers no indirect descriptors, so a ring holds ${most} requests, not ${depth} (--iodepth)`,
  );
}
