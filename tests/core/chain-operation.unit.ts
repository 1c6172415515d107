// chain-operation.ts: a chain becomes an operation of the engine, whose result is the length that the driver is told.

import {
  CHAIN_F_FAIL,
  CHAIN_F_LEFTOVER,
  CHAIN_FAILED,
  CHAIN_FAILED_LIMIT,
  CHAIN_PARKED,
  KIND_CHAIN,
} from "../../assembly/abi/chain.ts";
import { FAULT_ADDRESS, FAULT_READABLE_AFTER_WRITABLE } from "../../assembly/abi/faults.ts";
import { WORKERS_PTR } from "../../assembly/abi/memory.ts";
import {
  QUEUE_BYTES_IN,
  QUEUE_BYTES_OUT,
  QUEUE_F_CHAINS,
  QUEUE_F_RECOVER_FAIL,
  QUEUE_F_RECOVER_FORGET,
  QUEUE_FAILURES,
  QUEUE_IN_FLIGHT,
  QUEUE_KINDS,
  QUEUE_STRIDE,
} from "../../assembly/abi/queue.ts";
import { STEP_STOPPED, STEP_WINDOW_MISS } from "../../assembly/abi/step.ts";
import { IOVECS_MAX, WORKER_QUEUES } from "../../assembly/abi/worker.ts";
import {
  isStopped,
  missedGpa,
  queueBase,
  queueFault,
  stopQueue,
  suspendQueue,
  trackInflight,
} from "../../assembly/index.ts";
import { EAGAIN, ECANCELED } from "../../assembly/spec/io-uring.ts";
import {
  allocate,
  cancelCount,
  chainsTaken,
  complete,
  Driver,
  finishChain,
  hideFromWindows,
  hostOf,
  lastCancel,
  lastChain,
  openCore,
  operationCount,
  PackedDriver,
  PLAIN_PTR,
  RAM_GPA,
  RAM_HOST,
  RAM_SIZE,
  readable,
  SplitDriver,
  Sqe,
  setRegion,
  showAll,
  turn,
  vectorBase,
  vectorLength,
  writable,
} from "./support.ts";

const SIZE: u32 = 256;

function counter(offset: i32): u64 {
  return load<u64>(WORKERS_PTR + WORKER_QUEUES + offset);
}

/** A fresh core with one queue of chains. */
function open(isPacked: bool, flags: u32 = 0): Driver {
  openCore();
  return makeQueue(isPacked, flags);
}

function makeQueue(isPacked: bool, flags: u32): Driver {
  const all = QUEUE_F_CHAINS | flags;
  const queue: Driver = isPacked ? new PackedDriver(0, SIZE, all) : new SplitDriver(0, SIZE, all);
  // Without eventfds a queue stops as soon as nothing is in flight.
  queue.kickFd = -1;
  queue.callFd = -1;
  return queue;
}

function start(isPacked: bool, flags: u32 = 0): Driver {
  const queue = open(isPacked, flags);
  queue.start();
  return queue;
}

/** The same, with a region for what is in flight. */
function startTracked(isPacked: bool, flags: u32 = 0): Driver {
  const queue = open(isPacked, flags);
  memory.fill(PLAIN_PTR, 0, 32 + 32 * SIZE);
  trackInflight(0, PLAIN_PTR, SIZE);
  queue.start();
  return queue;
}

/** Offers `readableBytes` and then `writableBytes`, each in a buffer of its own. */
function offer(queue: Driver, readableBytes: u32, writableBytes: u32): u16 {
  if (readableBytes > 0) readable(allocate(readableBytes), readableBytes);
  if (writableBytes > 0) writable(allocate(writableBytes), writableBytes);
  return queue.offer();
}

function expectVector(sqe: Sqe, index: u32, base: u64, byteLength: u64): void {
  expect(vectorBase(sqe, index)).toBe(base, "base");
  expect(vectorLength(sqe, index)).toBe(byteLength, "length");
}

