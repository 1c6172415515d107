// statistics.ts: how long requests took, by a clock that the host tells.

import {
  KIND_DISCARD,
  KIND_FLUSH,
  KIND_READ,
  KIND_WRITE,
  KIND_WRITE_ZEROES,
} from "../../assembly/abi/block.ts";
import { WORKERS_PTR } from "../../assembly/abi/memory.ts";
import {
  BUCKETS,
  HISTOGRAM_COUNTS,
  HISTOGRAM_STRIDE,
  HISTOGRAM_SUM,
  KINDS_TIMED,
} from "../../assembly/abi/statistics.ts";
import { LATENCIES_STRIDE, WORKER_CLOCK, WORKER_LATENCIES } from "../../assembly/abi/worker.ts";
import { bucketOf, elapsedNs } from "../../assembly/io/statistics.ts";
import { VIRTIO_BLK_T_FLUSH } from "../../assembly/spec/virtio-blk.ts";
import {
  finish,
  offerPlain,
  offerRangeOf,
  offerRead,
  offerWrite,
  openCore,
  SplitDriver,
  turn,
} from "./support.ts";

const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const EIO: i32 = 5;

let queue: SplitDriver = new SplitDriver();

function tell(milliseconds: f64): void {
  store<f64>(WORKERS_PTR + WORKER_CLOCK, milliseconds);
}

function histogramOf(index: u32, kind: u32): usize {
  return (
    <usize>WORKERS_PTR + WORKER_LATENCIES + <usize>index * LATENCIES_STRIDE + <usize>kind * HISTOGRAM_STRIDE
  );
}

function sumOf(kind: u32, index: u32 = 0): u64 {
  return load<u64>(histogramOf(index, kind), HISTOGRAM_SUM);
}

function countOf(kind: u32, bucket: u32, index: u32 = 0): u64 {
  return load<u64>(histogramOf(index, kind) + ((<usize>bucket) << 3), HISTOGRAM_COUNTS);
}

/** Of all queues and kinds. */
function countAll(): u64 {
  let count: u64 = 0;
  for (let index: u32 = 0; index < 2; index++) {
    for (let kind: u32 = 0; kind < <u32>KINDS_TIMED; kind++) {
      for (let bucket: u32 = 0; bucket < <u32>BUCKETS; bucket++) count += countOf(kind, bucket, index);
    }
  }
  return count;
}

describe("a bucket", () => {
  test("is 64 ns wide up to the 16th.", () => {
    expect(bucketOf(0)).toBe(0);
    expect(bucketOf(63)).toBe(0);
    expect(bucketOf(64)).toBe(1);
    expect(bucketOf(1023)).toBe(15);
  });

  test("is one of eight in each power of two from there.", () => {
    expect(bucketOf(1024)).toBe(16);
    expect(bucketOf(1151)).toBe(16);
    expect(bucketOf(1152)).toBe(17);
    expect(bucketOf(2047)).toBe(23);
    expect(bucketOf(2048)).toBe(24);
  });

  test("is the last for the longest, and for what is longer.", () => {
    expect(bucketOf(((<u64>1) << 40) - 1)).toBe(BUCKETS - 1);
    expect(bucketOf((<u64>1) << 40)).toBe(BUCKETS - 1);
    expect(bucketOf(u64.MAX_VALUE)).toBe(BUCKETS - 1);
  });
});

describe("the time between two looks at the clock", () => {
  test("is in nanoseconds.", () => {
    expect(elapsedNs(1, 1.5)).toBe(500000);
  });

  test("is nothing if the clock was set back, or isn't one.", () => {
    expect(elapsedNs(2, 1)).toBe(0);
    expect(elapsedNs(f64.NaN, 1)).toBe(0);
    expect(elapsedNs(1, f64.NaN)).toBe(0);
  });

  test("has a bound.", () => {
    expect(elapsedNs(1, Infinity)).toBe(((<u64>1) << 40) - 1);
    expect(elapsedNs(1, f64.MAX_VALUE)).toBe(((<u64>1) << 40) - 1);
  });
});

describe("a request's time", () => {
  beforeEach(() => {
    openCore(2);
    memory.fill(histogramOf(0, 0), 0, 2 * LATENCIES_STRIDE);
    tell(0);
    queue = new SplitDriver(1);
    queue.start();
    turn();
  });

  afterEach(() => {
    tell(0);
  });

  test("is from the turn that takes it to the turn that uses it, in its queue's histogram.", () => {
    tell(10);
    offerRead(queue, 0, 512);
    turn();
    tell(10.25);
    finish(512);
    expect(sumOf(KIND_READ, 1)).toBe(250000);
    expect(countOf(KIND_READ, bucketOf(250000), 1)).toBe(1);
    expect(countAll()).toBe(1);
  });

  test("is kept apart by kind.", () => {
    tell(10);
    offerWrite(queue, 0, 512);
    turn();
    finish(512);
    offerPlain(queue, VIRTIO_BLK_T_FLUSH);
    turn();
    finish(0);
    offerRangeOf(queue, DISCARD, 0, 8, 0);
    turn();
    finish(0);
    offerRangeOf(queue, WRITE_ZEROES, 0, 8, 0);
    turn();
    finish(0);
    expect(countOf(KIND_WRITE, 0, 1)).toBe(1);
    expect(countOf(KIND_FLUSH, 0, 1)).toBe(1);
    expect(countOf(KIND_DISCARD, 0, 1)).toBe(1);
    expect(countOf(KIND_WRITE_ZEROES, 0, 1)).toBe(1);
    expect(countAll()).toBe(4);
  });

  test("is not recorded without a clock.", () => {
    offerRead(queue, 0, 512);
    turn();
    finish(512);
    expect(countAll()).toBe(0);
  });

  test("is not recorded if the clock started after it, or stopped before its end.", () => {
    offerRead(queue, 0, 512);
    turn();
    tell(10);
    finish(512);
    offerRead(queue, 0, 512);
    turn();
    tell(0);
    finish(512);
    expect(countAll()).toBe(0);
  });

  test("is not recorded if it failed.", () => {
    tell(10);
    offerRead(queue, 0, 512);
    turn();
    finish(-EIO);
    expect(countAll()).toBe(0);
  });
});
