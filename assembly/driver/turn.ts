// A queue's turn: take back what was used, start as much again.
import { record } from "./histogram.ts";
import { prepare, succeeded } from "./load.ts";
import * as packed from "./packed-queue.ts";
import { Queue, Slot } from "./queue.ts";
import * as split from "./split-queue.ts";

export function inFlight(queue: Queue): u32 {
  return queue.depth - queue.idleCount;
}

export function hasUsed(queue: Queue): bool {
  return queue.isPacked ? packed.hasUsed(queue) : split.hasUsed(queue);
}

export function enableCalls(queue: Queue): void {
  queue.callsEnabled = 1;
  if (queue.isPacked) packed.enableCalls(queue);
  else split.enableCalls(queue);
}

export function disableCalls(queue: Queue): void {
  if (!queue.callsEnabled) return;
  queue.callsEnabled = 0;
  if (queue.isPacked) packed.disableCalls(queue);
  else split.disableCalls(queue);
}

/** How many were taken back; negative when the device used what was not in flight. */
export function reap(queue: Queue, now: f64): i32 {
  let count = 0;
  // Whatever the device does meanwhile, no more than were in flight.
  for (const most = <i32>inFlight(queue); count < most && hasUsed(queue); count++) {
    const index = queue.isPacked ? packed.popUsed(queue) : split.popUsed(queue);
    if (index >= queue.depth) return -1;
    const slot = queue.slot(index);
    if (!slot.isInFlight) return -1;
    finish(queue, slot, now);
  }
  return count;
}

function finish(queue: Queue, slot: Slot, now: f64): void {
  slot.isInFlight = 0;
  if (!succeeded(queue, slot)) queue.failures++;
  record(queue.histogram, <bool>slot.isRead, <u64>(now - slot.startedAt));
  queue.finished++;
  store<u16>(queue.idle + ((<usize>queue.idleCount) << 1), <u16>slot.index);
  queue.idleCount++;
}

/** Whether the device has to be kicked for what was started. */
export function refill(queue: Queue, now: f64): bool {
  const before = queue.idleCount;
  while (queue.idleCount > 0 && queue.allowance > 0) start(queue, now);
  if (queue.idleCount === before) return false;
  if (queue.isPacked) {
    packed.publish(queue);
    return packed.takeKickWish(queue);
  }
  split.publish(queue);
  return split.takeKickWish(queue);
}

function start(queue: Queue, now: f64): void {
  queue.allowance--;
  queue.idleCount--;
  const slot = queue.slot(load<u16>(queue.idle + ((<usize>queue.idleCount) << 1)));
  slot.isInFlight = 1;
  slot.startedAt = now;
  prepare(queue, slot);
  if (queue.isPacked) packed.add(queue, slot);
  else split.add(queue, slot);
}