function expectUsedChain(queue: Driver, id: u32, byteLength: u32): void {
  expect(queue.takeUsed()).toBe(true, "no chain was used");
  expect(queue.usedId).toBe(id, "id");
  expect(queue.usedLength).toBe(byteLength, "used length");
}

function becomesAnOperation(isPacked: bool): void {
  const queue = start(isPacked);
  const first = allocate(16);
  const second = allocate(100);
  const third = allocate(4096);
  readable(first, 16);
  readable(second, 100);
  writable(third, 4096);
  const id = queue.offer();
  turn();
  expect(chainsTaken().length).toBe(1);
  const sqe = lastChain();
  expect(sqe.fd).toBe(0, "queue");
  expect(sqe.length).toBe(3, "vectors");
  expect(sqe.offset).toBe(2, "readable ones");
  expect(sqe.opFlags).toBe(0);
  expectVector(sqe, 0, hostOf(first), 16);
  expectVector(sqe, 1, hostOf(second), 100);
  expectVector(sqe, 2, hostOf(third), 4096);
  expect(queue.takeUsed()).toBe(false, "used before it was answered");
  finishChain(4000);
  expectUsedChain(queue, id, 4000);
  expect(queue.takeUsed()).toBe(false, "used twice");
  expect(counter(QUEUE_KINDS + KIND_CHAIN * 8)).toBe(1);
  expect(counter(QUEUE_BYTES_OUT)).toBe(116);
  expect(counter(QUEUE_BYTES_IN)).toBe(4000);
  expect(counter(QUEUE_FAILURES)).toBe(0);
}

function throughATable(isPacked: bool): void {
  const queue = start(isPacked);
  const first = allocate(16);
  const second = allocate(64);
  readable(first, 16);
  writable(second, 64);
  const id = queue.offerTable();
  turn();
  expect(lastChain().length).toBe(2);
  expect(lastChain().offset).toBe(1);
  expectVector(lastChain(), 0, hostOf(first), 16);
  expectVector(lastChain(), 1, hostOf(second), 64);
  finishChain(64);
  expectUsedChain(queue, id, 64);
}

describe("A chain becomes an operation,", () => {
  test("by host addresses, the readable ones first, in a split ring.", () => becomesAnOperation(false));
  test("and in a packed one.", () => becomesAnOperation(true));
  test("through an indirect table of a split ring.", () => throughATable(false));
  test("through an indirect table of a packed ring.", () => throughATable(true));

  test("with the number of its queue.", () => {
    openCore(4);
    const queue = new SplitDriver(3, SIZE, QUEUE_F_CHAINS);
    queue.start();
    offer(queue, 8, 8);
    turn();
    expect(lastChain().fd).toBe(3);
  });

  test("whatever stands in it: no header is looked at, no file touched.", () => {
    const queue = start(false);
    offer(queue, 16, 1);
    turn();
    expect(operationCount()).toBe(0);
    expect(chainsTaken().length).toBe(1);
  });

  test("with readable buffers alone.", () => {
    const queue = start(false);
    const gpa = allocate(100);
    readable(gpa, 100);
    const id = queue.offer();
    turn();
    expect(lastChain().length).toBe(1);
    expect(lastChain().offset).toBe(1);
    expectVector(lastChain(), 0, hostOf(gpa), 100);
    finishChain(0);
    expectUsedChain(queue, id, 0);
    expect(counter(QUEUE_BYTES_OUT)).toBe(100);
  });

  test("with writable buffers alone.", () => {
    const queue = start(false);
    const gpa = allocate(100);
    writable(gpa, 100);
    const id = queue.offer();
    turn();
    expect(lastChain().length).toBe(1);
    expect(lastChain().offset).toBe(0);
    expectVector(lastChain(), 0, hostOf(gpa), 100);
    finishChain(1);
    expectUsedChain(queue, id, 1);
  });

  test("with no vector at all, if its buffers have no length.", () => {
    const queue = start(false);
    readable(allocate(1), 0);
    writable(allocate(1), 0);
    const id = queue.offer();
    turn();
    expect(lastChain().length).toBe(0);
    expect(lastChain().offset).toBe(0);
    finishChain(100);
    expectUsedChain(queue, id, 0);
  });

  test("as often as the ring has chains.", () => {
    const queue = start(true);
    for (let i: u32 = 0; i < 1000; i++) {
      const gpa = RAM_GPA + RAM_SIZE - 64;
      writable(gpa, 64);
      const id = queue.offer();
      turn();
      finishChain(i % 65);
      expectUsedChain(queue, id, i % 65);
    }
  });
});

