// A worker's turn: completions in, used buffers out; available buffers in, operations out. Never waits, never calls out.

import {
  FAULT_KICK_FD,
  FAULT_TOO_MANY_IN_FLIGHT,
  FAULT_TOO_SCATTERED,
  IOVECS_MAX,
  LEFTOVERS_SIZE,
  LEFTOVERS_STRIDE,
  NEWS_NONE,
  NEWS_STEP,
  QUEUE_BROKEN,
  QUEUE_F_CREDIT,
  QUEUE_RUNNING,
  QUEUE_STOPPED,
  QUEUE_STOPPING,
  QUEUE_STRIDE,
  STEP_BROKEN,
  STEP_CONTROL,
  STEP_GUEST_WRITES,
  STEP_POLL,
  STEP_STOPPED,
  STEP_WAIT,
  STEP_WINDOW_MISS,
  WORKER_LEFTOVERS,
  WORKER_QUEUES,
  WORKER_SCRATCH,
  WORKER_STRIDE,
  WORKERS_PTR,
} from "./abi/layout.ts";
import {
  afterHost,
  deviceNews,
  forgetDeviceNews,
  leave,
  openDevice,
  parse,
  resume,
  start,
  waitsForOthers,
} from "./device.ts";
import {
  armControl,
  armKick,
  askForRoom,
  cancelCall,
  cancelKick,
  completeCall,
  completeControl,
  completeKick,
  forgetLackOfRoom,
  lacksRoom,
  openEventfds,
  pushCancel,
  sendCall,
} from "./io/eventfds.ts";
import { turnRequests } from "./io/host.ts";
import { clockMs, useStatistics } from "./io/latency.ts";
import {
  acquire,
  DONE,
  freeCount,
  hasFree,
  nextFree,
  openSlots,
  PARKED,
  release,
  Slot,
  slotAt,
  slotCount,
  WAITS_FOR_HOST,
} from "./io/slots.ts";
import { completionNews, consumeCqe, hasSqeRoom, peekCqe, publishSqes, returnCqes } from "./io/uring.ts";
import { indexOf, TAG_CALL, TAG_CONTROL, TAG_KICK, TAG_REQUEST, tagOf } from "./io/user-data.ts";
import { CQE_RES, CQE_USER_DATA, ECANCELED, EINTR } from "./spec/io-uring.ts";
import { tableRead, useScratch } from "./virtqueue/chain.ts";
import { clearGuestWrites, hasGuestWrites, MISSED, PUT_OFF, useTables } from "./virtqueue/guest-memory.ts";
import {
  disableKicks,
  enableKicks,
  hasAvailable,
  hasCredit,
  hasLeftovers,
  leaveChain,
  parkChain,
  prepareToTake,
  publishUsed,
  pushUsed,
  takeCallWish,
  takeChain,
  takeLeftover,
} from "./virtqueue/queue.ts";
import { EVENT_IDLE, Virtqueue } from "./virtqueue/state.ts";
import {
  beginClaims,
  beginReading,
  claimWindow,
  endReading,
  grantClaim,
  holder,
  isInsatiable,
  openClaims,
} from "./virtqueue/window-claims.ts";

/** In the scratch area, behind the 64 bytes of descriptor-chain.ts. */
const EVENT_VALUES: usize = 64;

let worker: usize = 0;
let queueCount: u32 = 0;

/** Queues from here on are stopped: a turn costs what the queues in use cost. */
let activeCount: u32 = 0;

/** Slots that are done once the host has written something, after this turn: the next one gives their chains back. */
let firstWaiting: usize = 0;
let lastWaiting: usize = 0;

/** The queue whose next chain waits for so many free requests, since it has more data than one has vectors for. */
let longQueue: usize = 0;
let longPlaces: u32 = 0;

/** The queue that is first in this turn, so that each in turn has the first choice of free requests. */
let firstQueue: u32 = 0;

/** Whether the host looks at the rings by itself, so that no kick is needed. */
let isAwake: bool = false;

/** Whether a queue has found free slots and left them to others in this turn. */
let isOneHeldBack: bool = false;

