// A worker's turn: completions in, used buffers out; available buffers in, operations out. Never waits, never calls out.

import { countRequest, forgetStarvation, isStarved, resumeRequest, startRequest } from "./block-request.ts";
import { openBounce } from "./bounce.ts";
import { useScratch } from "./descriptor-chain.ts";
import { turnRequests } from "./disk.ts";
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
} from "./eventfds.ts";
import { gpaToPtr, MISSED, useWindowTable, whyAbsent } from "./guest-memory.ts";
import { hasLeftovers, isTracked } from "./inflight.ts";
import { clockMs, useStatistics } from "./latency.ts";
import { useZeroVectors } from "./ranges.ts";
import { NO_STATUS, Request, SUBMITTED } from "./request.ts";
import { parseLeftover, parseRequest } from "./request-parser.ts";
import { acquire, hasFree, nextFree, openPool, release, requestAt, requestCount } from "./request-pool.ts";
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
} from "./ring.ts";
import { CQE_RES, CQE_USER_DATA, ECANCELED, EINTR } from "./spec/io-uring.ts";
import {
  FAULT_KICK_FD,
  FAULT_TOO_MANY_IN_FLIGHT,
  FAULT_TOO_SCATTERED,
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
  WORKER_WINDOW_TABLE,
  WORKER_ZERO_IOVECS,
  WORKERS_PTR,
} from "./spec/layout.ts";
import { forgetFirstFailure, isFirstFailure } from "./stability.ts";
import { completionNews, consumeCqe, hasSqeRoom, peekCqe, publishSqes, returnCqes } from "./uring.ts";
import { indexOf, TAG_CALL, TAG_CONTROL, TAG_KICK, TAG_REQUEST, tagOf } from "./user-data.ts";
import { EVENT_IDLE, Virtqueue } from "./virtqueue.ts";

/** Windows mapped in a row for one chain. */
const MISSES_MAX: u32 = 256;

/** In the scratch area, behind the 64 bytes of descriptor-chain.ts. */
const EVENT_VALUES: usize = 64;

let worker: usize = 0;
let queueCount: u32 = 0;

/** A finished request whose status byte no window shows yet. */
let parked: usize = 0;
let parkedStatus: i32 = 0;

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
  parked = 0;
  useWindowTable(worker + WORKER_WINDOW_TABLE);
  useScratch(worker + WORKER_SCRATCH);
  useZeroVectors(worker + WORKER_ZERO_IOVECS);
  useStatistics(worker);
  openEventfds(worker + WORKER_SCRATCH + EVENT_VALUES, control);
  openPool(worker, requests);
  openBounce(worker, index);
  for (let i: u32 = 0; i < queues; i++) {
    const queue = queueAt(i);
    queue.index = i;
    queue.leftovers = worker + WORKER_LEFTOVERS + <usize>i * LEFTOVERS_STRIDE;
  }
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
  if (completions !== NEWS_NONE || !hasFree()) return completions;
  for (let i: u32 = 0; i < queueCount; i++) {
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
  if (finishParked()) {
    completeFinished();
    // Now, not after the next requests are built: the driver may be waiting for these.
    for (let i: u32 = 0; i < queueCount; i++) publishUsed(queueAt(i));
    if (++firstQueue >= queueCount) firstQueue = 0;
    for (let i = firstQueue; i < queueCount; i++) submitAvailable(queueAt(i));
    for (let i: u32 = 0; i < firstQueue; i++) submitAvailable(queueAt(i));
  }
  let isPolled = false;
  for (let i: u32 = 0; i < queueCount; i++) {
    const queue = queueAt(i);
    notify(queue);
    settle(queue);
    if (queue.state === QUEUE_RUNNING && queue.kickFd < 0) isPolled = true;
  }
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
  while (parked === 0) {
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
  if (status !== SUBMITTED) finish(request, status);
}

/** Ends a request: status byte, used element. Parks it, and returns, if no window shows the status byte. */
function finish(request: Request, status: i32): void {
  const length = writeStatus(request, status);
  if (length < 0) {
    parked = changetype<usize>(request);
    parkedStatus = status;
    outcome |= STEP_WINDOW_MISS;
    hasMoreWork = true;
    return;
  }
  countRequest(request, status);
  pushUsed(request.queue, request, <u32>length);
  release(request);
}

/** Bytes written into the chain, or -1 if the status byte's window is missing. */
function writeStatus(request: Request, status: i32): i64 {
  if (status === NO_STATUS) return 0;
  const ptr = gpaToPtr(request.statusGpa, 1);
  // Without a region, its memory was taken away while it was in flight: there is nobody to read a status.
  if (ptr === 0) return whyAbsent(request.statusGpa) === MISSED ? -1 : 0;
  store<u8>(ptr, <u8>status);
  return status === 0 ? request.writtenBytes + 1 : 1;
}

function finishParked(): bool {
  if (parked === 0) return true;
  const request = changetype<Request>(parked);
  parked = 0;
  finish(request, parkedStatus);
  return parked === 0;
}

// --- Available chains -----------------------------------------------------------------------------------------------

function submitAvailable(queue: Virtqueue): void {
  if (queue.state !== QUEUE_RUNNING) return;
  if (queue.fault !== 0) {
    breakQueue(queue, queue.fault);
    return;
  }
  for (let budget = turnRequests(); ; budget--) {
    if (parked !== 0) return;
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
  }
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
  const parsed = isLeftover ? parseLeftover(request, queue) : parseRequest(request, queue);
  if (parsed === MISSED) {
    missWindow(queue);
    return false;
  }
  if (parsed < 0 || queue.descriptorsInFlight + request.count > queue.size) {
    breakQueue(queue, parsed < 0 ? parsed : FAULT_TOO_MANY_IN_FLIGHT);
    return false;
  }
  queue.misses = 0;
  acquire(request);
  request.takenAt = clockMs();
  if (isLeftover) takeLeftover(queue, request);
  else takeChain(queue, request);
  const status = startRequest(request);
  if (status !== SUBMITTED) finish(request, status);
  return true;
}

/** The next turn reads the chain anew, with one more window. One that never fits all windows at once must not go on. */
function missWindow(queue: Virtqueue): void {
  if (++queue.misses > MISSES_MAX) {
    breakQueue(queue, FAULT_TOO_SCATTERED);
    return;
  }
  outcome |= STEP_WINDOW_MISS;
  hasMoreWork = true;
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