describe("Adjacent buffers of a chain", () => {
  test("are one vector.", () => {
    const queue = start(false);
    const gpa = allocate(300);
    readable(gpa, 100);
    readable(gpa + 100, 100);
    readable(gpa + 200, 100);
    queue.offer();
    turn();
    expect(lastChain().length).toBe(1);
    expect(lastChain().offset).toBe(1);
    expectVector(lastChain(), 0, hostOf(gpa), 300);
  });

  test("are two where the device may write from.", () => {
    const queue = start(false);
    const gpa = allocate(400);
    readable(gpa, 100);
    readable(gpa + 100, 100);
    writable(gpa + 200, 100);
    writable(gpa + 300, 100);
    queue.offer();
    turn();
    expect(lastChain().length).toBe(2);
    expect(lastChain().offset).toBe(1);
    expectVector(lastChain(), 0, hostOf(gpa), 200);
    expectVector(lastChain(), 1, hostOf(gpa + 200), 200);
  });

  test("are several where they lie in regions that the host has elsewhere.", () => {
    const queue = start(false);
    const gpa = RAM_GPA + RAM_SIZE - 4096;
    setRegion(0, RAM_GPA, RAM_SIZE - 4096, RAM_HOST);
    setRegion(1, gpa, 4096, 0x5555_0000);
    writable(gpa - 100, 300);
    const id = queue.offer();
    turn();
    expect(lastChain().length).toBe(2);
    expect(lastChain().offset).toBe(0);
    expectVector(lastChain(), 0, hostOf(gpa - 100), 100);
    expectVector(lastChain(), 1, 0x5555_0000, 200);
    finishChain(300);
    expectUsedChain(queue, id, 300);
  });
});

describe("A chain", () => {
  test("of as many vectors as an operation takes is one.", () => {
    const queue = start(false);
    for (let i = 0; i < IOVECS_MAX; i++) writable(allocate(8), 8);
    queue.offerTable();
    turn();
    expect(lastChain().length).toBe(IOVECS_MAX);
  });

  test("of more is used with length 0, and counts as a failure.", () => {
    const queue = start(false);
    for (let i = 0; i <= IOVECS_MAX; i++) writable(allocate(8), 8);
    const id = queue.offerTable();
    turn();
    expect(chainsTaken().length).toBe(0);
    expectUsedChain(queue, id, 0);
    expect(counter(QUEUE_FAILURES)).toBe(1);
    // The next one is served.
    offer(queue, 8, 8);
    turn();
    expect(chainsTaken().length).toBe(1);
  });

  test("whose readable buffer stands behind a writable one breaks the ring.", () => {
    const queue = start(false);
    writable(allocate(8), 8);
    readable(allocate(8), 8);
    queue.offer();
    turn();
    expect(queueFault(0)).toBe(FAULT_READABLE_AFTER_WRITABLE);
    expect(chainsTaken().length).toBe(0);
  });

  test("breaks the ring so, too, if that readable buffer has no length.", () => {
    const queue = start(false);
    writable(allocate(8), 8);
    readable(allocate(8), 0);
    queue.offer();
    turn();
    expect(queueFault(0)).toBe(FAULT_READABLE_AFTER_WRITABLE);
  });

  test("that points outside of guest memory breaks the ring.", () => {
    const queue = start(false);
    writable(RAM_GPA + RAM_SIZE - 4, 8);
    queue.offer();
    turn();
    expect(queueFault(0)).toBe(FAULT_ADDRESS);
    expect(chainsTaken().length).toBe(0);
  });

  test("needs no window for its data.", () => {
    const queue = start(false);
    const gpa = allocate(4096);
    hideFromWindows(gpa, 4096);
    writable(gpa, 4096);
    queue.offer();
    turn();
    expectVector(lastChain(), 0, hostOf(gpa), 4096);
  });

  test("waits for the window of its indirect table.", () => {
    const queue = start(false);
    const table = allocate(0);
    writable(allocate(8), 8);
    // The table is allocated by the driver, right behind.
    hideFromWindows(table, 0x2000);
    const id = queue.offerTable();
    expect(turn() & STEP_WINDOW_MISS).toBe(STEP_WINDOW_MISS);
    expect(missedGpa()).toBeGreaterThanOrEqual(table);
    expect(chainsTaken().length).toBe(0);
    showAll();
    turn();
    expect(chainsTaken().length).toBe(1);
    finishChain(8);
    expectUsedChain(queue, id, 8);
  });
});

