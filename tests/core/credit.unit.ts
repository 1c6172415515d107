// Credit: a queue takes as many chains as its device has asked for, and keeps no other queue from slots.

import { CHAIN_PARKED } from "../../assembly/abi/chain.ts";
import { DEVICE_TURN_REQUESTS } from "../../assembly/abi/device-block.ts";
import { FAULT_HEAD_PAST_QUEUE } from "../../assembly/abi/faults.ts";
import { CREDIT_UNLIMITED, QUEUE_F_CHAINS, QUEUE_F_CREDIT } from "../../assembly/abi/queue.ts";
import { NEWS_NONE, NEWS_STEP, STEP_POLL, STEP_SUBMIT_MASK, STEP_WAIT } from "../../assembly/abi/step.ts";
import {
  addCredit,
  news,
  queueBase,
  queueFault,
  setCredit,
  stepAwake,
  stopQueue,
  trackInflight,
} from "../../assembly/index.ts";
import { RING_EVENT_FLAGS_DISABLE, VIRTQ_USED_F_NO_NOTIFY } from "../../assembly/spec/virtqueue.ts";
import {
  allocate,
  chainsTaken,
  complete,
  Driver,
  EVENT_IDX,
  lastChain,
  offerRead,
  openCore,
  operationCount,
  PackedDriver,
  PLAIN_PTR,
  SplitDriver,
  setDevice,
  turn,
  writable,
} from "./support.ts";

const SIZE: u32 = 64;

function makeQueue(index: u32, isPacked: bool, flags: u32): Driver {
  const queue: Driver = isPacked ? new PackedDriver(index, SIZE, flags) : new SplitDriver(index, SIZE, flags);
  queue.kickFd = -1;
  queue.callFd = -1;
  return queue;
}

/** A fresh core whose queue 0 takes chains as credit allows. */
function start(isPacked: bool, flags: u32 = 0): Driver {
  openCore();
  setDevice<u32>(DEVICE_TURN_REQUESTS, 0);
  const queue = makeQueue(0, isPacked, QUEUE_F_CHAINS | QUEUE_F_CREDIT | flags);
  queue.start();
  return queue;
}

function offer(queue: Driver, count: u32): void {
  for (let i: u32 = 0; i < count; i++) {
    writable(allocate(8), 8);
    queue.offer();
  }
}

function takesWhatItMay(isPacked: bool): void {
  const queue = start(isPacked);
  offer(queue, 10);
  turn();
  turn();
  expect(chainsTaken().length).toBe(0, "without credit");
  addCredit(0, 1);
  turn();
  turn();
  expect(chainsTaken().length).toBe(1);
  addCredit(0, 2);
  turn();
  expect(chainsTaken().length).toBe(3);
  setCredit(0, 2);
  turn();
  turn();
  expect(chainsTaken().length).toBe(5);
  complete(chainsTaken()[0], 8);
  turn();
  expect(queue.takeUsed()).toBe(true);
  expect(chainsTaken().length).toBe(5, "an answer is no credit");
  addCredit(0, 3);
  setCredit(0, 0);
  turn();
  expect(chainsTaken().length).toBe(5, "taken away");
  setCredit(0, <u32>CREDIT_UNLIMITED);
  turn();
  expect(chainsTaken().length).toBe(10);
  offer(queue, 3);
  turn();
  expect(chainsTaken().length).toBe(13);
}

function startsWithNone(isPacked: bool): void {
  const queue = start(isPacked);
  offer(queue, 4);
  addCredit(0, 10);
  turn();
  expect(chainsTaken().length).toBe(4);
  for (let i = 0; i < 4; i++) complete(chainsTaken()[i], 0);
  turn();
  stopQueue(0);
  turn();
  queue.startAt(queueBase(0));
  offer(queue, 4);
  turn();
  expect(chainsTaken().length).toBe(4, "credit of the former start");
}

function asksForNoKick(isPacked: bool): void {
  const queue = start(isPacked);
  addCredit(0, 1);
  turn();
  const flagsAt = isPacked ? queue.device + 2 : queue.device;
  const off = isPacked ? RING_EVENT_FLAGS_DISABLE : VIRTQ_USED_F_NO_NOTIFY;
  expect(<i32>load<u16>(flagsAt)).toBe(0, "it may take one, and wants to hear of it");
  offer(queue, 1);
  turn();
  expect(<i32>load<u16>(flagsAt)).toBe(off, "its credit is spent");
  turn();
  expect(<i32>load<u16>(flagsAt)).toBe(off);
  addCredit(0, 1);
  turn();
  expect(<i32>load<u16>(flagsAt)).toBe(0, "it has credit again");
}

