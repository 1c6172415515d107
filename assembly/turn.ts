// A worker's turn: completions in, used buffers out; available buffers in, operations out. Never waits, never calls out.

import { FAULT_KICK_FD, FAULT_TOO_MANY_IN_FLIGHT, FAULT_TOO_SCATTERED } from "./abi/faults.ts";
import { WORKER_STRIDE, WORKERS_PTR } from "./abi/memory.ts";
import { QUEUE_BROKEN, QUEUE_RUNNING, QUEUE_STOPPED, QUEUE_STOPPING } from "./abi/queue.ts";
import {
  NEWS_NONE,
  NEWS_STEP,
  STEP_BROKEN,
  STEP_CONTROL,
  STEP_GUEST_WRITES,
  STEP_POLL,
  STEP_STOPPED,
  STEP_WAIT,
  STEP_WINDOW_MISS,
} from "./abi/step.ts";
import { IOVECS_MAX, WORKER_SCRATCH } from "./abi/worker.ts";
import {
  admit,
  afterHost,
  isShareSpent,
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
  openEventfds,
  pushCancel,
  sendCall,
} from "./io/eventfds.ts";
import { areLimited, askForTurn, beginTelling, isTurnDue, tellHost, told, turnRequests } from "./io/host.ts";
import {
  acquire,
  endSaving,
  freeCount,
  hasFree,
  isHeldBack,
  isSavedUp,
  isWaiting,
  nextFree,
  openSlots,
  passStray,
  release,
  Slot,
  saveUp,
  slotAt,
  slotCount,
  takeWaiting,
  waitForHost,
} from "./io/slots.ts";
import { clockMs, useStatistics } from "./io/statistics.ts";
import { endThrottling, isThrottled, throttle } from "./io/throttle.ts";
import {
  completionNews,
  consumeCqe,
  hasSqeRoom,
  indexOf,
  peekCqe,
  publishSqes,
  returnCqes,
  TAG_CALL,
  TAG_CONTROL,
  TAG_KICK,
  TAG_REQUEST,
  tagOf,
} from "./io/uring.ts";
import { CQE_RES, CQE_USER_DATA, ECANCELED, EINTR } from "./spec/io-uring.ts";
import { tableRead, useScratch } from "./virtqueue/chain.ts";
import { isLogging, switchLogging } from "./virtqueue/dirty-log.ts";
import { clearGuestWrites, hasGuestWrites, useTables } from "./virtqueue/guest-memory.ts";
import {
  disableKicks,
  enableKicks,
  hasCredit,
  leaveChain,
  logRing,
  lookForChain,
  parkChain,
  prepareToTake,
  publishUsed,
  pushUsed,
  takeCallWish,
  takeChain,
  takeLeftover,
} from "./virtqueue/queue.ts";
import {
  AVAILABLE,
  DONE,
  EMPTY,
  MISSED,
  PARKED,
  PRESENT,
  PUT_OFF,
  WAITS_FOR_HOST,
} from "./virtqueue/results.ts";
import {
  activeCount,
  EVENT_IDLE,
  forgetStopped,
  openQueues,
  queueAt,
  queueCount,
  Virtqueue,
} from "./virtqueue/state.ts";
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

/** In the scratch area, behind the 64 bytes of virtqueue/chain.ts. */
const EVENT_VALUES: usize = 64;

/** The queue that comes first in this turn: each queue in its turn has the first choice of free slots. */
let firstQueue: u32 = 0;

/** Whether the host looks at the rings by itself, so that no kick is needed. */
let isAwake: bool = false;

/** Whether a queue has found free slots and left them to others in this turn. */
let isOneHeldBack: bool = false;

