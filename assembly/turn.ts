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
  QUEUE_RUNNING,
  QUEUE_STOPPED,
  QUEUE_STOPPING,
  QUEUE_STRIDE,
  STEP_BROKEN,
  STEP_CONTROL,
  STEP_FAILED,
  STEP_GUEST_WRITES,
  STEP_POLL,
  STEP_STARVED,
  STEP_STOPPED,
  STEP_SYNC_FAILED,
  STEP_WAIT,
  STEP_WINDOW_MISS,
  WORKER_LEFTOVERS,
  WORKER_QUEUES,
  WORKER_SCRATCH,
  WORKER_STRIDE,
  WORKER_ZERO_IOVECS,
  WORKERS_PTR,
} from "./abi/layout.ts";
import { openBounce } from "./block/bounce.ts";
import { turnRequests } from "./block/disk.ts";
import { countRequest, forgetStarvation, isStarved, resumeRequest, startRequest } from "./block/execute.ts";
import { recordFailure, useFailures } from "./block/failures.ts";
import { parseLeftover, parseRequest } from "./block/parse.ts";
import { useZeroVectors } from "./block/ranges.ts";
import { NO_STATUS, Request, SUBMITTED } from "./block/request.ts";
import { forgetFirstFailure, isFirstFailure } from "./block/stability.ts";
import {
  armControl,
  armKick,
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
  takeRoom,
} from "./io/eventfds.ts";
import { clockMs, useStatistics } from "./io/latency.ts";
import {
  acquire,
  freeCount,
  hasFree,
  nextFree,
  openPool,
  release,
  requestAt,
  requestCount,
} from "./io/slots.ts";
import { completionNews, consumeCqe, hasSqeRoom, peekCqe, publishSqes, returnCqes } from "./io/uring.ts";
import { indexOf, TAG_CALL, TAG_CONTROL, TAG_KICK, TAG_REQUEST, tagOf } from "./io/user-data.ts";
import { CQE_RES, CQE_USER_DATA, ECANCELED, EINTR } from "./spec/io-uring.ts";
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from "./spec/virtio-blk.ts";
import { tableRead, useScratch } from "./virtqueue/chain.ts";
import {
  clearGuestWrites,
  copyToGuest,
  DEFERRED,
  hasGuestWrites,
  MISSED,
  PRESENT,
  PUT_OFF,
  useTables,
} from "./virtqueue/guest-memory.ts";
import { hasLeftovers, isTracked } from "./virtqueue/inflight.ts";
import {
  disableKicks,
  enableKicks,
  hasAvailable,
  leaveChain,
  needsCall,
  publishUsed,
  pushUsed,
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

/** Finished requests whose status byte the host writes after this turn: the next one gives them back. */
let firstDeferred: usize = 0;
let lastDeferred: usize = 0;

/** The queue whose next chain waits for so many free requests, since it has more data than one has vectors for. */
let longQueue: usize = 0;
let longPlaces: u32 = 0;

/** The queue that is first in this turn, so that each in turn has the first choice of free requests. */
let firstQueue: u32 = 0;

/** Whether the host looks at the rings by itself, so that no kick is needed. */
let isAwake: bool = false;

let outcome: u32 = 0;
let hasMoreWork: bool = false;

/** Makes this instance worker `index`, with up to `requests` requests in flight. The rings are attached already. */
export function openWorker(index: u32, queues: u32, requests: u32, control: i32): void {
  worker = <usize>WORKERS_PTR + <usize>index * WORKER_STRIDE;
  queueCount = queues;
  firstDeferred = 0;
  longQueue = 0;
  useTables(worker);
  openClaims(queues);
  useScratch(worker + WORKER_SCRATCH);
  useZeroVectors(worker + WORKER_ZERO_IOVECS);
  useStatistics(worker);
  useFailures(worker);
  openEventfds(worker + WORKER_SCRATCH + EVENT_VALUES, control);
  openPool(worker, requests);
  openBounce(worker, index);
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
    if (queue.state === QUEUE_RUNNING && hasAvailable(queue) !== 0) return NEWS_STEP;
  }
  return NEWS_NONE;
}

