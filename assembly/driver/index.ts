// The exports of the front-end ring driver: it keeps virtio-blk requests in flight, as fast as a guest could. Imports
// memory and nothing else, keeps no state of its own, and never waits.
import { TURN_FAULT, TURN_KICK, TURN_REAPED } from "../abi/driver.ts";
import { Queue } from "./queue.ts";
import * as turns from "./turn.ts";

/** Makes the state for a ring that was never used. All of its memory must be zero, and so must the queue's. */
export function openQueue(
  queuePtr: usize,
  flags: u32,
  size: u32,
  desc: usize,
  driver: usize,
  device: usize,
  slots: usize,
  idle: usize,
  histogram: usize,
): void {
  const queue = changetype<Queue>(queuePtr);
  queue.flags = flags;
  queue.size = size;
  queue.desc = desc;
  queue.driver = driver;
  queue.device = device;
  queue.availWrap = 1;
  queue.usedWrap = 1;
  queue.callsEnabled = 1;
  queue.slots = slots;
  queue.idle = idle;
  queue.histogram = histogram;
}

/** Gives a slot its memory. Guest addresses are exact below 2^53. */
export function placeSlot(
  queuePtr: usize,
  index: u32,
  headerPtr: usize,
  headerGpa: f64,
  tablePtr: usize,
  tableGpa: f64,
  dataPtr: usize,
  dataGpa: f64,
): void {
  const queue = changetype<Queue>(queuePtr);
  const slot = queue.slot(index);
  slot.index = index;
  slot.headerPtr = headerPtr;
  slot.headerGpa = <u64>headerGpa;
  slot.tablePtr = tablePtr;
  slot.tableGpa = <u64>tableGpa;
  slot.dataPtr = dataPtr;
  slot.dataGpa = <u64>dataGpa;
}

/**
 * What the queue is to do from now on: `blocks` blocks from `firstSector` on, sequentially from block `firstBlock`. Only while nothing is in flight; the seed is
 * not 0.
 */
export function setLoad(
  queuePtr: usize,
  depth: u32,
  blockBytes: u32,
  segments: u32,
  segmentStride: u32,
  readPercent: u32,
  isSequential: u32,
  firstSector: f64,
  firstBlock: f64,
  blocks: f64,
  seed: u32,
  stamp: f64,
): void {
  const queue = changetype<Queue>(queuePtr);
  queue.depth = depth;
  queue.blockBytes = blockBytes;
  queue.segments = segments;
  queue.segmentStride = segmentStride;
  queue.readPercent = readPercent;
  queue.isSequential = isSequential;
  queue.firstSector = <u64>firstSector;
  queue.nextBlock = <u64>firstBlock;
  queue.blocks = <u64>blocks;
  queue.random = seed;
  queue.stamp = <u64>stamp;
  queue.idleCount = depth;
  for (let i: u32 = 0; i < depth; i++) store<u16>(queue.idle + ((<usize>i) << 1), <u16>(depth - 1 - i));
}

/** Sets how many requests may be started from now on. */
export function allow(queuePtr: usize, requests: f64): void {
  changetype<Queue>(queuePtr).allowance = <u64>requests;
}

export function finished(queuePtr: usize): f64 {
  return <f64>changetype<Queue>(queuePtr).finished;
}

export function failures(queuePtr: usize): f64 {
  return <f64>changetype<Queue>(queuePtr).failures;
}

export function inFlight(queuePtr: usize): u32 {
  return turns.inFlight(changetype<Queue>(queuePtr));
}

/** Takes back what was used, and puts as much in its place. `now` is in ns, from any start. */
export function turn(queuePtr: usize, now: f64): u32 {
  const queue = changetype<Queue>(queuePtr);
  turns.disableCalls(queue);
  const reaped = turns.reap(queue, now);
  if (reaped < 0) return TURN_FAULT;
  const result: u32 = reaped > 0 ? TURN_REAPED : 0;
  return turns.refill(queue, now) ? result | TURN_KICK : result;
}

/** Asks for a call at the next completion; 0 if there is one already. */
export function enableCalls(queuePtr: usize): u32 {
  const queue = changetype<Queue>(queuePtr);
  turns.enableCalls(queue);
  // Looking again closes the gap in which a call would not be sent.
  return turns.hasUsed(queue) ? 0 : 1;
}