let outcome: u32 = 0;
let hasMoreWork: bool = false;

/** Makes this instance worker `index`, with up to `requests` requests in flight. The rings are attached already. */
export function openWorker(index: u32, queues: u32, requests: u32, control: i32): void {
  worker = <usize>WORKERS_PTR + <usize>index * WORKER_STRIDE;
  queueCount = queues;
  firstWaiting = 0;
  longQueue = 0;
  useTables(worker);
  openClaims(queues);
  useScratch(worker + WORKER_SCRATCH);
  useStatistics(worker);
  openEventfds(worker + WORKER_SCRATCH + EVENT_VALUES, control);
  openSlots(worker, requests);
  openDevice(worker, index);
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

/** One turn. Returns how many SQEs wait for the engine, and STEP_* bits. */
export function step(): u32 {
  return turn(false);
}

/** The same for a host that does not sleep: after STEP_WAIT it asks news(), and drivers are not asked for kicks. */
export function stepAwake(): u32 {
  return turn(true);
}

/** Whether there is something to step for: NEWS_*. Costs a few loads, so it can be asked all the time. */
export function news(): u32 {
  // First: a driver that never lets its ring run dry must not keep the kernel's completions, or a command, waiting.
  const completions = completionNews();
  // With every request in flight, only a completion lets a turn do anything.
  if (completions !== NEWS_NONE || !hasFree() || longQueue !== 0) return completions;
  for (let i: u32 = 0; i < activeCount; i++) {
    const queue = queueAt(i);
    // A fault is news too.
    if (queue.state !== QUEUE_RUNNING || !hasCredit(queue) || isHeldBack(queue)) continue;
    if (hasAvailable(queue) !== 0) return NEWS_STEP;
  }
  return NEWS_NONE;
}

function turn(awake: bool): u32 {
  isAwake = awake;
  outcome = 0;
  hasMoreWork = false;
  isOneHeldBack = false;
  forgetLackOfRoom();
  forgetDeviceNews();
  endWaiting();
  completeFinished();
  // Now, not after the next requests are built: the driver may be waiting for these.
  for (let i: u32 = 0; i < activeCount; i++) publishUsed(queueAt(i));
  if (++firstQueue >= activeCount) firstQueue = 0;
  beginClaims();
  for (let i = firstQueue; i < activeCount; i++) submitAvailable(queueAt(i));
  for (let i: u32 = 0; i < firstQueue; i++) submitAvailable(queueAt(i));
  serveMisses();
  let isPolled = waitsForOthers();
  for (let i: u32 = 0; i < activeCount; i++) {
    const queue = queueAt(i);
    notify(queue);
    settle(queue);
    if (queue.state === QUEUE_RUNNING && queue.kickFd < 0) isPolled = true;
  }
  while (activeCount > 0 && queueAt(activeCount - 1).state === QUEUE_STOPPED) activeCount--;
  armControl();
  if (lacksRoom) hasMoreWork = true;
  outcome |= deviceNews();
  // A control command is looked at before anyone sleeps.
  if (!hasMoreWork && (outcome & STEP_CONTROL) === 0) outcome |= isPolled ? STEP_POLL : STEP_WAIT;
  return outcome | publishSqes();
}

// --- Completions ----------------------------------------------------------------------------------------------------

function completeFinished(): void {
  while (true) {
    const cqe = peekCqe();
    if (cqe === 0) break;
    // Any completion leads to one entry at the most.
    if (!hasSqeRoom()) {
      hasMoreWork = true;
      break;
    }
    const userData = load<u64>(cqe, CQE_USER_DATA);
    const result = load<i32>(cqe, CQE_RES);
    consumeCqe();
    complete(tagOf(userData), indexOf(userData), result);
  }
  returnCqes();
}

function complete(tag: u32, index: u32, result: i32): void {
  switch (tag) {
    case TAG_REQUEST:
      if (index < slotCount) completeSlot(slotAt(index), result);
      break;
    case TAG_KICK:
      if (index < queueCount && !completeKick(queueAt(index), result))
        breakQueue(queueAt(index), FAULT_KICK_FD);
      break;
    case TAG_CALL:
      if (index < queueCount) completeCall(queueAt(index), result);
      break;
    case TAG_CONTROL:
      completeControl();
      outcome |= STEP_CONTROL;
      break;
  }
}

function completeSlot(slot: Slot, result: i32): void {
  if (slot.isFree !== 0) return;
  // What was cancelled has touched neither guest memory nor disk any more: a successor does it all again.
  if (slot.isCancelled !== 0 && (result === -ECANCELED || result === -EINTR)) {
    leave(slot);
    leaveChain(slot.queue, slot);
    release(slot);
    return;
  }
  settleSlot(slot, resume(slot, result));
}

function settleSlot(slot: Slot, result: i32): void {
  switch (result) {
    case DONE:
      pushUsed(slot.queue, slot, slot.usedBytes);
      release(slot);
      break;
    case WAITS_FOR_HOST:
      addWaiting(slot);
      break;
    case PARKED:
      parkChain(slot.queue, slot);
      release(slot);
      break;
  }
}

function addWaiting(slot: Slot): void {
  // No completion or cancellation is its any more.
  slot.isFree = 1;
  slot.nextWaiting = changetype<Slot>(0);
  if (firstWaiting === 0) firstWaiting = changetype<usize>(slot);
  else changetype<Slot>(lastWaiting).nextWaiting = slot;
  lastWaiting = changetype<usize>(slot);
}

function endWaiting(): void {
  clearGuestWrites();
  let next = firstWaiting;
  firstWaiting = 0;
  while (next !== 0) {
    const slot = changetype<Slot>(next);
    next = changetype<usize>(slot.nextWaiting);
    settleSlot(slot, afterHost(slot));
  }
}

// --- Available chains -----------------------------------------------------------------------------------------------

function submitAvailable(queue: Virtqueue): void {
  if (queue.state === QUEUE_RUNNING && queue.fault !== 0) breakQueue(queue, queue.fault);
  if (queue.state !== QUEUE_RUNNING) {
    endWait(queue);
    return;
  }
  if (isKeptWaiting(queue)) return;
  for (let budget = turnRequests(); ; budget--) {
    const available = hasWork(queue);
    if (available === 0) return;
    if (available < 0) {
      breakQueue(queue, available);
      return;
    }
    disableKicks(queue);
    // Every slot is in use: the completion of one goes on here.
    if (!hasFree()) return;
    if (isHeldBack(queue)) {
      isOneHeldBack = true;
      return;
    }
    if (budget === 0 || !hasSqeRoom()) {
      hasMoreWork = true;
      return;
    }
    if (!submitNext(queue)) return;
    // A long table is a turn's work.
    if (tableRead > <u32>IOVECS_MAX) budget = 1;
  }
}

/**
 * Whether the free slots are for others: a queue that has been given credit may hold its chains for as long as it likes, and
 * what it waits for may come through another. So it leaves one to each queue that has none.
 */
function isHeldBack(queue: Virtqueue): bool {
  if ((queue.flags & QUEUE_F_CREDIT) === 0 || queue.inFlight === 0 || freeCount > activeCount) return false;
  let kept: u32 = 0;
  for (let i: u32 = 0; i < activeCount; i++) {
    if (queueAt(i).state === QUEUE_RUNNING && queueAt(i).inFlight === 0) kept++;
  }
  return freeCount <= kept;
}

/** Whether free requests are being saved up, for this queue or another. */
function isKeptWaiting(queue: Virtqueue): bool {
  if (longQueue === 0) return false;
  if (longQueue !== changetype<usize>(queue) || freeCount < longPlaces) return true;
  endWait(queue);
  return false;
}

function endWait(queue: Virtqueue): void {
  if (longQueue !== changetype<usize>(queue)) return;
  longQueue = 0;
  // Others have waited for it.
  hasMoreWork = true;
}

/** As hasAvailable(). When it returns 0 a kick will come, unless the host is awake or the device has asked for nothing. */
function hasWork(queue: Virtqueue): i32 {
  if (!hasCredit(queue)) {
    disableKicks(queue);
    return 0;
  }
  if (hasLeftovers(queue)) return 1;
  const available = hasAvailable(queue);
  if (available !== 0 || isAwake) return available;
  enableKicks(queue);
  return hasAvailable(queue);
}

/** Takes the next chain and starts its request. False if that must wait for a window, or the chain broke the ring. */
function submitNext(queue: Virtqueue): bool {
  prepareToTake(queue);
  const slot = nextFree();
  const isLeftover = hasLeftovers(queue);
  beginReading(queue.index);
  const parsed = parse(slot, queue, isLeftover);
  if (parsed === MISSED || parsed === PUT_OFF) {
    if (parsed === MISSED) claimWindow(queue.index);
    hasMoreWork = true;
    return false;
  }
  endReading(queue.index);
  if (parsed < 0 || queue.descriptorsInFlight + slot.count > queue.size) {
    breakQueue(queue, parsed < 0 ? parsed : FAULT_TOO_MANY_IN_FLIGHT);
    return false;
  }
  if (slot.overflowVectors !== 0 && freeCount < slotCount) {
    waitForPlaces(queue, slot);
    return false;
  }
  acquire(slot);
  slot.takenAt = clockMs();
  if (isLeftover) takeLeftover(queue, slot);
  else takeChain(queue, slot);
  settleSlot(slot, start(slot, isLeftover));
  return true;
}

/** Those in flight complete, and nobody takes what they leave. With all free, it is as long as it may be. */
function waitForPlaces(queue: Virtqueue, slot: Slot): void {
  longQueue = changetype<usize>(queue);
  longPlaces = min<u32>(slotCount, slot.placeCount + slot.overflowVectors / IOVECS_MAX + 1);
}

/** The next turn reads one chain anew, with one window or copy more. */
function serveMisses(): void {
  if (hasGuestWrites()) {
    outcome |= STEP_GUEST_WRITES;
    hasMoreWork = true;
  }
  if (!grantClaim()) return;
  if (isInsatiable()) {
    breakQueue(queueAt(holder), FAULT_TOO_SCATTERED);
    hasMoreWork = true;
  } else {
    outcome |= STEP_WINDOW_MISS;
  }
}

function breakQueue(queue: Virtqueue, fault: i32): void {
  if (queue.state !== QUEUE_RUNNING) return;
  queue.state = QUEUE_BROKEN;
  queue.fault = fault;
  // It needs no slot any more: the one that was left to it is another's.
  if (isOneHeldBack) hasMoreWork = true;
  outcome |= STEP_BROKEN;
}

// --- Notifications, and the end of a queue --------------------------------------------------------------------------

/** Publishes what is left to publish, and calls the driver if it wants that: at most once a turn. */
function notify(queue: Virtqueue): void {
  publishUsed(queue);
  if (takeCallWish(queue)) queue.callWanted = 1;
  sendCall(queue);
}

/** Keeps a read waiting on the kick eventfd of a queue that runs; lets go of one that is to stop. */
function settle(queue: Virtqueue): void {
  if (queue.state === QUEUE_RUNNING || queue.state === QUEUE_BROKEN) armKick(queue);
  if (queue.state !== QUEUE_STOPPING) return;
  if (queue.suspends !== 0) cancelAll(queue);
  if (queue.inFlight !== 0) return;
  cancelKick(queue);
  cancelCall(queue);
  // A call that is owed goes out first.
  if (queue.kickState !== EVENT_IDLE || queue.callState !== EVENT_IDLE || queue.callWanted !== 0) return;
  queue.state = QUEUE_STOPPED;
  outcome |= STEP_STOPPED;
}

function cancelAll(queue: Virtqueue): void {
  for (let i: u32 = 0; i < slotCount; i++) {
    const slot = slotAt(i);
    if (slot.isFree !== 0 || slot.isCancelled !== 0 || slot.queue !== queue) continue;
    if (!askForRoom()) return;
    slot.isCancelled = 1;
    pushCancel(slot.userData);
  }
  // All have been asked; what follows is up to the engine.
  queue.suspends = 0;
}
