// What a queue's chains are to its device: requests of a block device, or operations as they stand. Nothing else of the core
// knows that there are kinds of queue.

import { QUEUE_F_CHAINS } from "./abi/queue.ts";
import { WORKER_ZERO_IOVECS } from "./abi/worker.ts";
import { openBounce } from "./block/bounce.ts";
import { leaveRequest, resumeRequest, resumeWaiting, startRequest } from "./block/execute.ts";
import { admitRequest, isShareSpent } from "./block/limits.ts";
import { useZeroVectors } from "./block/ranges.ts";
import { parseRequest, Request } from "./block/request.ts";
import { forgetHeld, heldCount } from "./block/stability.ts";
import { ChainOperation, endChain, parseChain, startChain } from "./chain-operation.ts";
import { Slot } from "./io/slots.ts";
import { beginChain, beginLeftover } from "./virtqueue/chain.ts";
import { Virtqueue } from "./virtqueue/state.ts";

/** `worker`: the part of memory with this worker's tables. */
export function openDevice(worker: usize, index: u32): void {
  useZeroVectors(worker + WORKER_ZERO_IOVECS);
  openBounce(worker, index);
  forgetHeld();
}

function isOfChains(queue: Virtqueue): bool {
  return (queue.flags & QUEUE_F_CHAINS) !== 0;
}

function requestIn(slot: Slot): Request {
  return changetype<Request>(slot);
}

function operationIn(slot: Slot): ChainOperation {
  return changetype<ChainOperation>(slot);
}

/**
 * Reads the chain that is next in the ring, or the next leftover, into a free slot. Nothing else changes, so it may be
 * called again after a miss. PRESENT, MISSED, PUT_OFF or a FAULT.
 */
export function parse(slot: Slot, queue: Virtqueue, isLeftover: bool): i32 {
  if (isLeftover) beginLeftover(queue);
  else beginChain(queue);
  return isOfChains(queue)
    ? parseChain(operationIn(slot), queue, isLeftover)
    : parseRequest(requestIn(slot), queue);
}

export { isShareSpent };

/** Takes what was read into account, where the device has limits: 0, or for how many nanoseconds it is not to be taken. */
export function admit(slot: Slot): u64 {
  return isOfChains(slot.queue) ? 0 : admitRequest(requestIn(slot));
}

/** Starts what was read: SUBMITTED, DONE or WAITS_FOR_HOST. A leftover says nothing of what the driver does now. */
export function start(slot: Slot, isLeftover: bool): i32 {
  return isOfChains(slot.queue) ? startChain(operationIn(slot)) : startRequest(requestIn(slot), isLeftover);
}

/** Takes the result of the operation in flight: SUBMITTED, DONE, WAITS_FOR_HOST or PARKED. */
export function resume(slot: Slot, result: i32): i32 {
  return isOfChains(slot.queue)
    ? endChain(operationIn(slot), result)
    : resumeRequest(requestIn(slot), result);
}

/** What the slot waited for may have come about: DONE or WAITS_FOR_HOST. */
export function afterHost(slot: Slot): i32 {
  return resumeWaiting(requestIn(slot));
}

/** The slot was taken back from the engine: nothing of it is done any more. */
export function leave(slot: Slot): void {
  if (!isOfChains(slot.queue)) leaveRequest(requestIn(slot));
}

/** Whether something waits that no completion of this worker's tells of. */
export function waitsForOthers(): bool {
  return heldCount !== 0;
}
