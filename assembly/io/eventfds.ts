// Kicks, calls and the control eventfd, as operations of the engine: armed, written and taken back. One of each at a time.

import { FAULT_KICK_FD } from "../abi/faults.ts";
import {
  EAGAIN,
  ECANCELED,
  EINTR,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_READ,
  IORING_OP_WRITE,
} from "../spec/io-uring.ts";
import { EVENT_CANCELLED, EVENT_IDLE, EVENT_PENDING, Virtqueue } from "../virtqueue/state.ts";
import { askForTurn, memoryHostAddress } from "./host.ts";
import { hasSqeRoom, pushSqe, TAG_CALL, TAG_CANCEL, TAG_CONTROL, TAG_KICK, userDataOf } from "./uring.ts";

/** What eventfds read and write, as offsets from `values`. */
const CONTROL_VALUE: usize = 0;
const CALL_VALUE: usize = 8;

let values: usize = 0;
let controlFd: i32 = -1;
let controlState: u32 = EVENT_IDLE;

/** `valuesPtr`: 16 bytes for what is read and written. */
export function openEventfds(valuesPtr: usize, control: i32): void {
  values = valuesPtr;
  controlFd = control;
  controlState = EVENT_IDLE;
  store<u64>(values, 1, CALL_VALUE);
}

/** Whether one more entry can be pushed. If not, the next turn comes without waiting. */
export function askForRoom(): bool {
  if (hasSqeRoom()) return true;
  askForTurn();
  return false;
}

/** Keeps a read waiting on the kick eventfd. */
export function armKick(queue: Virtqueue): void {
  if (queue.kickFd < 0 || queue.kickState !== EVENT_IDLE || queue.fault === FAULT_KICK_FD || !askForRoom())
    return;
  queue.kickState = EVENT_PENDING;
  const value = changetype<usize>(queue) + offsetof<Virtqueue>("kickValue");
  pushEvent(IORING_OP_READ, queue.kickFd, value, userDataOf(TAG_KICK, queue.index));
}

/** False if the descriptor can't be read. */
export function completeKick(queue: Virtqueue, result: i32): bool {
  queue.kickState = EVENT_IDLE;
  if (result > 0) queue.kicks++;
  return result > 0 || result === -ECANCELED || result === -EINTR || result === -EAGAIN;
}

export function cancelKick(queue: Virtqueue): void {
  if (queue.kickState !== EVENT_PENDING || !askForRoom()) return;
  queue.kickState = EVENT_CANCELLED;
  pushCancel(userDataOf(TAG_KICK, queue.index));
}

/** Writes the call eventfd, if the driver is owed a call. */
export function sendCall(queue: Virtqueue): void {
  // One write at a time: a front-end that fills its eventfd to the brim makes the kernel hold one request, not many.
  if (queue.callWanted === 0 || queue.callState !== EVENT_IDLE) return;
  if (queue.callFd < 0) {
    queue.callWanted = 0;
    return;
  }
  if (!askForRoom()) return;
  queue.callWanted = 0;
  queue.callState = EVENT_PENDING;
  queue.calls++;
  pushEvent(IORING_OP_WRITE, queue.callFd, values + CALL_VALUE, userDataOf(TAG_CALL, queue.index));
}

/** A call that an engine gave up unasked is still owed. */
export function completeCall(queue: Virtqueue, result: i32): void {
  if (result === -ECANCELED && queue.callState === EVENT_PENDING) queue.callWanted = 1;
  queue.callState = EVENT_IDLE;
}

export function cancelCall(queue: Virtqueue): void {
  if (queue.callState !== EVENT_PENDING || !askForRoom()) return;
  queue.callState = EVENT_CANCELLED;
  pushCancel(userDataOf(TAG_CALL, queue.index));
}

/** Keeps a read waiting on the control eventfd. */
export function armControl(): void {
  if (controlState !== EVENT_IDLE || !askForRoom()) return;
  controlState = EVENT_PENDING;
  pushEvent(IORING_OP_READ, controlFd, values + CONTROL_VALUE, userDataOf(TAG_CONTROL, 0));
}

export function completeControl(): void {
  controlState = EVENT_IDLE;
}

/** Asks the engine to cancel the operation with this user_data. Only after askForRoom(). */
export function pushCancel(target: u64): void {
  pushSqe(IORING_OP_ASYNC_CANCEL, -1, 0, target, 0, 0, userDataOf(TAG_CANCEL, <u32>target));
}

function pushEvent(opcode: u32, fd: i32, value: usize, userData: u64): void {
  pushSqe(opcode, fd, 0, memoryHostAddress() + value, 8, 0, userData);
}