/** Makes this instance worker `index`, with up to `requests` requests in flight. The rings are attached already. */
export function openWorker(index: u32, queues: u32, requests: u32, control: i32): void {
  const worker = <usize>WORKERS_PTR + <usize>index * WORKER_STRIDE;
  switchLogging(false);
  openQueues(worker, queues);
  useTables(worker);
  openClaims(queues);
  useScratch(worker + WORKER_SCRATCH);
  useStatistics(worker);
  openEventfds(worker + WORKER_SCRATCH + EVENT_VALUES, control);
  openSlots(worker, requests);
  openDevice(worker, index);
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
  if (completions !== NEWS_NONE || !hasFree() || isSavedUp()) return completions;
  for (let i: u32 = 0; i < activeCount; i++) {
    const queue = queueAt(i);
    // A fault is news too.
    if (queue.state !== QUEUE_RUNNING || !hasCredit(queue) || isHeldBack(queue)) continue;
    // The host asks again when its wait is over.
    if (queue.throttledUntil !== 0) continue;
    if (lookForChain(queue) !== EMPTY) return NEWS_STEP;
  }
  return NEWS_NONE;
}

function turn(awake: bool): u32 {
  isAwake = awake;
  beginTelling();
  isOneHeldBack = false;
  endWaiting();
  completeFinished();
  // Before new requests are built: the driver may be waiting for what was used.
  for (let i: u32 = 0; i < activeCount; i++) publishUsed(queueAt(i));
  if (++firstQueue >= activeCount) firstQueue = 0;
  if (areLimited) preferLongestWaiting();
  beginClaims();
  for (let i = firstQueue; i < activeCount; i++) submitAvailable(queueAt(i));
  for (let i: u32 = 0; i < firstQueue; i++) submitAvailable(queueAt(i));
  serveMisses();
  let isPolled = waitsForOthers();
  for (let i: u32 = 0; i < activeCount; i++) {
    const queue = queueAt(i);
    notify(queue);
    if (isLogging && queue.state !== QUEUE_STOPPED) logRing(queue);
    settle(queue);
    if (queue.state === QUEUE_RUNNING && queue.kickFd < 0) isPolled = true;
  }
  forgetStopped();
  armControl();
  // The host looks for commands before it sleeps.
  if (!isTurnDue && (told & STEP_CONTROL) === 0) tellHost(isPolled ? STEP_POLL : STEP_WAIT);
  return told | publishSqes();
}

// --- Completions ----------------------------------------------------------------------------------------------------

function completeFinished(): void {
  while (true) {
    const cqe = peekCqe();
    if (cqe === 0) break;
    // Any completion leads to one entry at the most.
    if (!hasSqeRoom()) {
      askForTurn();
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
      else passStray();
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
      tellHost(STEP_CONTROL);
      break;
  }
}

function completeSlot(slot: Slot, result: i32): void {
  if (slot.hasOperation === 0) {
    passStray();
    return;
  }
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
      waitForHost(slot);
      break;
    case PARKED:
      parkChain(slot.queue, slot);
      release(slot);
      break;
  }
}

function endWaiting(): void {
  clearGuestWrites();
  let next = takeWaiting();
  while (next !== 0) {
    const slot = changetype<Slot>(next);
    next = changetype<usize>(slot.nextWaiting);
    settleSlot(slot, afterHost(slot));
  }
}

// --- Available chains -----------------------------------------------------------------------------------------------

function submitAvailable(queue: Virtqueue): void {
  if (queue.state === QUEUE_RUNNING && queue.fault !== 0) breakQueue(queue, queue.fault);
  const isRunning = queue.state === QUEUE_RUNNING;
  if (isRunning && isWaiting(queue)) return;
  // Others have waited for what was saved up for it.
  if (endSaving(queue)) askForTurn();
  if (!isRunning || (queue.throttledUntil !== 0 && isThrottled(queue))) return;
  for (let budget = turnRequests(); ; budget--) {
    const found = lookForWork(queue);
    if (found === EMPTY) return;
    if (found !== AVAILABLE) {
      breakQueue(queue, found);
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
      askForTurn();
      return;
    }
    if (!submitNext(queue)) return;
    // A long table is a turn's work, and so is a share of what limits allow.
    if (tableRead > <u32>IOVECS_MAX || (areLimited && isShareSpent())) budget = 1;
  }
}