describe("The result of a chain", () => {
  test("is no more than the driver gave to write.", () => {
    const queue = start(false);
    const id = offer(queue, 100, 10);
    turn();
    finishChain(11);
    expectUsedChain(queue, id, 10);
    expect(counter(QUEUE_BYTES_IN)).toBe(10);
  });

  test("is 0 where an error came, which counts as a failure, once.", () => {
    const queue = start(false);
    const id = offer(queue, 100, 10);
    turn();
    finishChain(-5);
    expectUsedChain(queue, id, 0);
    expect(counter(QUEUE_FAILURES)).toBe(1);
    expect(counter(QUEUE_KINDS + KIND_CHAIN * 8)).toBe(0);
    expect(chainsTaken().length).toBe(1);
  });

  test("is what its device has said of a failure, which counts as one.", () => {
    const queue = start(false);
    const lengths: i32[] = [7, 0, 11, CHAIN_FAILED_LIMIT - 1];
    for (let i = 0; i < lengths.length; i++) {
      const id = offer(queue, 100, 10);
      turn();
      finishChain(CHAIN_FAILED + lengths[i]);
      expectUsedChain(queue, id, <u32>min(lengths[i], 10));
    }
    expect(counter(QUEUE_FAILURES)).toBe(4);
    expect(counter(QUEUE_KINDS + KIND_CHAIN * 8)).toBe(0);
    expect(counter(QUEUE_BYTES_IN)).toBe(0, "they are no data");
  });

  test("that is no length of a failure is an errno.", () => {
    const queue = start(false);
    const id = offer(queue, 100, 10);
    turn();
    finishChain(CHAIN_FAILED + CHAIN_FAILED_LIMIT);
    expectUsedChain(queue, id, 0);
    expect(counter(QUEUE_FAILURES)).toBe(1);
  });

  test("that asks for another try is an error: a chain is submitted once.", () => {
    const queue = start(false);
    const first = offer(queue, 100, 10);
    turn();
    finishChain(-EAGAIN);
    expectUsedChain(queue, first, 0);
    const second = offer(queue, 100, 10);
    turn();
    finishChain(-ECANCELED);
    expectUsedChain(queue, second, 0);
    expect(counter(QUEUE_FAILURES)).toBe(2);
    expect(chainsTaken().length).toBe(2);
  });

  test("may come in any order.", () => {
    const queue = start(true);
    const first = offer(queue, 8, 8);
    const second = offer(queue, 8, 8);
    turn();
    complete(chainsTaken()[1], 2);
    turn();
    expectUsedChain(queue, second, 2);
    complete(chainsTaken()[0], 1);
    turn();
    expectUsedChain(queue, first, 1);
  });
});

// --- Parked chains, and those of a predecessor ----------------------------------------------------------------------

/** Stops the queue and starts it where it stands. */
function restart(queue: Driver): void {
  stopQueue(0);
  turn();
  queue.startAt(queueBase(0));
}

