// A worker's virtqueues: the state of each, where it lies, and how many are in use. What is done with a queue stands in queue.ts, and
// in split.ts and packed.ts by format.
import {
  KINDS_MAX,
  QUEUE_BYTES_IN,
  QUEUE_BYTES_OUT,
  QUEUE_CALLS,
  QUEUE_COUNTERS_SIZE,
  QUEUE_F_EVENT_IDX,
  QUEUE_F_PACKED,
  QUEUE_FAILURES,
  QUEUE_FLAGS,
  QUEUE_IN_FLIGHT,
  QUEUE_KICKS,
  QUEUE_KINDS,
  QUEUE_SIZE,
  QUEUE_STATE,
  QUEUE_STOPPED,
  QUEUE_STRIDE,
  QUEUE_WAITED_NS,
} from "../abi/queue.ts";
import { LEFTOVERS_SIZE, LEFTOVERS_STRIDE, WORKER_LEFTOVERS, WORKER_QUEUES } from "../abi/worker.ts";

/** An eventfd's SQE: none, in the kernel, or in the kernel with a cancellation behind it. */
export const EVENT_IDLE: u32 = 0;
export const EVENT_PENDING: u32 = 1;
export const EVENT_CANCELLED: u32 = 2;

/** A chain that has been taken, by the names that its queue has for it. */
@unmanaged
export class Chain {
  /** For the driver: the head, or the packed buffer id. */
  id: u32;
  /** Descriptors of the ring that it holds. */
  count: u32;
  /** Its first and last entry in the inflight region; with a split ring the first is the head. */
  firstEntry: u32;
  lastEntry: u32;
  /** In the debug build: it is taken, and not given back. */
  isTaken: u32;
}

@unmanaged
export class Virtqueue {
  /** What was done well, by kind: u64 each. See countDone(). */
  kind0: u64;
  kind1: u64;
  kind2: u64;
  kind3: u64;
  kind4: u64;
  kind5: u64;
  kind6: u64;
  kind7: u64;
  /** From the device to the driver, and the other way. */
  bytesIn: u64;
  bytesOut: u64;
  failures: u64;
  kicks: u64;
  calls: u64;
  waitedNs: u64;

  state: u32;
  index: u32;
  size: u32;
  flags: u32;

  /** Chains taken and not yet used; descriptors of the ring that they hold. */
  inFlight: u32;
  descriptorsInFlight: u32;

  /** Where the kernel puts the counter it reads from the kick eventfd. */
  kickValue: u64;

  /** By the host's clock, or 0: when a limit has first refused the next chain, and when that is asked for again. */
  throttledSince: u64;
  throttledUntil: u64;

  /** Descriptor table, or packed descriptor ring. */
  desc: usize;
  /** What the driver writes: avail ring, or driver event suppression. */
  driver: usize;
  /** What the device writes: used ring, or device event suppression. */
  device: usize;

  /** Split: free-running. Packed: a slot of the ring. */
  nextAvail: u16;
  nextUsed: u16;
  /** Packed only (2.8.1): both start at 1. */
  availWrap: u32;
  usedWrap: u32;

  /** Used since the last publish, as the ring counts (elements or slots) and in chains. */
  staged: u32;
  stagedChains: u32;
  /** Used since the driver's wish for a call was last looked at, as the ring counts. */
  sinceCall: u32;
  /** Packed: the first descriptor of the batch that is staged, published last. */
  stagedFirst: usize;
  stagedFirstFlags: u32;

  /** Chains that may still be taken; CREDIT_UNLIMITED is never spent. */
  credit: u32;

  /** The event index last written for the driver, or NO_EVENT. */
  kickEvent: u32;
  kicksEnabled: u32;

  /** -1: none. */
  kickFd: i32;
  callFd: i32;
  kickState: u32;
  callState: u32;
  callWanted: u32;
  fault: i32;
  /** The queue's part of the inflight region, or 0; entries in it; the counter that orders them. */
  inflight: usize;
  inflightEntries: u32;
  counter: u64;
  /** What a predecessor left unfinished, in the order it was taken: heads, or entries of the region. */
  leftovers: usize;
  leftoversMax: u32;
  leftoverNext: u32;
  leftoverCount: u32;
  /** Packed: how far the chain that is being read is recorded. */
  recordFirst: u32;
  recordLast: u32;
  recordNext: u32;
  /** Where desc and device lie for the guest. */
  descGpa: u64;
  deviceGpa: u64;
  /** The stop that is under way leaves requests recorded instead of completing them. */
  suspends: u32;