/** A predecessor leaves five, and three wait in the ring. */
function leftoversSpendIt(isPacked: bool): void {
  openCore();
  setDevice<u32>(DEVICE_TURN_REQUESTS, 0);
  const queue = makeQueue(0, isPacked, QUEUE_F_CHAINS | QUEUE_F_CREDIT);
  memory.fill(PLAIN_PTR, 0, 32 + 32 * SIZE);
  trackInflight(0, PLAIN_PTR, SIZE);
  queue.start();
  offer(queue, 5);
  addCredit(0, 5);
  turn();
  for (let i = 0; i < 5; i++) complete(chainsTaken()[i], CHAIN_PARKED);
  turn();
  stopQueue(0);
  turn();
  queue.startAt(queueBase(0));
  offer(queue, 3);
  turn();
  expect(chainsTaken().length).toBe(5, "leftovers without credit");
  addCredit(0, 2);
  turn();
  turn();
  expect(chainsTaken().length).toBe(7);
  addCredit(0, 4);
  turn();
  expect(chainsTaken().length).toBe(11);
  addCredit(0, 10);
  turn();
  expect(chainsTaken().length).toBe(13);
  for (let i = 5; i < 13; i++) complete(chainsTaken()[i], 8);
  turn();
  for (let i = 0; i < 8; i++) expect(queue.takeUsed()).toBe(true);
  expect(queue.takeUsed()).toBe(false);
}

describe("A queue with credit", () => {
  test("takes as many chains of a split ring as it may.", () => takesWhatItMay(false));
  test("takes as many chains of a packed ring as it may.", () => takesWhatItMay(true));
  test("starts with none, whatever it had: split.", () => startsWithNone(false));
  test("starts with none, whatever it had: packed.", () => startsWithNone(true));
  test("asks the driver of a split ring for no kick while it may take nothing.", () => asksForNoKick(false));
  test("asks the driver of a packed ring for no kick while it may take nothing.", () => asksForNoKick(true));
  test("spends it on leftovers of a split ring, too.", () => leftoversSpendIt(false));
  test("spends it on leftovers of a packed ring, too.", () => leftoversSpendIt(true));

  test("moves no event index while it may take nothing.", () => {
    const queue = start(false, EVENT_IDX);
    const split = changetype<SplitDriver>(queue);
    addCredit(0, 1);
    turn();
    offer(queue, 3);
    turn();
    turn();
    expect(chainsTaken().length).toBe(1);
    expect(<u32>split.availEvent).toBe(0);
    addCredit(0, 5);
    turn();
    expect(<u32>split.availEvent).toBe(3);
  });

  test("has no work, so that its worker may sleep.", () => {
    const queue = start(false);
    turn();
    offer(queue, 3);
    const outcome = turn();
    expect(outcome & STEP_SUBMIT_MASK).toBe(0);
    addCredit(0, 1);
    turn();
    expect(chainsTaken().length).toBe(1);
  });

  test("is no news to a host that looks by itself.", () => {
    const queue = start(false);
    stepAwake();
    offer(queue, 3);
    expect(news()).toBe(NEWS_NONE);
    addCredit(0, 1);
    expect(news()).toBe(NEWS_STEP);
    stepAwake();
    expect(news()).toBe(NEWS_NONE);
  });

  test("never has more than without limit: what is too much is that.", () => {
    const queue = start(false);
    setCredit(0, 0xffff_fff0);
    addCredit(0, 0x20);
    offer(queue, 3);
    turn();
    expect(chainsTaken().length).toBe(3);
    setCredit(0, 5);
    addCredit(0, 0xffff_ffff);
    offer(queue, 20);
    turn();
    expect(chainsTaken().length).toBe(23);
  });
});

describe("A queue without QUEUE_F_CREDIT", () => {
  test("pauses at credit 0 and goes on without limit, also one of a block device.", () => {
    openCore();
    const queue = makeQueue(0, false, 0);
    queue.start();
    turn();
    setCredit(0, 0);
    offerRead(queue, 0, 512);
    turn();
    expect(operationCount()).toBe(0);
    setCredit(0, <u32>CREDIT_UNLIMITED);
    turn();
    expect(operationCount()).toBe(1);
  });
});