/** As lookForChain(). When it is EMPTY a kick will come, unless the host is awake or the device has asked for nothing. */
function lookForWork(queue: Virtqueue): i32 {
  if (!hasCredit(queue)) {
    disableKicks(queue);
    return EMPTY;
  }
  if (queue.hasLeftovers) return AVAILABLE;
  const found = lookForChain(queue);
  if (found !== EMPTY || isAwake) return found;
  enableKicks(queue);
  return lookForChain(queue);
}

/** Takes the next chain and starts its request. False if the chain must wait (for a window, or for slots), or has broken the ring. */
function submitNext(queue: Virtqueue): bool {
  prepareToTake(queue);
  const slot = nextFree();
  const isLeftover = queue.hasLeftovers;
  beginReading(queue.index);
  const parsed = parse(slot, queue, isLeftover);
  if (parsed === MISSED || parsed === PUT_OFF) {
    if (parsed === MISSED) claimWindow(queue.index);
    askForTurn();
    return false;
  }
  endReading(queue.index);
  if (parsed !== PRESENT || queue.descriptorsInFlight + slot.count > queue.size) {
    breakQueue(queue, parsed !== PRESENT ? parsed : FAULT_TOO_MANY_IN_FLIGHT);
    return false;
  }
  if (slot.overflowVectors !== 0 && freeCount < slotCount) {
    saveUp(queue, slot);
    return false;
  }
  // What a predecessor has taken was taken into account.
  if (areLimited && !isLeftover) {
    const waitNs = admit(slot);
    if (waitNs !== 0) {
      throttle(queue, waitNs);
      return false;
    }
  }
  if (queue.throttledSince !== 0) endThrottling(queue);
  acquire(slot);
  slot.takenAt = clockMs();
  if (isLeftover) takeLeftover(queue, slot);
  else takeChain(queue, slot);
  settleSlot(slot, start(slot, isLeftover));
  return true;
}

/** The next turn reads one chain anew, with one window or copy more. */
function serveMisses(): void {
  if (hasGuestWrites()) {
    tellHost(STEP_GUEST_WRITES);
    askForTurn();
  }
  if (!grantClaim()) return;
  if (isInsatiable()) {
    breakQueue(queueAt(holder), FAULT_TOO_SCATTERED);
    askForTurn();
  } else {
    tellHost(STEP_WINDOW_MISS);
  }
}

function breakQueue(queue: Virtqueue, fault: i32): void {
  if (queue.state !== QUEUE_RUNNING) return;
  queue.state = QUEUE_BROKEN;
  queue.fault = fault;
  // The slot that another queue left to this one is free for that queue now.
  if (isOneHeldBack) askForTurn();
  tellHost(STEP_BROKEN);
}

/** What a limit lets through goes to the queue that has waited longest: turns may come in a rhythm that favours one. */
function preferLongestWaiting(): void {
  let since: u64 = u64.MAX_VALUE;
  for (let i: u32 = 0; i < activeCount; i++) {
    const waited = queueAt(i).throttledSince;
    if (waited === 0 || waited >= since) continue;
    since = waited;
    firstQueue = i;
  }
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
  if (!ASC_NO_ASSERT) assert(queue.descriptorsInFlight === 0 && queue.staged === 0, "something is left");
  queue.state = QUEUE_STOPPED;
  tellHost(STEP_STOPPED);
}

function cancelAll(queue: Virtqueue): void {
  for (let i: u32 = 0; i < slotCount; i++) {
    const slot = slotAt(i);
    if (slot.hasOperation === 0 || slot.isCancelled !== 0 || slot.queue !== queue) continue;
    if (!askForRoom()) return;
    slot.isCancelled = 1;
    pushCancel(slot.userData);
  }
  // All have been asked; what follows is up to the engine.
  queue.suspends = 0;
}