function comesAgainAtTheNextStart(isPacked: bool, flags: u32): void {
  const queue = startTracked(isPacked, flags);
  const first = offer(queue, 8, 64);
  const second = offer(queue, 8, 8);
  turn();
  complete(chainsTaken()[0], CHAIN_PARKED);
  turn();
  expect(queue.takeUsed()).toBe(false, "parked, but used");
  turn();
  expect(chainsTaken().length).toBe(2, "taken again before the ring was stopped");
  complete(chainsTaken()[1], 8);
  turn();
  expectUsedChain(queue, second, 8);
  const third = offer(queue, 8, 8);
  turn();
  complete(chainsTaken()[2], 8);
  turn();
  expectUsedChain(queue, third, 8);

  stopQueue(0);
  expect(turn() & STEP_STOPPED).toBe(STEP_STOPPED, "a parked chain keeps the ring from stopping");
  queue.startAt(queueBase(0));
  const fourth = offer(queue, 8, 8);
  turn();
  expect(chainsTaken().length).toBe(5);
  expect(vectorLength(chainsTaken()[3], 1)).toBe(64, "the parked one is first");
  expect(chainsTaken()[3].opFlags).toBe(0);
  complete(chainsTaken()[3], 60);
  complete(chainsTaken()[4], 4);
  turn();
  expectUsedChain(queue, first, 60);
  expectUsedChain(queue, fourth, 4);
  restart(queue);
  turn();
  expect(chainsTaken().length).toBe(5, "it has been used, and comes again");
  expect(counter(QUEUE_FAILURES)).toBe(0);
}

/** Another instance starts over the same rings. */
function succeed(queue: Driver): void {
  const ring = queue;
  memory.fill(WORKERS_PTR + WORKER_QUEUES, 0, QUEUE_STRIDE);
  trackInflight(0, PLAIN_PTR, SIZE);
  ring.startAt(0x8000_8000);
}

function expectFlagsOfLeftover(isPacked: bool, mode: u32, flags: u32): void {
  const queue = startTracked(isPacked, mode);
  const id = offer(queue, 8, 16);
  turn();
  expect(chainsTaken()[0].opFlags).toBe(0);
  succeed(queue);
  turn();
  expect(chainsTaken().length).toBe(2);
  const sqe = lastChain();
  expect(sqe.opFlags).toBe(flags);
  expect(sqe.length).toBe(2);
  expect(sqe.offset).toBe(1);
  finishChain(16);
  expectUsedChain(queue, id, 16);
  expect(queue.takeUsed()).toBe(false, "used twice");
  // What is taken from the ring is none of a predecessor's.
  offer(queue, 8, 8);
  turn();
  expect(lastChain().opFlags).toBe(0);
}

/** What was parked, taken again, and then left by a crash. */
function losesItsMark(isPacked: bool): void {
  const queue = startTracked(isPacked, QUEUE_F_RECOVER_FAIL);
  const id = offer(queue, 8, 16);
  turn();
  finishChain(CHAIN_PARKED);
  succeed(queue);
  turn();
  expect(lastChain().opFlags).toBe(0, "it was parked");
  succeed(queue);
  turn();
  expect(lastChain().opFlags).toBe(CHAIN_F_LEFTOVER | CHAIN_F_FAIL, "it may have been begun");
  expect(chainsTaken().length).toBe(3);
  finishChain(0);
  expectUsedChain(queue, id, 0);
}

function staysRecordedWhenCancelled(isPacked: bool): void {
  const queue = startTracked(isPacked);
  const id = offer(queue, 8, 16);
  turn();
  const taken = lastChain();
  suspendQueue(0);
  turn();
  expect(cancelCount()).toBe(1);
  expect(lastCancel().address).toBe(taken.userData);
  expect(isStopped(0)).toBe(false);
  complete(taken, -ECANCELED);
  turn();
  expect(isStopped(0)).toBe(true);
  expect(queue.takeUsed()).toBe(false);
  expect(counter(QUEUE_FAILURES)).toBe(0);
  queue.startAt(queueBase(0));
  turn();
  expect(chainsTaken().length).toBe(2);
  expect(lastChain().opFlags).toBe(CHAIN_F_LEFTOVER);
  finishChain(3);
  expectUsedChain(queue, id, 3);
}