// --- Slots ----------------------------------------------------------------------------------------------------------

/** A worker of `requests` slots, whose queues take chains as credit allows; all but the last have as much as they like. */
function openQueues(queues: u32, requests: u32): Driver[] {
  openCore(queues, requests);
  setDevice<u32>(DEVICE_TURN_REQUESTS, 0);
  const made: Driver[] = [];
  for (let i: u32 = 0; i < queues; i++) {
    const queue = makeQueue(i, false, QUEUE_F_CHAINS | QUEUE_F_CREDIT);
    queue.start();
    setCredit(i, 1000);
    made.push(queue);
  }
  return made;
}

describe("Slots", () => {
  test("are there for others while a queue without credit is full of buffers.", () => {
    openCore(2, 4);
    const events = makeQueue(0, false, QUEUE_F_CHAINS | QUEUE_F_CREDIT);
    const work = makeQueue(1, true, QUEUE_F_CHAINS);
    events.start();
    work.start();
    offer(events, SIZE);
    offer(work, 4);
    turn();
    expect(chainsTaken().length).toBe(4);
    for (let i = 0; i < 4; i++) {
      expect(chainsTaken()[i].fd).toBe(1);
      complete(chainsTaken()[i], 0);
    }
    turn();
    for (let i = 0; i < 4; i++) expect(work.takeUsed()).toBe(true);
    addCredit(0, 1);
    turn();
    expect(lastChain().fd).toBe(0);
  });

  test("are left, one to each, to queues that have none.", () => {
    const queues = openQueues(3, 8);
    offer(queues[0], SIZE);
    turn();
    turn();
    expect(chainsTaken().length).toBe(6);
    offer(queues[1], 5);
    turn();
    turn();
    expect(chainsTaken().length).toBe(7);
    expect(lastChain().fd).toBe(1);
    offer(queues[2], 5);
    turn();
    turn();
    expect(chainsTaken().length).toBe(8);
    expect(lastChain().fd).toBe(2);
    // Each goes on with what it gives back itself, for as long as it likes.
    for (let i = 0; i < 3; i++) {
      complete(lastChain(), 8);
      turn();
      turn();
      expect(lastChain().fd).toBe(2);
    }
    expect(chainsTaken().length).toBe(11);
  });

  test("are left to a queue of block requests, too.", () => {
    openCore(2, 4);
    const events = makeQueue(0, false, QUEUE_F_CHAINS | QUEUE_F_CREDIT);
    const disk = makeQueue(1, false, 0);
    events.start();
    disk.start();
    setCredit(0, 1000);
    offer(events, SIZE);
    turn();
    turn();
    expect(chainsTaken().length).toBe(3);
    offerRead(disk, 0, 512);
    turn();
    expect(operationCount()).toBe(1);
  });

  test("are left to nobody by a queue that has none itself, be there fewer than queues.", () => {
    const queues = openQueues(3, 1);
    offer(queues[2], 3);
    turn();
    expect(chainsTaken().length).toBe(1);
    complete(lastChain(), 8);
    turn();
    turn();
    expect(chainsTaken().length).toBe(2);
  });

  test("that were left to a queue are free for all once it has stopped.", () => {
    const queues = openQueues(2, 4);
    offer(queues[0], SIZE);
    turn();
    turn();
    expect(chainsTaken().length).toBe(3);
    stopQueue(1);
    turn();
    expect(chainsTaken().length).toBe(4);
  });

  test("that were left to a queue are free for all once its driver has broken it.", () => {
    const queues = openQueues(2, 4);
    offer(queues[0], SIZE);
    turn();
    turn();
    expect(chainsTaken().length).toBe(3);
    changetype<SplitDriver>(queues[1]).publish(<u16>SIZE);
    // Whichever queue is first in a turn: as long as there is more to do, no turn lets the host wait.
    let outcome = turn();
    while ((outcome & (STEP_WAIT | STEP_POLL)) === 0) outcome = turn();
    expect(queueFault(1)).toBe(FAULT_HEAD_PAST_QUEUE);
    expect(chainsTaken().length).toBe(4);
  });

  test("that were left to a queue are no news to a host that looks by itself.", () => {
    const queues = openQueues(2, 4);
    offer(queues[0], SIZE);
    stepAwake();
    stepAwake();
    expect(news()).toBe(NEWS_NONE);
    offer(queues[1], 1);
    expect(news()).toBe(NEWS_STEP);
  });
});
