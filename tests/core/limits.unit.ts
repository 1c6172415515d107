// limits.ts and throttle.ts: how much is taken in a time, by a clock that the host tells.

import {
  DEVICE_LIMIT_REQUEST_BYTES,
  DEVICE_LIMITED,
  DEVICE_LIMITS,
} from "../../assembly/abi/device-block.ts";
import {
  LIMIT_BURST_PRICE,
  LIMIT_BURST_ROOM,
  LIMIT_BYTES,
  LIMIT_PAID_UNTIL,
  LIMIT_PRICE,
  LIMIT_READS,
  LIMIT_REQUESTS,
  LIMIT_ROOM,
  LIMIT_STRIDE,
  LIMIT_WRITES,
  LIMIT_WRITTEN_BYTES,
} from "../../assembly/abi/limits.ts";
import { WORKERS_PTR } from "../../assembly/abi/memory.ts";
import { QUEUE_WAITED_NS } from "../../assembly/abi/queue.ts";
import { NEWS_NONE, NEWS_STEP, STEP_THROTTLED } from "../../assembly/abi/step.ts";
import { WORKER_NOW, WORKER_QUEUES } from "../../assembly/abi/worker.ts";
import { isStopped, news, stopQueue, throttleUs } from "../../assembly/index.ts";
import {
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../assembly/spec/virtio-blk.ts";
import {
  CALL_FD,
  complete,
  countFor,
  KICK_FD,
  lastFor,
  offerPlain,
  offerRangeOf,
  offerRead,
  offerWrite,
  openCore,
  operation,
  operationCount,
  SplitDriver,
  setDevice,
  turn,
} from "./support.ts";

const NS: f64 = 1_000_000_000;
/** The clock's start: some hours. */
const START: f64 = 12_345_678_901_234;

let queue: SplitDriver = new SplitDriver();
let now: f64 = START;
let finished: i32 = 0;

function tell(nanoseconds: f64): void {
  now = nanoseconds;
  store<f64>(WORKERS_PTR + WORKER_NOW, now);
}

function bucket(index: i32): i32 {
  return DEVICE_LIMITS + index * LIMIT_STRIDE;
}

/** So many a second, `roomMs` of which may be owed. */
function limit(index: i32, average: f64, roomMs: f64 = 100): void {
  setDevice<f64>(bucket(index) + LIMIT_PRICE, NS / average);
  setDevice<u64>(bucket(index) + LIMIT_ROOM, <u64>(roomMs * 1_000_000));
  setDevice<u32>(DEVICE_LIMITED, 1);
}

/** Ends all that was taken. */
function finishAll(): void {
  for (; finished < operationCount(); finished++) {
    const sqe = operation(finished);
    complete(sqe, sqe.opcode === 17 ? 0 : <i32>sqe.length);
  }
  turn();
  while (queue.takeUsed()) {}
}

/** Turns until nothing more is taken at this time. How many operations that were. */
function take(): i32 {
  const before = operationCount();
  let last = before - 1;
  while (operationCount() !== last) {
    last = operationCount();
    turn();
  }
  return operationCount() - before;
}

/** How many reads of 512 bytes are taken until then, one millisecond after the other, with always some in the ring. */
function readsFor(milliseconds: i32): i32 {
  let count = 0;
  for (let ms = 0; ms < milliseconds; ms++) {
    tell(now + 1_000_000);
    while (ringHolds < 32) {
      offerRead(queue, 0, 512);
      ringHolds++;
    }
    const taken = take();
    ringHolds -= taken;
    count += taken;
    finishAll();
  }
  return count;
}

let ringHolds: i32 = 0;

describe("a limit", () => {
  beforeEach(() => {
    openCore(2, 256);
    queue = new SplitDriver();
    queue.start();
    finished = 0;
    ringHolds = 0;
    tell(START);
  });

  test("that is not set lets all through, without a clock.", () => {
    tell(0);
    for (let i = 0; i < 20; i++) offerRead(queue, 0, 512);
    expect(take()).toBe(20);
  });

  test("of requests lets a tenth of a second through at once, and one more, and then its average.", () => {
    limit(LIMIT_REQUESTS, 100);
    for (let i = 0; i < 32; i++) offerRead(queue, 0, 512);
    expect(take()).toBe(11);
    expect(turn() & STEP_THROTTLED).toBe(STEP_THROTTLED);
    expect(throttleUs()).toBe(10_000);
    tell(START + 9_999_000);
    expect(take()).toBe(0);
    tell(START + 10_000_000);
    expect(take()).toBe(1);
    tell(START + 50_000_000);
    expect(take()).toBe(4);
  });

  test("of requests holds over seconds.", () => {
    limit(LIMIT_REQUESTS, 250);
    expect(readsFor(4000)).toBeLessThanOrEqual(1000 + 27);
    expect(readsFor(4000)).toBe(1000);
  });

  test("of bytes takes a request that is larger than what is left, and has it paid.", () => {
    limit(LIMIT_BYTES, 4096, 10);
    offerRead(queue, 0, 8192);
    offerRead(queue, 0, 512);
    expect(take()).toBe(1);
    tell(START + 1_989_000_000);
    expect(take()).toBe(0);
    tell(START + 1_990_000_001);
    expect(take()).toBe(1);
  });

  test("of writes counts writes, discards and write-zeroes, and neither reads, flushes nor IDs.", () => {
    limit(LIMIT_WRITES, 1, 0);
    offerWrite(queue, 0, 512);
    expect(take()).toBe(1, "the first");
    offerRead(queue, 0, 512);
    offerPlain(queue, VIRTIO_BLK_T_FLUSH);
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    expect(take()).toBe(2, "a read and a flush");
    offerRangeOf(queue, VIRTIO_BLK_T_DISCARD, 0, 8, 0);
    expect(take()).toBe(0, "a discard");
    tell(now + NS);
    expect(take()).toBe(1);
    offerRangeOf(queue, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0);
    expect(take()).toBe(0, "a write-zeroes");
    tell(now + NS);
    expect(take()).toBe(1);
  });

  test("of written bytes counts what a discard names.", () => {
    limit(LIMIT_WRITTEN_BYTES, 512_000, 0);
    offerRangeOf(queue, VIRTIO_BLK_T_DISCARD, 0, 1000, 0);
    offerWrite(queue, 0, 512);
    expect(take()).toBe(1);
    tell(START + 999_000_000);
    expect(take()).toBe(0);
    tell(START + 1_000_000_000);
    expect(take()).toBe(1);
  });

  test("of requests counts a large one as several, if told so.", () => {
    limit(LIMIT_READS, 10, 0);
    setDevice<u32>(DEVICE_LIMIT_REQUEST_BYTES, 4096);
    offerRead(queue, 0, 16384);
    offerRead(queue, 0, 512);
    expect(take()).toBe(1);
    tell(START + 399_000_000);
    expect(take()).toBe(0);
    tell(START + 400_000_000);
    expect(take()).toBe(1);
  });

  test("with a burst lets its length through at its rate, and then the average.", () => {
    // 100 a second, 500 for 2 s: what is above the average fills 1000 in 2.5 s, less what comes at once.
    limit(LIMIT_REQUESTS, 100, 10_000);
    setDevice<f64>(bucket(LIMIT_REQUESTS) + LIMIT_BURST_PRICE, NS / 500);
    setDevice<u64>(bucket(LIMIT_REQUESTS) + LIMIT_BURST_ROOM, 100_000_000);
    const first = readsFor(1000);
    expect(first).toBeGreaterThanOrEqual(545);
    expect(first).toBeLessThanOrEqual(552);
    expect(readsFor(1000)).toBe(500);
    readsFor(1000);
    expect(readsFor(1000)).toBe(100);
  });

  test("that is taken away lets all go on.", () => {
    limit(LIMIT_REQUESTS, 1, 0);
    for (let i = 0; i < 10; i++) offerRead(queue, 0, 512);
    expect(take()).toBe(1);
    setDevice<u32>(DEVICE_LIMITED, 0);
    expect(take()).toBe(9);
  });

  test("is asked again within 50 ms, since it may be changed.", () => {
    limit(LIMIT_REQUESTS, 1, 0);
    offerRead(queue, 0, 512);
    offerRead(queue, 0, 512);
    take();
    turn();
    expect(throttleUs()).toBeLessThanOrEqual(50_000);
    setDevice<f64>(bucket(LIMIT_REQUESTS) + LIMIT_PRICE, 1);
    setDevice<u64>(bucket(LIMIT_REQUESTS) + LIMIT_PAID_UNTIL, 0);
    tell(now + 50_000_000);
    expect(take()).toBe(1);
  });

  test("keeps kicks off, and is no news.", () => {
    limit(LIMIT_REQUESTS, 1, 0);
    offerRead(queue, 0, 512);
    take();
    offerRead(queue, 0, 512);
    turn();
    const kicks = countFor(KICK_FD);
    expect(news()).toBe(NEWS_NONE);
    turn();
    expect(countFor(KICK_FD)).toBe(kicks);
    setDevice<u32>(DEVICE_LIMITED, 0);
    turn();
    offerRead(queue, 0, 512);
    expect(news()).toBe(NEWS_STEP);
  });

  test("holds back no stop.", () => {
    limit(LIMIT_REQUESTS, 1, 0);
    offerRead(queue, 0, 512);
    offerRead(queue, 0, 512);
    take();
    finishAll();
    stopQueue(0);
    turn();
    // The read of the kick is taken back.
    complete(lastFor(KICK_FD), -125);
    complete(lastFor(CALL_FD), 8);
    turn();
    expect(isStopped(0)).toBe(true);
  });

  test("counts how long the next chain has waited.", () => {
    const counter = <usize>WORKERS_PTR + WORKER_QUEUES;
    limit(LIMIT_REQUESTS, 10, 0);
    offerRead(queue, 0, 512);
    offerRead(queue, 0, 512);
    take();
    expect(load<u64>(counter, QUEUE_WAITED_NS)).toBe(0);
    tell(START + 40_000_000);
    take();
    tell(START + 100_000_000);
    expect(take()).toBe(1);
    expect(load<u64>(counter, QUEUE_WAITED_NS)).toBe(100_000_000);
  });

  test("is for all queues together, and lets each have its turn.", () => {
    const other = new SplitDriver(1);
    other.start();
    limit(LIMIT_REQUESTS, 1000, 0);
    for (let i = 0; i < 100; i++) {
      offerRead(queue, 0, 512);
      offerRead(other, 8, 512);
    }
    let own = 0;
    for (let ms = 0; ms < 100; ms++) {
      tell(now + 1_000_000);
      const from = operationCount();
      take();
      for (let i = from; i < operationCount(); i++) if (operation(i).offset === 0) own++;
    }
    // Each wait is a millisecond at the least, and the clock goes on by as much.
    expect(operationCount()).toBeGreaterThanOrEqual(95);
    expect(operationCount()).toBeLessThanOrEqual(101);
    expect(own).toBeGreaterThanOrEqual(40);
    expect(own).toBeLessThanOrEqual(60);
  });

  test("may have any numbers, and the clock too.", () => {
    for (let i = 0; i < 3; i++) offerRead(queue, 0, 512);
    limit(LIMIT_REQUESTS, 1e-300, 1e12);
    tell(f64.NaN);
    expect(take()).toBeLessThanOrEqual(3);
    tell(Infinity);
    take();
    tell(-1);
    take();
    setDevice<f64>(bucket(LIMIT_REQUESTS) + LIMIT_PRICE, f64.NaN);
    tell(START);
    take();
  });
});