describe("A parked chain", () => {
  test("comes again at the next start of a split ring, first and without flags.", () =>
    comesAgainAtTheNextStart(false, 0));
  test("comes again at the next start of a packed ring, first and without flags.", () =>
    comesAgainAtTheNextStart(true, 0));
  test("comes without flags, too, where leftovers are to fail.", () =>
    comesAgainAtTheNextStart(false, QUEUE_F_RECOVER_FAIL));
  test("comes without flags, too, where leftovers of a packed ring are to fail.", () =>
    comesAgainAtTheNextStart(true, QUEUE_F_RECOVER_FAIL));
  test("of a split ring is a leftover as others are, once it has been taken again.", () =>
    losesItsMark(false));
  test("of a packed ring is a leftover as others are, once it has been taken again.", () =>
    losesItsMark(true));

  test("is used as a failure where nothing is recorded: it would be lost.", () => {
    const queue = start(false);
    const id = offer(queue, 8, 8);
    turn();
    finishChain(CHAIN_PARKED);
    expectUsedChain(queue, id, 0);
    expect(counter(QUEUE_FAILURES)).toBe(1);
  });

  test("gives its place in the ring to no other while it is parked, but its slot.", () => {
    openCore(1, 1);
    const queue = new SplitDriver(0, SIZE, QUEUE_F_CHAINS);
    memory.fill(PLAIN_PTR, 0, 32 + 32 * SIZE);
    trackInflight(0, PLAIN_PTR, SIZE);
    queue.start();
    offer(queue, 8, 8);
    offer(queue, 8, 8);
    turn();
    expect(chainsTaken().length).toBe(1);
    expect(load<u32>(WORKERS_PTR + WORKER_QUEUES + QUEUE_IN_FLIGHT)).toBe(1);
    finishChain(CHAIN_PARKED);
    expect(chainsTaken().length).toBe(2);
    expect(load<u32>(WORKERS_PTR + WORKER_QUEUES + QUEUE_IN_FLIGHT)).toBe(1);
  });
});

describe("A chain that a predecessor had taken", () => {
  test("is said to be one, in a split ring.", () => expectFlagsOfLeftover(false, 0, CHAIN_F_LEFTOVER));
  test("is said to be one, in a packed ring.", () => expectFlagsOfLeftover(true, 0, CHAIN_F_LEFTOVER));
  test("is to fail, where the queue of a split ring says so.", () =>
    expectFlagsOfLeftover(false, QUEUE_F_RECOVER_FAIL, CHAIN_F_LEFTOVER | CHAIN_F_FAIL));
  test("is to fail, where the queue of a packed ring says so.", () =>
    expectFlagsOfLeftover(true, QUEUE_F_RECOVER_FAIL, CHAIN_F_LEFTOVER | CHAIN_F_FAIL));
  test("is as any other, where the queue of a split ring forgets.", () =>
    expectFlagsOfLeftover(false, QUEUE_F_RECOVER_FORGET, 0));
  test("is as any other, where the queue of a packed ring forgets.", () =>
    expectFlagsOfLeftover(true, QUEUE_F_RECOVER_FORGET, 0));
  test("stays recorded in a split ring when it was cancelled.", () => staysRecordedWhenCancelled(false));
  test("stays recorded in a packed ring when it was cancelled.", () => staysRecordedWhenCancelled(true));

  test("may be parked by whoever it is cancelled for.", () => {
    const queue = startTracked(false, QUEUE_F_RECOVER_FAIL);
    offer(queue, 8, 16);
    turn();
    const taken = lastChain();
    suspendQueue(0);
    turn();
    complete(taken, CHAIN_PARKED);
    turn();
    expect(isStopped(0)).toBe(true);
    queue.startAt(queueBase(0));
    turn();
    expect(lastChain().opFlags).toBe(0);
  });
});