  /** Counts one that was done well, and the bytes that went from the device to the driver and back. */
  countDone(kind: u32, bytesIn: u64, bytesOut: u64): void {
    const counter = changetype<usize>(this) + QUEUE_KINDS + ((<usize>kind) << 3);
    store<u64>(counter, load<u64>(counter) + 1);
    this.bytesIn += bytesIn;
    this.bytesOut += bytesOut;
  }

  get isPacked(): bool {
    return (this.flags & QUEUE_F_PACKED) !== 0;
  }

  /** Whether what is in flight is recorded in an inflight region. */
  get isTracked(): bool {
    return this.inflight !== 0;
  }

  /** Whether there is something that a predecessor had taken: it goes first. */
  get hasLeftovers(): bool {
    return this.leftoverNext < this.leftoverCount;
  }

  addLeftover(entry: u32): void {
    if (this.leftoverCount < this.leftoversMax) {
      store<u16>(this.leftovers + ((<usize>this.leftoverCount) << 1), <u16>entry);
    }
    this.leftoverCount++;
  }

  get hasEventIdx(): bool {
    return (this.flags & QUEUE_F_EVENT_IDX) !== 0;
  }
}
if (offsetof<Virtqueue>("kind0") !== QUEUE_KINDS) ERROR("Virtqueue.kind0");
if (offsetof<Virtqueue>("bytesIn") !== QUEUE_KINDS + KINDS_MAX * 8) ERROR("Virtqueue.bytesIn");
if (offsetof<Virtqueue>("bytesIn") !== QUEUE_BYTES_IN) ERROR("Virtqueue.bytesIn");
if (offsetof<Virtqueue>("bytesOut") !== QUEUE_BYTES_OUT) ERROR("Virtqueue.bytesOut");
if (offsetof<Virtqueue>("failures") !== QUEUE_FAILURES) ERROR("Virtqueue.failures");
if (offsetof<Virtqueue>("kicks") !== QUEUE_KICKS) ERROR("Virtqueue.kicks");
if (offsetof<Virtqueue>("calls") !== QUEUE_CALLS) ERROR("Virtqueue.calls");
if (offsetof<Virtqueue>("waitedNs") !== QUEUE_WAITED_NS) ERROR("Virtqueue.waitedNs");
if (offsetof<Virtqueue>("state") !== QUEUE_COUNTERS_SIZE) ERROR("Virtqueue.state");
if (offsetof<Virtqueue>("state") !== QUEUE_STATE) ERROR("Virtqueue.state");
if (offsetof<Virtqueue>("size") !== QUEUE_SIZE) ERROR("Virtqueue.size");
if (offsetof<Virtqueue>("flags") !== QUEUE_FLAGS) ERROR("Virtqueue.flags");
if (offsetof<Virtqueue>("inFlight") !== QUEUE_IN_FLIGHT) ERROR("Virtqueue.inFlight");
if (<i32>offsetof<Virtqueue>() > QUEUE_STRIDE) ERROR("Virtqueue");

/** No event index equals this: they are 16 bits wide. */
export const NO_EVENT: u32 = 0xffffffff;

// --- A worker's queues ----------------------------------------------------------------------------------------------

let worker: usize = 0;

export let queueCount: u32 = 0;

/** Queues from here on are stopped: a turn costs what the queues in use cost. */
export let activeCount: u32 = 0;

/** `workerPtr`: the part of memory with their states. */
export function openQueues(workerPtr: usize, count: u32): void {
  worker = workerPtr;
  queueCount = count;
  activeCount = 0;
}

/** A queue that is about to start. One that never does takes no memory. */
export function openQueue(index: u32): Virtqueue {
  const queue = queueAt(index);
  const share = min<u32>(LEFTOVERS_SIZE / queueCount, LEFTOVERS_STRIDE) & ~1;
  queue.index = index;
  queue.leftovers = worker + WORKER_LEFTOVERS + <usize>index * share;
  queue.leftoversMax = share >> 1;
  if (index >= activeCount) activeCount = index + 1;
  return queue;
}

export function queueAt(index: u32): Virtqueue {
  return changetype<Virtqueue>(worker + WORKER_QUEUES + <usize>index * QUEUE_STRIDE);
}

/** The last queues that are in use no more. */
export function forgetStopped(): void {
  while (activeCount > 0 && queueAt(activeCount - 1).state === QUEUE_STOPPED) activeCount--;
}
