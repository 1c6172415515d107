// turn.ts: the turns of a worker. What is taken, who is told, and what happens when something runs out.

import { DEVICE_ID, DEVICE_TURN_REQUESTS } from "../../assembly/abi/device-block.ts";
import {
  FAULT_AVAIL_RAN_AHEAD,
  FAULT_CHAIN_TOO_LONG,
  FAULT_HEAD_PAST_QUEUE,
  FAULT_KICK_FD,
  FAULT_TOO_MANY_IN_FLIGHT,
  FAULT_TOO_SCATTERED,
} from "../../assembly/abi/faults.ts";
import { ENTRY_LENGTH } from "../../assembly/abi/guest-memory.ts";
import { DEVICE_PTR, GUEST_PTR, WORKER_STRIDE, WORKERS_MAX, WORKERS_PTR } from "../../assembly/abi/memory.ts";
import { QUEUE_CALLS, QUEUE_KICKS, QUEUE_STRIDE } from "../../assembly/abi/queue.ts";
import {
  NEWS_ENTER,
  NEWS_NONE,
  NEWS_STEP,
  STEP_BROKEN,
  STEP_CONTROL,
  STEP_GUEST_WRITES,
  STEP_POLL,
  STEP_STOPPED,
  STEP_SUBMIT_MASK,
  STEP_WAIT,
  STEP_WINDOW_MISS,
} from "../../assembly/abi/step.ts";
import {
  REQUESTS_MAX,
  WORKER_COPIES,
  WORKER_QUEUES,
  WORKER_WINDOW_TABLE,
  WORKER_ZERO_IOVECS,
} from "../../assembly/abi/worker.ts";
import {
  isStopped,
  missedGpa,
  news,
  openWorker,
  queueBase,
  queueFault,
  setCallFd,
  step,
  stepAwake,
  stopQueue,
  suspendQueue,
  trackInflight,
} from "../../assembly/index.ts";
import { allowStray } from "../../assembly/io/slots.ts";
import { SPLIT_ENTRIES, SPLIT_ENTRY_INFLIGHT } from "../../assembly/spec/inflight.ts";
import {
  EAGAIN,
  ECANCELED,
  EINTR,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_READ,
  IORING_OP_WRITE,
  IORING_SQ_TASKRUN,
} from "../../assembly/spec/io-uring.ts";
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
} from "../../assembly/spec/virtio-blk.ts";
import {
  AVAIL_IDX,
  DESC_FLAGS,
  DESC_NEXT,
  EVENT_FLAGS,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../../assembly/spec/virtqueue.ts";
import {
  addRange,
  allocate,
  beginRanges,
  beginRequest,
  CALL_FD,
  CONTROL_FD,
  cancelCount,
  clearLog,
  complete,
  countFor,
  Driver,
  EVENT_IDX,
  endRequest,
  expectUsed,
  finish,
  headerOf,
  hideFromWindows,
  hostOf,
  KICK_FD,
  lastCancel,
  lastFor,
  lastOperation,
  lendCopy,
  MEMORY_HOST,
  offerPlain,
  offerRanges,
  offerRead,
  offerWrite,
  openCore,
  operation,
  operationCount,
  PackedDriver,
  PLAIN_PTR,
  postCqe,
  ptrOf,
  RAM_GPA,
  RAM_PTR,
  RAM_SIZE,
  readable,
  SplitDriver,
  SQ_FLAGS,
  Sqe,
  STATUS_UNWRITTEN,
  setDevice,
  setEntry,
  setRegion,
  setWindow,
  showAll,
  statusByte,
  statusGpa,
  TURN_REQUESTS,
  takeSqes,
  turn,
  vectorBase,
  writable,
  writeForCore,
} from "./support.ts";

const OK: u8 = <u8>VIRTIO_BLK_S_OK;
const IOERR: u8 = <u8>VIRTIO_BLK_S_IOERR;
const EIO: i32 = 5;

const BUDGET: i32 = <i32>TURN_REQUESTS;

let queue: SplitDriver = new SplitDriver();
let other: SplitDriver = new SplitDriver();

/** One queue, started; its kick and the control eventfd are being read. */
function begin(): void {
  openCore();
  queue = new SplitDriver();
  queue.start();
  turn();
}

/** Two queues of `size`, for `requestCount` requests in flight. */
function beginTwo(size: u32, requestCount: u32, sqEntryCount: u32): void {
  openCore(2, requestCount, sqEntryCount);
  queue = new SplitDriver(0, size);
  other = new SplitDriver(1, size);
  queue.start();
  other.start();
  while ((turn() & STEP_WAIT) === 0) {}
}

function counterOf(index: u32, counter: i32): u64 {
  return load<u64>(WORKERS_PTR + WORKER_QUEUES + index * QUEUE_STRIDE + counter);
}

/** Offers `count` reads of a sector each, by indirect tables: as many as the ring has slots fit in it. */
function offerReads(driver: Driver, count: i32, sector: u64 = 0): void {
  const data = allocate(512);
  const header = headerOf(VIRTIO_BLK_T_IN, sector);
  for (let i = 0; i < count; i++) {
    readable(header, 16);
    writable(data, 512);
    endRequest();
    driver.offerTable();
  }
}

function hasReadSector(sector: u64): bool {
  for (let i = 0; i < operationCount(); i++) if (operation(i).offset === sector * 512) return true;
  return false;
}

function usedBy(driver: Driver): i32 {
  let count = 0;
  while (driver.takeUsed()) count++;
  return count;
}

function pointerOf(sqe: Sqe): usize {
  return <usize>(sqe.address - MEMORY_HOST);
}

/** Whether the core asks its host to come back at once. */
function wantsAnotherTurn(outcome: u32): bool {
  return (outcome & (STEP_WAIT | STEP_POLL)) === 0;
}

function expectBit(outcome: u32, bit: u32, isSet: bool): void {
  expect((outcome & bit) !== 0).toBe(isSet);
}

function stopAndCancel(): void {
  stopQueue(0);
  turn();
  postCqe(lastFor(KICK_FD).userData, -ECANCELED);
  turn();
}

describe("an idle worker", () => {
  test("It reads the control eventfd, eight bytes, and waits.", () => {
    openCore();
    const outcome = turn();
    expectBit(outcome, STEP_WAIT, true);
    expect(outcome & STEP_SUBMIT_MASK).toBe(1);
    const sqe = lastFor(CONTROL_FD);
    expect<u32>(sqe.opcode).toBe(IORING_OP_READ);
    expect(sqe.length).toBe(8);
    expect(sqe.offset).toBe(0);
  });

  test("It reads the kick eventfd of a queue that has started.", () => {
    openCore();
    queue = new SplitDriver();
    queue.start();
    expect(turn() & STEP_SUBMIT_MASK).toBe(2);
    const sqe = lastFor(KICK_FD);
    expect<u32>(sqe.opcode).toBe(IORING_OP_READ);
    expect(sqe.length).toBe(8);
  });

  test("It has one read in flight for each eventfd, however many turns it takes.", () => {
    begin();
    for (let i = 0; i < 10; i++) expect(turn()).toBe(STEP_WAIT);
    expect(countFor(KICK_FD)).toBe(1);
    expect(countFor(CONTROL_FD)).toBe(1);
  });

  test("It polls while a queue without a kick eventfd runs.", () => {
    openCore();
    queue = new SplitDriver();
    queue.kickFd = -1;
    queue.start();
    const outcome = turn();
    expectBit(outcome, STEP_POLL, true);
    expectBit(outcome, STEP_WAIT, false);
  });

  test("It does not poll for a queue that has stopped.", () => {
    openCore();
    queue = new SplitDriver();
    queue.kickFd = -1;
    queue.start();
    turn();
    stopQueue(0);
    turn();
    expectBit(turn(), STEP_WAIT, true);
  });

  test("Queues that never started are left alone.", () => {
    openCore(4);
    expect(turn() & STEP_SUBMIT_MASK).toBe(1);
    expect(isStopped(3)).toBe(true);
  });

  test("Several queues are read from at places of their own.", () => {
    beginTwo(8, 8, 64);
    expect(pointerOf(lastFor(KICK_FD))).not.toBe(pointerOf(lastFor(KICK_FD + 1)));
  });
});

/** Makes this worker `index`, with all guest memory in its own window. */
function beginWorker(index: u32): void {
  openCore();
  const worker = WORKERS_PTR + index * WORKER_STRIDE;
  memory.fill(worker, 0, WORKER_ZERO_IOVECS);
  memory.fill(worker + WORKER_QUEUES, 0, QUEUE_STRIDE);
  setEntry(worker + WORKER_WINDOW_TABLE, 0, RAM_GPA, RAM_SIZE, RAM_PTR);
  openWorker(index, 1, 4, CONTROL_FD);
  queue = new SplitDriver();
  queue.start();
}

describe("the part of memory that a worker has", () => {
  test("Each has its own, up to the last, which ends below guest memory.", () => {
    for (let i = 0; i < WORKERS_MAX; i += WORKERS_MAX - 1) {
      beginWorker(i);
      turn();
      const kickValue = pointerOf(lastFor(KICK_FD));
      expect(kickValue).toBeGreaterThanOrEqual(WORKERS_PTR + i * WORKER_STRIDE);
      expect(kickValue).toBeLessThan(WORKERS_PTR + (i + 1) * WORKER_STRIDE);
    }
    expect(WORKERS_PTR + WORKERS_MAX * WORKER_STRIDE).toBeLessThanOrEqual(GUEST_PTR);
  });

  test("Any of them serves requests.", () => {
    beginWorker(WORKERS_MAX - 1);
    beginRequest(VIRTIO_BLK_T_IN, 0);
    const first = allocate(512);
    const second = allocate(512);
    writable(first, 512);
    writable(second, 512);
    endRequest();
    queue.offer();
    turn();
    expect(vectorBase(lastOperation(), 1)).toBe(hostOf(second));
    finish(1024);
    expectUsed(queue, OK, 1025);
  });

  test("It has no more requests than there is room for, however many are asked for.", () => {
    openCore(1, 2 * REQUESTS_MAX, 4096);
    queue = new SplitDriver(0, 2048);
    queue.start();
    offerReads(queue, REQUESTS_MAX + 100);
    while (wantsAnotherTurn(turn())) {}
    expect(operationCount()).toBe(REQUESTS_MAX);
  });
});

describe("kicks", () => {
  beforeEach(begin);

  test("A kick is followed by the next read.", () => {
    complete(lastFor(KICK_FD), 8);
    turn();
    expect(countFor(KICK_FD)).toBe(2);
    expect(counterOf(0, QUEUE_KICKS)).toBe(1);
  });

  test("What was made available before a kick is taken with it.", () => {
    offerRead(queue, 0, 512);
    complete(lastFor(KICK_FD), 8);
    turn();
    expect(operationCount()).toBe(1);
  });

  test("A read that was interrupted or refused for now is no kick, and is submitted again.", () => {
    complete(lastFor(KICK_FD), -EINTR);
    turn();
    complete(lastFor(KICK_FD), -EAGAIN);
    turn();
    expect(countFor(KICK_FD)).toBe(3);
    expect(counterOf(0, QUEUE_KICKS)).toBe(0);
    expect(queueFault(0)).toBe(0);
  });

  test("An eventfd that can't be read breaks its queue, and is read no more.", () => {
    complete(lastFor(KICK_FD), -EIO);
    expectBit(turn(), STEP_BROKEN, true);
    expect(queueFault(0)).toBe(FAULT_KICK_FD);
    turn();
    expect(countFor(KICK_FD)).toBe(1);
  });

  test("So does one that is no eventfd: a read of nothing.", () => {
    complete(lastFor(KICK_FD), 0);
    turn();
    expect(queueFault(0)).toBe(FAULT_KICK_FD);
  });

  test("A queue that the guest broke is listened to still, so that kicks do not pile up.", () => {
    queue.publish(0xffff);
    turn();
    complete(lastFor(KICK_FD), 8);
    turn();
    expect(countFor(KICK_FD)).toBe(2);
  });
});

describe("the control eventfd", () => {
  beforeEach(begin);

  test("A command is told to the host at once, and the next one is listened for.", () => {
    complete(lastFor(CONTROL_FD), 8);
    const outcome = turn();
    expectBit(outcome, STEP_CONTROL, true);
    expect(wantsAnotherTurn(outcome)).toBe(true);
    expect(countFor(CONTROL_FD)).toBe(2);
  });

  test("It is told once.", () => {
    complete(lastFor(CONTROL_FD), 8);
    turn();
    expect(turn()).toBe(STEP_WAIT);
  });
});

describe("calls", () => {
  beforeEach(begin);

  test("A used chain is followed by one write of a 1 to the call eventfd.", () => {
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    expect(countFor(CALL_FD)).toBe(1);
    const sqe = lastFor(CALL_FD);
    expect<u32>(sqe.opcode).toBe(IORING_OP_WRITE);
    expect(sqe.length).toBe(8);
    expect(load<u64>(pointerOf(sqe))).toBe(1);
    expect(counterOf(0, QUEUE_CALLS)).toBe(1);
  });

  test("The chain is published before the call is.", () => {
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    step();
    expect(queue.usedIdx).toBe(1);
  });

  test("Many chains of one turn are one call.", () => {
    for (let i = 0; i < BUDGET; i++) offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    expect(usedBy(queue)).toBe(BUDGET);
    expect(countFor(CALL_FD)).toBe(1);
  });

  test("Chains that end by completion and chains that end at once share it.", () => {
    offerRead(queue, 0, 512);
    turn();
    complete(lastOperation(), 512);
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    expect(usedBy(queue)).toBe(2);
    expect(countFor(CALL_FD)).toBe(1);
  });

  test("A second write waits for the first to end.", () => {
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    expect(countFor(CALL_FD)).toBe(1);
    complete(lastFor(CALL_FD), 8);
    turn();
    expect(countFor(CALL_FD)).toBe(2);
    complete(lastFor(CALL_FD), 8);
    turn();
    expect(countFor(CALL_FD)).toBe(2);
  });

  test("A write that failed is over like others.", () => {
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    complete(lastFor(CALL_FD), -EAGAIN);
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    expect(countFor(CALL_FD)).toBe(2);
    expect(queueFault(0)).toBe(0);
  });

  test("A driver that wants none gets none.", () => {
    queue.wantCalls(false);
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    expect(queue.takeUsed()).toBe(true);
    expect(countFor(CALL_FD)).toBe(0);
  });

  test("A queue without a call eventfd gets none, and none later.", () => {
    setCallFd(0, -1);
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    setCallFd(0, CALL_FD);
    turn();
    expect(countFor(CALL_FD)).toBe(0);
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    expect(countFor(CALL_FD)).toBe(1);
  });

  test("A call eventfd may be replaced.", () => {
    setCallFd(0, 777);
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    expect(countFor(777)).toBe(1);
    expect(countFor(CALL_FD)).toBe(0);
  });

  test("With EVENT_IDX, the one that is asked for comes.", () => {
    openCore();
    queue = new SplitDriver(0, 256, EVENT_IDX);
    queue.start();
    queue.usedEvent = 2;
    for (let i = 0; i < 5; i++) {
      offerPlain(queue, VIRTIO_BLK_T_GET_ID);
      turn();
      expect(countFor(CALL_FD)).toBe(i < 2 ? 0 : 1);
    }
  });

  test("Each queue has a call of its own.", () => {
    beginTwo(8, 8, 64);
    offerPlain(other, VIRTIO_BLK_T_GET_ID);
    turn();
    expect(countFor(CALL_FD)).toBe(0);
    expect(countFor(CALL_FD + 1)).toBe(1);
  });
});

describe("kick suppression", () => {
  test("Kicks are off while chains are being taken, and on again when there are none.", () => {
    openCore(1, 2);
    queue = new SplitDriver();
    queue.start();
    turn();
    expect(queue.usedFlags).toBe(0);
    offerReads(queue, 3);
    turn();
    expect<u32>(queue.usedFlags).toBe(VIRTQ_USED_F_NO_NOTIFY);
    complete(operation(0), 512);
    turn();
    expect(queue.usedFlags).toBe(0);
  });

  test("With EVENT_IDX, the event is the chain that is next.", () => {
    openCore();
    queue = new SplitDriver(0, 256, EVENT_IDX);
    queue.startFrom(0xfffe);
    turn();
    expect(queue.availEvent).toBe(0xfffe);
    offerReads(queue, 3);
    turn();
    expect(queue.availEvent).toBe(1);
    expect(queue.usedFlags).toBe(0);
  });

  test("A packed ring does so by its event flags.", () => {
    openCore(1, 2);
    const packed = new PackedDriver();
    packed.start();
    turn();
    expect<u32>(load<u16>(packed.device, EVENT_FLAGS)).toBe(RING_EVENT_FLAGS_ENABLE);
    offerReads(packed, 3);
    turn();
    expect<u32>(load<u16>(packed.device, EVENT_FLAGS)).toBe(RING_EVENT_FLAGS_DISABLE);
    complete(operation(0), 512);
    turn();
    expect<u32>(load<u16>(packed.device, EVENT_FLAGS)).toBe(RING_EVENT_FLAGS_ENABLE);
  });
});

describe("a host that stays awake", () => {
  beforeEach(() => {
    openCore(1, 2);
    queue = new SplitDriver();
    queue.start();
    turn();
  });

  test("Gets no kicks, and is told to wait all the same.", () => {
    offerReads(queue, 1);
    stepAwake();
    expectBit(stepAwake(), STEP_WAIT, true);
    expect<u32>(queue.usedFlags).toBe(VIRTQ_USED_F_NO_NOTIFY);
  });

  test("With EVENT_IDX, it leaves the event where it was.", () => {
    openCore();
    queue = new SplitDriver(0, 256, EVENT_IDX);
    queue.startFrom(10);
    turn();
    offerReads(queue, 2);
    stepAwake();
    stepAwake();
    expect(queue.availEvent).toBe(10);
    turn();
    expect(queue.availEvent).toBe(12);
  });

  test("Gets kicks again from its next ordinary turn on.", () => {
    offerReads(queue, 1);
    stepAwake();
    expectBit(turn(), STEP_WAIT, true);
    expect(queue.usedFlags).toBe(0);
  });

  test("Has no news of an empty ring, nor of one that was stopped.", () => {
    expect<u32>(news()).toBe(NEWS_NONE);
    stopQueue(0);
    offerReads(queue, 1);
    expect<u32>(news()).toBe(NEWS_NONE);
  });

  test("Has news of an available chain, and of a ring that is broken.", () => {
    offerReads(queue, 1);
    expect<u32>(news()).toBe(NEWS_STEP);
    stepAwake();
    expect<u32>(news()).toBe(NEWS_NONE);
    store<u16>(queue.driver, 5000, AVAIL_IDX);
    expect<u32>(news()).toBe(NEWS_STEP);
    expectBit(stepAwake(), STEP_BROKEN, true);
    expect<u32>(news()).toBe(NEWS_NONE);
  });

  test("Has news of a completion, and of one that the kernel keeps until it is entered.", () => {
    offerReads(queue, 1);
    stepAwake();
    takeSqes();
    store<u32>(SQ_FLAGS, IORING_SQ_TASKRUN);
    expect<u32>(news()).toBe(NEWS_ENTER);
    complete(lastOperation(), 512);
    expect<u32>(news()).toBe(NEWS_STEP);
    store<u32>(SQ_FLAGS, 0);
    stepAwake();
    expect<u32>(news()).toBe(NEWS_NONE);
  });

  test("Enters for the kernel's completions before it steps for a chain, or chains without end would keep them.", () => {
    offerReads(queue, 1);
    store<u32>(SQ_FLAGS, IORING_SQ_TASKRUN);
    expect<u32>(news()).toBe(NEWS_ENTER);
    store<u32>(SQ_FLAGS, 0);
    expect<u32>(news()).toBe(NEWS_STEP);
  });

  test("Has no news of chains while every request is in flight: a turn could not take them.", () => {
    offerReads(queue, 3);
    stepAwake();
    takeSqes();
    expect(operationCount()).toBe(2);
    expect<u32>(news()).toBe(NEWS_NONE);
    complete(lastOperation(), 512);
    expect<u32>(news()).toBe(NEWS_STEP);
  });
});

describe("completions", () => {
  beforeEach(begin);

  test("Requests end in the order of their completions.", () => {
    const first = offerRead(queue, 0, 512);
    const second = offerRead(queue, 8, 512);
    turn();
    complete(operation(1), 512);
    complete(operation(0), 512);
    turn();
    queue.takeUsed();
    expect(queue.usedId).toBe(second);
    queue.takeUsed();
    expect(queue.usedId).toBe(first);
  });

  test("A second completion of the same request is ignored.", () => {
    offerRead(queue, 0, 512);
    turn();
    complete(operation(0), 512);
    allowStray();
    complete(operation(0), 512);
    turn();
    expect(usedBy(queue)).toBe(1);
  });

  test("Completions of nothing the worker knows are ignored.", () => {
    offerRead(queue, 0, 512);
    turn();
    allowStray();
    postCqe(0xffffffff, 512);
    postCqe(u64.MAX_VALUE, 512);
    postCqe(0x1_0000_0007, 8);
    postCqe(0x2_0000_0007, 8);
    allowStray();
    postCqe(64, 512);
    turn();
    expect(usedBy(queue)).toBe(0);
    expect(counterOf(0, QUEUE_KICKS)).toBe(0);
    expect(counterOf(7, QUEUE_KICKS)).toBe(0);
    // Nothing was written by way of a request that belongs to no queue: the host maps nothing there.
    for (let ptr: usize = 0; ptr < 4096; ptr += 8) expect(load<u64>(ptr)).toBe(0);
    finish(512);
    expect(usedBy(queue)).toBe(1);
  });

  test("Requests of several queues end each in its own.", () => {
    beginTwo(8, 8, 64);
    offerReads(queue, 2);
    offerReads(other, 2);
    offerPlain(other, VIRTIO_BLK_T_FLUSH);
    turn();
    expect(operationCount()).toBe(5);
    complete(operation(4), 0);
    for (let i = 0; i < 4; i++) complete(operation(i), 512);
    turn();
    expect(usedBy(queue)).toBe(2);
    expect(usedBy(other)).toBe(3);
  });

  test("More than 65536 requests go through a small ring.", () => {
    openCore(1, 4);
    queue = new SplitDriver(0, 4);
    queue.start();
    queue.wantCalls(false);
    const header = headerOf(VIRTIO_BLK_T_IN, 1);
    const data = allocate(512);
    const status = allocate(1);
    let used = 0;
    for (let i = 0; i < 70000; i++) {
      readable(header, 16);
      writable(data, 512);
      writable(status, 1);
      queue.offer();
      turn();
      complete(lastOperation(), 512);
      turn();
      clearLog();
      used += usedBy(queue);
    }
    expect(used).toBe(70000);
    expect(queueFault(0)).toBe(0);
  });
});

describe("a full submission ring", () => {
  beforeEach(() => {
    openCore(1, 64, 4);
    queue = new SplitDriver();
    queue.start();
    queue.wantCalls(false);
    turn();
  });

  test("Chains that find no room are taken in the next turns.", () => {
    offerReads(queue, 10);
    expect(wantsAnotherTurn(turn())).toBe(true);
    expect(operationCount()).toBe(4);
    expect(wantsAnotherTurn(turn())).toBe(true);
    expect(operationCount()).toBe(8);
    expect(wantsAnotherTurn(turn())).toBe(false);
    expect(operationCount()).toBe(10);
  });

  test("What the engine has not taken is told again.", () => {
    offerReads(queue, 3);
    expect(step() & STEP_SUBMIT_MASK).toBe(3);
    expect(step() & STEP_SUBMIT_MASK).toBe(3);
    takeSqes(1);
    expect(step() & STEP_SUBMIT_MASK).toBe(2);
  });

  test("Completions wait for room, and are not lost.", () => {
    offerReads(queue, 4);
    turn();
    offerReads(queue, 4);
    step();
    for (let i = 0; i < 4; i++) complete(operation(i), 512);
    expect(wantsAnotherTurn(step())).toBe(true);
    expect(usedBy(queue)).toBe(0);
    takeSqes();
    step();
    expect(usedBy(queue)).toBe(4);
  });

  test("Retries take what room there is, and the others follow.", () => {
    offerReads(queue, 4);
    turn();
    offerReads(queue, 2);
    step();
    for (let i = 0; i < 4; i++) complete(operation(i), -EINTR);
    step();
    takeSqes();
    expect(operationCount()).toBe(8);
    turn();
    expect(operationCount()).toBe(10);
  });

  test("A kick is read again once there is room.", () => {
    complete(lastFor(KICK_FD), 8);
    offerReads(queue, 4);
    expect(wantsAnotherTurn(step())).toBe(true);
    takeSqes();
    expect(countFor(KICK_FD)).toBe(1);
    turn();
    expect(countFor(KICK_FD)).toBe(2);
  });

  test("A call is made once there is room.", () => {
    queue.wantCalls(true);
    offerReads(queue, 3);
    step();
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    offerReads(queue, 1);
    expect(wantsAnotherTurn(step())).toBe(true);
    expect(usedBy(queue)).toBe(1);
    takeSqes();
    expect(countFor(CALL_FD)).toBe(0);
    turn();
    expect(countFor(CALL_FD)).toBe(1);
  });
});

describe("requests in flight", () => {
  test("When all are, the worker waits for completions, and goes on with each.", () => {
    openCore(1, 4);
    queue = new SplitDriver();
    queue.start();
    turn();
    offerReads(queue, 10);
    expectBit(turn(), STEP_WAIT, true);
    expect(operationCount()).toBe(4);
    for (let i = 0; i < 10; i++) {
      complete(operation(i), 512);
      turn();
      expect(operationCount()).toBe(min(5 + i, 10));
    }
    expect(usedBy(queue)).toBe(10);
  });

  test("One turn takes a limited number from a queue, and asks for another.", () => {
    openCore(1, 512);
    queue = new SplitDriver(0, 512);
    queue.start();
    turn();
    offerReads(queue, BUDGET + 4);
    expect(wantsAnotherTurn(turn())).toBe(true);
    expect(operationCount()).toBe(BUDGET);
    expect(wantsAnotherTurn(turn())).toBe(false);
    expect(operationCount()).toBe(BUDGET + 4);
  });

  test("A turn takes 256 where the device block sets no limit, or a higher one.", () => {
    for (let limit: u32 = 0; limit <= 1024; limit += 1024) {
      beginTwo(512, 1024, 1024);
      setDevice<u32>(DEVICE_TURN_REQUESTS, limit);
      offerReads(queue, 300);
      turn();
      expect(operationCount()).toBe(256);
    }
  });

  test("A queue with more than that does not keep the other waiting.", () => {
    beginTwo(512, 1024, 1024);
    offerReads(queue, BUDGET + 4);
    offerReads(other, 1, 7);
    turn();
    expect(operationCount()).toBe(BUDGET + 1);
    expect(lastOperation().offset).toBe(7 * 512);
  });

  test("A queue that could use every request does not keep the other waiting.", () => {
    beginTwo(64, 4, 64);
    offerReads(queue, 64);
    offerReads(other, 1, 7);
    turn();
    // Each completion sets one request free, and the busy queue has work for all of them.
    for (let i = 0; i < 32; i++) {
      complete(operation(i), 512);
      turn();
    }
    expect(hasReadSector(7)).toBe(true);
  });

  test("A queue that could fill the submission ring does not keep the other waiting.", () => {
    beginTwo(64, 128, 8);
    offerReads(queue, 64);
    offerReads(other, 1, 7);
    for (let i = 0; i < 4; i++) turn();
    expect(hasReadSector(7)).toBe(true);
  });
});

describe("a queue that is to stop", () => {
  beforeEach(begin);

  test("With nothing in flight and no kick eventfd it has stopped after one turn.", () => {
    openCore();
    queue = new SplitDriver();
    queue.kickFd = -1;
    queue.start();
    turn();
    stopQueue(0);
    expect(isStopped(0)).toBe(false);
    expectBit(turn(), STEP_STOPPED, true);
    expect(isStopped(0)).toBe(true);
  });

  test("Its read of the kick eventfd is cancelled, and waited for.", () => {
    stopQueue(0);
    expectBit(turn(), STEP_STOPPED, false);
    expect(cancelCount()).toBe(1);
    expect<u32>(lastCancel().opcode).toBe(IORING_OP_ASYNC_CANCEL);
    expect(lastCancel().address).toBe(lastFor(KICK_FD).userData);
    turn();
    expect(cancelCount()).toBe(1);
    expect(isStopped(0)).toBe(false);
    complete(lastFor(KICK_FD), -ECANCELED);
    expectBit(turn(), STEP_STOPPED, true);
    expect(isStopped(0)).toBe(true);
  });

  test("A kick that was faster than the cancellation ends it as well.", () => {
    stopQueue(0);
    turn();
    complete(lastFor(KICK_FD), 8);
    complete(lastCancel(), -2);
    turn();
    expect(isStopped(0)).toBe(true);
  });

  test("The end of the cancellation is not the end of the read.", () => {
    stopQueue(0);
    turn();
    complete(lastCancel(), 0);
    turn();
    expect(isStopped(0)).toBe(false);
  });

  test("The kick eventfd is read no more once it has stopped.", () => {
    stopAndCancel();
    turn();
    expect(countFor(KICK_FD)).toBe(1);
  });

  test("That it has stopped is told once.", () => {
    stopAndCancel();
    expect(turn()).toBe(STEP_WAIT);
  });

  test("It takes nothing more.", () => {
    stopQueue(0);
    offerRead(queue, 0, 512);
    turn();
    expect(operationCount()).toBe(0);
    expect(queueBase(0)).toBe(0);
  });

  test("What is in flight ends first, and the driver is told.", () => {
    offerRead(queue, 0, 512);
    turn();
    stopQueue(0);
    turn();
    expect(cancelCount()).toBe(0);
    complete(lastOperation(), 512);
    turn();
    expectUsed(queue, OK, 513);
    expect(countFor(CALL_FD)).toBe(1);
    complete(lastFor(KICK_FD), -ECANCELED);
    turn();
    expect(isStopped(0)).toBe(false);
    complete(lastFor(CALL_FD), 8);
    turn();
    expect(isStopped(0)).toBe(true);
  });

  test("A transfer that was short ends as a whole first.", () => {
    offerRead(queue, 0, 1024);
    turn();
    stopQueue(0);
    finish(512);
    expect(operationCount()).toBe(2);
    finish(512);
    expectUsed(queue, OK, 1025);
  });

  test("A call that hangs in the kernel is cancelled.", () => {
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    stopQueue(0);
    turn();
    expect(cancelCount()).toBe(2);
    expect(lastCancel().address).toBe(lastFor(CALL_FD).userData);
    complete(lastFor(KICK_FD), -ECANCELED);
    turn();
    expect(isStopped(0)).toBe(false);
    complete(lastFor(CALL_FD), -ECANCELED);
    turn();
    expect(isStopped(0)).toBe(true);
  });

  test("A cancellation waits for room in the submission ring.", () => {
    openCore(2, 64, 4);
    queue = new SplitDriver(0, 8);
    other = new SplitDriver(1, 8);
    queue.start();
    other.start();
    turn();
    offerReads(other, 4);
    step();
    stopQueue(0);
    expect(wantsAnotherTurn(step())).toBe(true);
    takeSqes();
    expect(cancelCount()).toBe(0);
    turn();
    expect(cancelCount()).toBe(1);
  });

  test("It has not stopped before a call that is owed could be made.", () => {
    openCore(2, 64, 4);
    queue = new SplitDriver(0, 8);
    other = new SplitDriver(1, 8);
    queue.kickFd = -1;
    queue.start();
    other.start();
    offerReads(queue, 1);
    turn();
    // Its last request ends in the turn in which the other queue fills the submission ring.
    stopQueue(0);
    complete(lastOperation(), 512);
    offerReads(other, 4);
    turn();
    expect(countFor(CALL_FD)).toBe(0);
    expect(isStopped(0)).toBe(false);
    turn();
    expect(countFor(CALL_FD)).toBe(1);
    complete(lastFor(CALL_FD), 8);
    turn();
    expect(isStopped(0)).toBe(true);
  });

  test("Its base is the first chain that it has not taken.", () => {
    offerRead(queue, 0, 512);
    offerRead(queue, 0, 512);
    turn();
    stopQueue(0);
    offerRead(queue, 0, 512);
    complete(operation(0), 512);
    complete(operation(1), 512);
    turn();
    expect(queueBase(0)).toBe(2);
  });

  test("It goes on from its base when it is started again.", () => {
    offerPlain(queue, VIRTIO_BLK_T_IN);
    turn();
    complete(lastFor(CALL_FD), 8);
    offerRead(queue, 8, 512);
    stopQueue(0);
    turn();
    complete(lastFor(KICK_FD), -ECANCELED);
    turn();
    expect(isStopped(0)).toBe(true);
    queue.startAt(queueBase(0));
    turn();
    expect(operationCount()).toBe(1);
    finish(512);
    expect(usedBy(queue)).toBe(2);
    expect(countFor(KICK_FD)).toBe(2);
  });

  test("It may be started again in the other format.", () => {
    stopAndCancel();
    const packed = new PackedDriver();
    memory.fill(packed.desc, 0, 0x2000);
    packed.start();
    offerRead(packed, 8, 512);
    turn();
    finish(512);
    expectUsed(packed, OK, 513);
  });

  test("Stopping a queue that has stopped changes nothing.", () => {
    stopAndCancel();
    stopQueue(0);
    expect(turn()).toBe(STEP_WAIT);
    expect(isStopped(0)).toBe(true);
  });

  test("The other queue goes on.", () => {
    beginTwo(8, 8, 64);
    stopQueue(0);
    offerReads(other, 1);
    turn();
    expect(operationCount()).toBe(1);
  });
});

describe("a broken queue", () => {
  beforeEach(begin);

  test("It is told once, and its fault can be asked for until it is stopped.", () => {
    queue.publish(0xffff);
    expectBit(turn(), STEP_BROKEN, true);
    expectBit(turn(), STEP_BROKEN, false);
    expect(queueFault(0)).toBe(FAULT_HEAD_PAST_QUEUE);
    stopAndCancel();
    expect(queueFault(0)).toBe(0);
  });

  test("An avail index that runs ahead breaks it.", () => {
    store<u16>(queue.driver, 257, AVAIL_IDX);
    turn();
    expect(queueFault(0)).toBe(FAULT_AVAIL_RAN_AHEAD);
  });

  test("A chain that runs in a circle breaks it.", () => {
    const head = queue.nextFree;
    readable(allocate(16), 16);
    queue.offer();
    store<u16>(queue.slot(head), VIRTQ_DESC_F_NEXT, DESC_FLAGS);
    store<u16>(queue.slot(head), <u16>head, DESC_NEXT);
    turn();
    expect(queueFault(0)).toBe(FAULT_CHAIN_TOO_LONG);
  });

  test("A chain that is made available while it is in flight breaks it, once the table can't hold both.", () => {
    openCore();
    queue = new SplitDriver(0, 4);
    queue.start();
    const head = offerRead(queue, 0, 512);
    turn();
    queue.publish(head);
    turn();
    expect(queueFault(0)).toBe(FAULT_TOO_MANY_IN_FLIGHT);
    expect(operationCount()).toBe(1);
  });

  test("A packed chain that claims more slots than are free breaks it.", () => {
    openCore();
    const packed = new PackedDriver(0, 5);
    packed.start();
    offerRead(packed, 0, 512);
    turn();
    offerRead(packed, 0, 512);
    turn();
    expect(queueFault(0)).toBe(FAULT_TOO_MANY_IN_FLIGHT);
    expect(operationCount()).toBe(1);
  });

  test("It takes nothing more, even when its ring is mended.", () => {
    store<u16>(queue.driver, 300, AVAIL_IDX);
    turn();
    store<u16>(queue.driver, 0, AVAIL_IDX);
    offerRead(queue, 0, 512);
    turn();
    expect(operationCount()).toBe(0);
  });

  test("What it has in flight ends, and the driver is told.", () => {
    offerRead(queue, 0, 512);
    turn();
    queue.publish(0xffff);
    turn();
    finish(512);
    expectUsed(queue, OK, 513);
    expect(countFor(CALL_FD)).toBe(1);
  });

  test("What it took before its fault in the same turn is served.", () => {
    offerRead(queue, 0, 512);
    queue.publish(0xffff);
    turn();
    expect(operationCount()).toBe(1);
    expect(queueFault(0)).toBe(FAULT_HEAD_PAST_QUEUE);
  });

  test("Its base is the chain that broke it.", () => {
    offerRead(queue, 0, 512);
    queue.publish(0xffff);
    turn();
    expect(queueBase(0)).toBe(1);
  });

  test("It does not disturb the other.", () => {
    beginTwo(8, 8, 64);
    offerReads(queue, 1);
    queue.publish(0xffff);
    offerReads(other, 1, 7);
    turn();
    expect(queueFault(0)).toBe(FAULT_HEAD_PAST_QUEUE);
    expect(queueFault(1)).toBe(0);
    expect(lastOperation().offset).toBe(7 * 512);
    finish(512);
    expect(usedBy(other)).toBe(1);
    offerReads(other, 1, 8);
    turn();
    expect(lastOperation().offset).toBe(8 * 512);
  });

  test("It can be stopped, and started anew.", () => {
    queue.publish(0xffff);
    turn();
    stopAndCancel();
    expect(isStopped(0)).toBe(true);
    queue.start();
    offerRead(queue, 0, 512);
    turn();
    expect(operationCount()).toBe(1);
  });

  test("A queue that is to stop is not reported as broken when its kick eventfd fails.", () => {
    stopQueue(0);
    turn();
    complete(lastFor(KICK_FD), -EIO);
    expectBit(turn(), STEP_BROKEN, false);
    expect(isStopped(0)).toBe(true);
  });
});

function totalBase(queues: u32): u32 {
  let total: u32 = 0;
  for (let i: u32 = 0; i < queues; i++) total += queueBase(i);
  return total;
}

function showNothing(): void {
  setWindow(0, 0, 0, 0);
}

/** The turn asks the host to write so often into guest memory; it does. */
function expectWritesAfter(outcome: u32, count: u32): void {
  expectBit(outcome, STEP_GUEST_WRITES, true);
  expect(wantsAnotherTurn(outcome)).toBe(true);
  expect(writeForCore()).toBe(count);
}

/** The next turn must miss the window at `gpa`, and ask for another turn. */
function expectMissAt(gpa: u64): void {
  const outcome = turn();
  expectBit(outcome, STEP_WINDOW_MISS, true);
  expect(wantsAnotherTurn(outcome)).toBe(true);
  expect(missedGpa()).toBe(gpa);
}

/** Of the first chain in flight: whether the inflight region has it. */
function isRecorded(): bool {
  return load<u8>(PLAIN_PTR + SPLIT_ENTRIES + SPLIT_ENTRY_INFLIGHT) !== 0;
}

const OPERATIONS: i32 = 4;

/** A queue that is suspended while one operation is in flight. */
function suspendWith(kind: i32): void {
  openCore();
  memory.fill(PLAIN_PTR, 0, 4096 * 2);
  queue = new SplitDriver();
  trackInflight(0, PLAIN_PTR, 256);
  queue.start();
  offerOperation(kind);
  turn();
  suspendQueue(0);
  turn();
}

function expectKeptAfter(kind: i32, result: i32): void {
  suspendWith(kind);
  expect(lastCancel().address).toBe(lastOperation().userData);
  finish(result);
  complete(lastFor(KICK_FD), -ECANCELED);
  // A ring that is tracked begins with a call: its predecessor may have owed one.
  complete(lastFor(CALL_FD), 8);
  turn();
  expect(isStopped(0)).toBe(true);
  expect(usedBy(queue)).toBe(0);
  expect(isRecorded()).toBe(true);
  expect(operationCount()).toBe(1);
}

describe("a queue that is suspended", () => {
  test("Operations that are cancelled with ECANCELED stay recorded.", () => {
    for (let kind = 0; kind < OPERATIONS; kind++) expectKeptAfter(kind, -ECANCELED);
  });

  test("Operations that are cancelled with EINTR stay recorded.", () => {
    for (let kind = 0; kind < OPERATIONS; kind++) expectKeptAfter(kind, -EINTR);
  });

  test("Operations that were too far to be cancelled end.", () => {
    for (let kind = 0; kind < OPERATIONS; kind++) {
      suspendWith(kind);
      finish(kind < 2 ? 512 : 0);
      expect(usedBy(queue)).toBe(1);
      expect(isRecorded()).toBe(false);
    }
  });

  test("Operations that the kernel asks to retry meanwhile are retried.", () => {
    for (let kind = 0; kind < OPERATIONS; kind++) {
      suspendWith(kind);
      finish(-EAGAIN);
      expect(operationCount()).toBe(2);
      finish(kind < 2 ? 512 : 0);
      expect(usedBy(queue)).toBe(1);
    }
  });

  test("Operations that the core has not cancelled are asked for again, whatever ended them.", () => {
    for (let kind = 0; kind < OPERATIONS; kind++) {
      begin();
      offerOperation(kind);
      turn();
      finish(-EINTR);
      expect(operationCount()).toBe(2);
      finish(-ECANCELED);
      expect(operationCount()).toBe(3);
      finish(kind < 2 ? 512 : 0);
      expectUsed(queue, OK, kind === 0 ? 513 : 1);
    }
  });
});

/** A read, a write, a flush, a discard. */
function offerOperation(kind: i32): void {
  if (kind === 0) offerRead(queue, 0, 512);
  else if (kind === 1) offerWrite(queue, 0, 512);
  else if (kind === 2) offerPlain(queue, VIRTIO_BLK_T_FLUSH);
  else {
    beginRanges(VIRTIO_BLK_T_DISCARD);
    addRange(8, 8, 0);
    offerRanges(queue);
  }
}

describe("a missing window", () => {
  beforeEach(begin);

  test("A chain whose header is not shown is taken once it is.", () => {
    const header = headerOf(VIRTIO_BLK_T_IN, 9);
    readable(header, 16);
    writable(allocate(512), 512);
    endRequest();
    queue.offer();
    hideFromWindows(header, 16);
    expectMissAt(header);
    expect(queueBase(0)).toBe(0);
    expect(operationCount()).toBe(0);
    showAll();
    turn();
    expect(lastOperation().offset).toBe(9 * 512);
    finish(512);
    expectUsed(queue, OK, 513);
  });

  test("It is missed again as long as it is not shown.", () => {
    const header = headerOf(VIRTIO_BLK_T_IN, 9);
    readable(header, 16);
    endRequest();
    queue.offer();
    hideFromWindows(header, 16);
    for (let i = 0; i < 10; i++) expectMissAt(header);
    expect(queueFault(0)).toBe(0);
  });

  test("A table that is not shown is missed.", () => {
    beginRequest(VIRTIO_BLK_T_IN, 9);
    writable(allocate(512), 512);
    endRequest();
    queue.offerTable();
    const table = load<u64>(queue.slot(0));
    hideFromWindows(table, 48);
    expectMissAt(table);
    showAll();
    turn();
    expect(operationCount()).toBe(1);
  });

  test("Ranges that are not shown are missed before anything is done.", () => {
    beginRanges(VIRTIO_BLK_T_DISCARD);
    addRange(8, 8, 0);
    offerRanges(queue);
    const ranges = load<u64>(queue.slot(1));
    hideFromWindows(ranges, 16);
    expectMissAt(ranges);
    expect(operationCount()).toBe(0);
    showAll();
    turn();
    expect(lastOperation().offset).toBe(8 * 512);
  });

  test("An ID's buffer that is not shown is written by the host, and the chain used after that.", () => {
    beginRequest(VIRTIO_BLK_T_GET_ID, 0);
    const data = allocate(20);
    writable(data, 20);
    endRequest();
    queue.offer();
    store<u8>(DEVICE_PTR + DEVICE_ID, 65);
    hideFromWindows(data + 4, 16);
    expectWritesAfter(turn(), 1);
    expect(usedBy(queue)).toBe(0);
    expectBit(turn(), STEP_GUEST_WRITES, false);
    expectUsed(queue, OK, 21);
    expect(load<u8>(ptrOf(data))).toBe(65);
  });

  test("The data of a read and its status byte are not looked at before it ends.", () => {
    offerRead(queue, 0, 512);
    hideFromWindows(statusGpa, 1);
    expectBit(turn(), STEP_WINDOW_MISS, false);
    expect(operationCount()).toBe(1);
  });

  test("A status byte that is not shown is written by the host, and the chain used after that.", () => {
    offerRead(queue, 0, 512);
    hideFromWindows(statusGpa, 1);
    turn();
    complete(lastOperation(), 512);
    expectWritesAfter(turn(), 1);
    expect(countFor(CALL_FD)).toBe(0);
    expectBit(turn(), STEP_GUEST_WRITES, false);
    expectUsed(queue, OK, 513);
    expect(usedBy(queue)).toBe(0);
    expect(countFor(CALL_FD)).toBe(1);
  });

  test("So it is with an error.", () => {
    offerWrite(queue, 0, 512);
    hideFromWindows(statusGpa, 1);
    turn();
    complete(lastOperation(), -EIO);
    expectWritesAfter(turn(), 1);
    turn();
    expectUsed(queue, IOERR, 1);
  });

  test("So it is with a request that ends as soon as it is taken.", () => {
    offerPlain(queue, 99);
    hideFromWindows(statusGpa, 1);
    expectWritesAfter(turn(), 1);
    expect(queueBase(0)).toBe(1);
    turn();
    expectUsed(queue, 2, 1);
    expect(queueBase(0)).toBe(1);
  });

  test("The host writes many at a time, and nothing twice.", () => {
    for (let i = 0; i < 3; i++) offerRead(queue, 0, 512);
    turn();
    showNothing();
    complete(operation(2), 512);
    complete(operation(0), 512);
    complete(operation(1), 512);
    expectWritesAfter(turn(), 3);
    turn();
    queue.takeUsed();
    expect(queue.usedId).toBe(6);
    queue.takeUsed();
    expect(queue.usedId).toBe(0);
    queue.takeUsed();
    expect(queue.usedId).toBe(3);
    expect(usedBy(queue)).toBe(0);
    expect(writeForCore()).toBe(0);
  });

  test("A completion for a request whose status the host writes means nothing.", () => {
    offerRead(queue, 0, 512);
    hideFromWindows(statusGpa, 1);
    turn();
    complete(lastOperation(), 512);
    allowStray();
    complete(lastOperation(), -EIO);
    expectWritesAfter(turn(), 1);
    turn();
    expectUsed(queue, OK, 513);
    expect(usedBy(queue)).toBe(0);
  });

  test("A queue that is to stop does not stop before it.", () => {
    offerRead(queue, 0, 512);
    hideFromWindows(statusGpa, 1);
    turn();
    complete(lastOperation(), 512);
    stopQueue(0);
    expectWritesAfter(turn(), 1);
    expect(cancelCount()).toBe(0);
    turn();
    expectUsed(queue, OK, 513);
    expect(cancelCount()).toBeGreaterThan(0);
  });

  test("A status byte whose memory was taken away is given up, and the chain used with length 0.", () => {
    offerRead(queue, 0, 512);
    turn();
    setWindow(0, 0, 0, 0);
    setRegion(0, 0, 0, 0);
    complete(lastOperation(), 512);
    expectBit(turn(), STEP_WINDOW_MISS, false);
    expect(statusByte()).toBe(STATUS_UNWRITTEN);
    expect(queue.takeUsed()).toBe(true);
    expect(queue.usedLength).toBe(0);
  });

  test("The other queue goes on.", () => {
    beginTwo(8, 8, 64);
    const header = headerOf(VIRTIO_BLK_T_IN, 9);
    readable(header, 16);
    endRequest();
    queue.offer();
    offerReads(other, 1, 7);
    hideFromWindows(header, 16);
    expectMissAt(header);
    expect(lastOperation().offset).toBe(7 * 512);
    finish(512);
    expect(usedBy(other)).toBe(1);
  });

  test("A chain that all windows together never show breaks its ring.", () => {
    // A header in two buffers, and room for the window of one of them.
    const header = headerOf(VIRTIO_BLK_T_IN, 9);
    const far = RAM_GPA + RAM_SIZE - 4096;
    readable(header, 8);
    readable(far, 8);
    endRequest();
    queue.offer();
    let turns = 0;
    while (queueFault(0) === 0) {
      expect(++turns).toBeLessThan(1000);
      setWindow(0, (turns & 1) !== 0 ? header : far, 8, ptrOf((turns & 1) !== 0 ? header : far));
      turn();
    }
    expect(queueFault(0)).toBe(FAULT_TOO_SCATTERED);
    expect(turns).toBeGreaterThan(100);
  });

  test("A ring that broke so can be stopped, and started anew.", () => {
    const header = headerOf(VIRTIO_BLK_T_IN, 9);
    readable(header, 16);
    endRequest();
    queue.offer();
    hideFromWindows(header, 16);
    while (queueFault(0) === 0) turn();
    stopAndCancel();
    queue.startAt(queueBase(0));
    expectMissAt(header);
    showAll();
    turn();
    expect(usedBy(queue)).toBe(1);
  });

  test("Misses of one chain are not held against the next.", () => {
    for (let i = 0; i < 4; i++) {
      const header = headerOf(VIRTIO_BLK_T_IN, 0);
      readable(header, 16);
      endRequest();
      queue.offer();
      hideFromWindows(header, 16);
      for (let j = 0; j < 100; j++) turn();
      showAll();
      turn();
    }
    expect(queueFault(0)).toBe(0);
    expect(usedBy(queue)).toBe(4);
  });

  test("What is copied is read, by the chain that it was copied for.", () => {
    const header = headerOf(VIRTIO_BLK_T_IN, 9);
    readable(header, 16);
    writable(allocate(512), 512);
    endRequest();
    queue.offer();
    hideFromWindows(header, 16);
    expectMissAt(header);
    lendCopy(0, header, 16, PLAIN_PTR);
    expectBit(turn(), STEP_WINDOW_MISS, false);
    expect(lastOperation().offset).toBe(9 * 512);
    // The driver uses the header's place again: what was copied is old by now.
    store<u64>(ptrOf(header), 33, 8);
    readable(header, 16);
    writable(allocate(512), 512);
    endRequest();
    queue.offer();
    expectMissAt(header);
    expect(operationCount()).toBe(1);
    lendCopy(0, header, 16, PLAIN_PTR);
    turn();
    expect(lastOperation().offset).toBe(33 * 512);
  });

  test("Copies are not another queue's to read.", () => {
    beginTwo(8, 8, 64);
    const header = headerOf(VIRTIO_BLK_T_IN, 9);
    const other9 = header;
    readable(header, 8);
    readable(header + 4096, 8);
    endRequest();
    queue.offer();
    hideFromWindows(header, 8192);
    expectMissAt(header);
    lendCopy(0, header, 16, PLAIN_PTR);
    expectMissAt(header + 4096);
    // While the first queue's chain has a copy of that place, the second's is not to see it.
    readable(other9, 16);
    endRequest();
    other.offer();
    expectMissAt(header + 4096);
    expect(queueBase(1)).toBe(0);
  });

  test("No write goes to a copy.", () => {
    const header = headerOf(VIRTIO_BLK_T_IN + 99, 9);
    readable(header, 16);
    writable(header + 16, 1);
    queue.offer();
    hideFromWindows(header, 64);
    expectMissAt(header);
    lendCopy(0, header, 64, PLAIN_PTR);
    expectWritesAfter(turn(), 1);
    turn();
    expect(load<u8>(ptrOf(header + 16))).toBe(2);
    expect(usedBy(queue)).toBe(1);
  });

  test("Misses of other queues are not held against a chain, and each queue is served in its turn.", () => {
    openCore(8, 64);
    const drivers: SplitDriver[] = [];
    const headers: u64[] = [];
    const first = allocate(4096 * 8 * 8);
    for (let q = 0; q < 8; q++) {
      const driver = new SplitDriver(q, 64);
      driver.start();
      drivers.push(driver);
      for (let i = 0; i < 8; i++) {
        // Each header is cut in two, a page for each half.
        const at = first + <u64>(q * 8 + i) * 4096;
        headers.push(at);
        readable(at, 8);
        readable(at + 2048, 8);
        endRequest();
        driver.offer();
      }
    }
    showNothing();
    // One window at a time for all of them, and a copy of what was missed last.
    let turns = 0;
    let copies: u32 = 0;
    while (totalBase(8) < 64) {
      expect(++turns).toBeLessThan(64 * 3 + 10);
      const outcome = turn();
      writeForCore();
      if ((outcome & STEP_WINDOW_MISS) === 0) continue;
      if (load<u64>(WORKERS_PTR + WORKER_COPIES, ENTRY_LENGTH) === 0) copies = 0;
      lendCopy(copies, missedGpa(), 8, PLAIN_PTR + copies * 8);
      copies++;
    }
    for (let q = 0; q < 8; q++) expect(queueFault(q)).toBe(0);
  });

  test("A header on both sides of a border between windows is read as one.", () => {
    const header = headerOf(VIRTIO_BLK_T_IN, 0x1234);
    readable(header, 16);
    writable(allocate(512), 512);
    endRequest();
    queue.offer();
    const border = header + 10;
    const elsewhere = RAM_PTR + <usize>RAM_SIZE;
    memory.copy(elsewhere, ptrOf(border), 6);
    memory.fill(ptrOf(border), 0xff, 6);
    hideFromWindows(border, 6);
    setWindow(2, border, 6, elsewhere);
    turn();
    expect(lastOperation().offset).toBe(0x1234 * 512);
  });
});

describe("a packed ring", () => {
  test("It goes round and round, chains of any length, in any order of their ends.", () => {
    openCore(1, 8);
    const packed = new PackedDriver(0, 7);
    packed.start();
    packed.wantCalls(false);
    for (let i = 0; i < 100; i++) {
      const first = offerRead(packed, 0, 512);
      const isTable = i % 3 === 0;
      beginRequest(VIRTIO_BLK_T_IN, 8);
      writable(RAM_GPA + 0x300_0000, 512);
      endRequest();
      const second = isTable ? packed.offerTable() : packed.offer();
      turn();
      expect(operationCount()).toBe(2);
      complete(operation(1), 512);
      if (i % 2 === 0) turn();
      complete(operation(0), 512);
      turn();
      expectUsed(packed, OK, 513);
      expect(packed.usedId).toBe(second);
      expectUsedIdOf(packed, first);
      clearLog();
    }
    expect(queueFault(0)).toBe(0);
  });

  test("It is stopped and goes on from its base.", () => {
    openCore();
    const packed = new PackedDriver(0, 5);
    packed.kickFd = -1;
    packed.callFd = -1;
    packed.start();
    for (let i = 0; i < 4; i++) {
      offerRead(packed, 0, 512);
      turn();
      finish(512);
      expectUsed(packed, OK, 513);
      stopQueue(0);
      turn();
      expect(isStopped(0)).toBe(true);
      packed.startAt(queueBase(0));
    }
  });

  test("With EVENT_IDX, the call that is asked for comes.", () => {
    openCore();
    const packed = new PackedDriver(0, 5, EVENT_IDX);
    packed.start();
    store<u32>(packed.driver, 0x0002_8002);
    for (let i = 0; i < 5; i++) {
      readable(headerOf(VIRTIO_BLK_T_GET_ID, 0), 16);
      packed.offer();
      turn();
      expect(countFor(CALL_FD)).toBe(i < 2 ? 0 : 1);
    }
  });
});

function expectUsedIdOf(driver: Driver, id: u32): void {
  expect(driver.takeUsed()).toBe(true);
  expect(driver.usedId).toBe(id);
}
