// A queue as its driver sees it, and the requests that take turns in it. All state lies where the host says.
import { DRIVER_F_INDIRECT, DRIVER_QUEUE_SIZE, DRIVER_SLOT_SIZE } from "../abi/driver.ts";
import { QUEUE_F_EVENT_IDX, QUEUE_F_PACKED } from "../abi/queue.ts";

/** One request that is in flight again and again, with memory of its own. */
@unmanaged
export class Slot {
  /** Header of 16 bytes, status byte and indirect table, as the driver and as the device address them. */
  headerPtr: usize;
  tablePtr: usize;
  /** Where the driver can see the data, or 0. */
  dataPtr: usize;
  index: u32;
  headerGpa: u64;
  tableGpa: u64;
  dataGpa: u64;
  startedAt: f64;
  sector: u64;
  isRead: u32;
  isInFlight: u32;
}
if (<i32>offsetof<Slot>() > DRIVER_SLOT_SIZE) ERROR("Slot");

/** The status byte follows the header. */
export const STATUS_OFFSET: usize = 16;

@unmanaged
export class Queue {
  flags: u32;
  size: u32;
  desc: usize;
  /** What the driver writes: avail ring, or driver event suppression. */
  driver: usize;
  /** What the device writes: used ring, or device event suppression. */
  device: usize;

  /** Split: free-running. Packed: a position in the ring. */
  nextAvail: u32;
  nextUsed: u32;
  availWrap: u32;
  usedWrap: u32;
  /** Added since the device's wish for a kick was last looked at, as the ring counts. */
  sinceKick: u32;
  /** Packed: the first descriptor of the batch, whose flags make all of it available. */
  batchFirst: usize;
  batchFirstFlags: u32;
  callsEnabled: u32;

  slots: usize;
  /** Of reads; that of writes follows it. */
  histogram: usize;
  /** A stack of the indices of slots that are not in flight, u16 each, behind the slots. */
  idle: usize;
  idleCount: u32;

  depth: u32;
  blockBytes: u32;
  /** Data buffers a request, each blockBytes / segments long and `segmentStride` apart. */
  segments: u32;
  segmentStride: u32;
  readPercent: u32;
  isSequential: u32;
  random: u32;
  /** Where block 0 is. */
  firstSector: u64;
  nextBlock: u64;
  blocks: u64;
  /** 0: data is neither written nor looked at. */
  stamp: u64;

  /** Requests that may still be started. */
  allowance: u64;
  finished: u64;
  failures: u64;

  get isPacked(): bool {
    return (this.flags & QUEUE_F_PACKED) !== 0;
  }

  get hasEventIdx(): bool {
    return (this.flags & QUEUE_F_EVENT_IDX) !== 0;
  }

  get isIndirect(): bool {
    return (this.flags & DRIVER_F_INDIRECT) !== 0;
  }

  /** Header, data and status. */
  get chainLength(): u32 {
    return this.segments + 2;
  }

  slot(index: u32): Slot {
    return changetype<Slot>(this.slots + <usize>index * DRIVER_SLOT_SIZE);
  }
}
if (<i32>offsetof<Queue>() > DRIVER_QUEUE_SIZE) ERROR("Queue");