function turn(awake: bool): u32 {
  isAwake = awake;
  outcome = 0;
  hasMoreWork = false;
  forgetLackOfRoom();
  forgetStarvation();
  forgetFirstFailure();
  endDeferred();
  completeFinished();
  // Now, not after the next requests are built: the driver may be waiting for these.
  for (let i: u32 = 0; i < activeCount; i++) publishUsed(queueAt(i));
  if (++firstQueue >= activeCount) firstQueue = 0;
  beginClaims();
  for (let i = firstQueue; i < activeCount; i++) submitAvailable(queueAt(i));
  for (let i: u32 = 0; i < firstQueue; i++) submitAvailable(queueAt(i));
  serveMisses();
  let isPolled = false;
  for (let i: u32 = 0; i < activeCount; i++) {
    const queue = queueAt(i);
    notify(queue);
    settle(queue);
    if (queue.state === QUEUE_RUNNING && queue.kickFd < 0) isPolled = true;
  }
  while (activeCount > 0 && queueAt(activeCount - 1).state === QUEUE_STOPPED) activeCount--;
  armControl();
  if (lacksRoom) hasMoreWork = true;
  if (isStarved) outcome |= STEP_STARVED;
  if (isFirstFailure) outcome |= STEP_SYNC_FAILED;
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
      if (index < requestCount) completeRequest(requestAt(index), result);
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

function completeRequest(request: Request, result: i32): void {
  if (request.isFree !== 0) return;
  // What was cancelled has touched neither memory nor image any more: a successor does it all again.
  if (request.isCancelled !== 0 && (result === -ECANCELED || result === -EINTR)) {
    leaveChain(request.queue, request);
    release(request);
    return;
  }
  const status = resumeRequest(request, result);
  if (status === VIRTIO_BLK_S_IOERR) {
    recordFailure(request, result);
    outcome |= STEP_FAILED;
  }
  if (status !== SUBMITTED) finish(request, status);
}

/** Ends a request: status byte, used element. The latter comes a turn later where the host writes something of the former. */
function finish(request: Request, status: i32): void {
  request.status = status;
  // The status says that all else is there.
  const written = request.isIdDeferred !== 0 ? DEFERRED : writeStatus(request);
  if (written === DEFERRED) defer(request);
  else end(request, written === PRESENT ? usedLength(request) : 0);
}

/** As copyToGuest(). FAULT_ADDRESS: its memory was taken away while it was in flight, and nobody is there to read it. */
function writeStatus(request: Request): i32 {
  if (request.status === NO_STATUS) return PRESENT;
  return copyToGuest(request.statusGpa, changetype<usize>(request) + offsetof<Request>("status"), 1);
}

/** Bytes written into the chain, the status included. */
function usedLength(request: Request): u32 {
  if (request.status === NO_STATUS) return 0;
  return request.status === VIRTIO_BLK_S_OK ? <u32>request.writtenBytes + 1 : 1;
}

function end(request: Request, length: u32): void {
  countRequest(request, request.status);
  pushUsed(request.queue, request, length);
  release(request);
}

function defer(request: Request): void {
  // No completion or cancellation is its any more.
  request.isFree = 1;
  request.nextDeferred = changetype<Request>(0);
  if (firstDeferred === 0) firstDeferred = changetype<usize>(request);
  else changetype<Request>(lastDeferred).nextDeferred = request;
  lastDeferred = changetype<usize>(request);
}

function endDeferred(): void {
  clearGuestWrites();
  let next = firstDeferred;
  firstDeferred = 0;
  while (next !== 0) {
    const request = changetype<Request>(next);
    next = changetype<usize>(request.nextDeferred);
    if (request.isIdDeferred !== 0) {
      request.isIdDeferred = 0;
      finish(request, request.status);
    } else {
      end(request, usedLength(request));
    }
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
    // Every request is in flight: the completion of one goes on here.
    if (!hasFree()) return;
    if (budget === 0 || !hasSqeRoom()) {
      hasMoreWork = true;
      return;
    }
    if (!submitNext(queue)) return;
    // A long table is a turn's work.
    if (tableRead > <u32>IOVECS_MAX) budget = 1;
  }
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

/** As hasAvailable(). When it returns 0 a kick will come, unless the host is awake. */
function hasWork(queue: Virtqueue): i32 {
  if (hasLeftovers(queue)) return 1;
  const available = hasAvailable(queue);
  if (available !== 0 || isAwake) return available;
  enableKicks(queue);
  return hasAvailable(queue);
}

/** Takes the next chain and starts its request. False if that must wait for a window, or the chain broke the ring. */
function submitNext(queue: Virtqueue): bool {
  // A chain is never recorded amid a batch: its commit would be the batch's too.
  if (isTracked(queue)) publishUsed(queue);
  const request = nextFree();
  const isLeftover = hasLeftovers(queue);
  beginReading(queue.index);
  const parsed = isLeftover ? parseLeftover(request, queue) : parseRequest(request, queue);
  if (parsed === MISSED || parsed === PUT_OFF) {
    if (parsed === MISSED) claimWindow(queue.index);
    hasMoreWork = true;
    return false;
  }
  endReading(queue.index);
  if (parsed < 0 || queue.descriptorsInFlight + request.count > queue.size) {
    breakQueue(queue, parsed < 0 ? parsed : FAULT_TOO_MANY_IN_FLIGHT);
    return false;
  }
  if (request.overflowBytes !== 0 && freeCount < requestCount) {
    waitForPlaces(queue, request);
    return false;
  }
  acquire(request);
  request.takenAt = clockMs();
  if (isLeftover) takeLeftover(queue, request);
  else takeChain(queue, request);
  const status = startRequest(request, isLeftover);
  if (status !== SUBMITTED) finish(request, status);
  return true;
}

/** Those in flight complete, and nobody takes what they leave. With all free, it is as long as it may be. */
function waitForPlaces(queue: Virtqueue, request: Request): void {
  longQueue = changetype<usize>(queue);
  longPlaces = min<u32>(requestCount, request.placeCount + request.overflowVectors / IOVECS_MAX + 1);
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
  outcome |= STEP_BROKEN;
}

// --- Notifications, and the end of a queue --------------------------------------------------------------------------

/** Publishes what is left to publish, and calls the driver if it wants that: at most once a turn. */
function notify(queue: Virtqueue): void {
  publishUsed(queue);
  if (needsCall(queue)) queue.callWanted = 1;
  sendCall(queue);
}

/** Keeps a read waiting on the kick eventfd of a queue that runs; lets go of one that is to stop. */
function settle(queue: Virtqueue): void {
  if (queue.state === QUEUE_RUNNING || queue.state === QUEUE_BROKEN) armKick(queue);
  if (queue.state !== QUEUE_STOPPING) return;
  if (queue.suspends !== 0) cancelRequests(queue);
  if (queue.inFlight !== 0) return;
  cancelKick(queue);
  cancelCall(queue);
  // A call that is owed goes out first.
  if (queue.kickState !== EVENT_IDLE || queue.callState !== EVENT_IDLE || queue.callWanted !== 0) return;
  queue.state = QUEUE_STOPPED;
  outcome |= STEP_STOPPED;
}

function cancelRequests(queue: Virtqueue): void {
  for (let i: u32 = 0; i < requestCount; i++) {
    const request = requestAt(i);
    if (request.isFree !== 0 || request.isCancelled !== 0 || request.queue !== queue) continue;
    if (!takeRoom()) return;
    request.isCancelled = 1;
    pushCancel(request.userData);
  }
  // All have been asked; what follows is up to the engine.
  queue.suspends = 0;
}
