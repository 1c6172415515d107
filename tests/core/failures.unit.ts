// statistics.ts: what the engine failed, by kind and errno, for the host to tell.
import {
  KIND_DISCARD,
  KIND_FLUSH,
  KIND_READ,
  KIND_WRITE,
  KIND_WRITE_ZEROES,
} from "../../assembly/abi/block.ts";
import {
  DEVICE_BOUNCE_FD,
  DEVICE_DIRECT_MASK,
  DEVICE_READ_ONLY,
  DEVICE_WRITE_THROUGH,
} from "../../assembly/abi/device-block.ts";
import { WORKERS_PTR } from "../../assembly/abi/memory.ts";
import {
  FAILURE_COUNT,
  FAILURE_ERRNOS,
  FAILURE_SECTOR,
  FAILURE_SEEN,
  FAILURE_STRIDE,
  KINDS_TIMED,
} from "../../assembly/abi/statistics.ts";
import { STEP_FAILED } from "../../assembly/abi/step.ts";
import { WORKER_FAILURES } from "../../assembly/abi/worker.ts";
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "../../assembly/spec/virtio-blk.ts";
import {
  allocate,
  beginRequest,
  CAPACITY,
  endRequest,
  finish,
  offerPlain,
  offerRangeOf,
  offerRead,
  offerWrite,
  openCore,
  readable,
  SplitDriver,
  setDevice,
  statusByte,
  turn,
  writable,
} from "./support.ts";

const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const ENOSPC: i32 = 28;
const EOPNOTSUPP: i32 = 95;
const ENTRIES: u32 = KINDS_TIMED * FAILURE_ERRNOS;

let queue: SplitDriver = new SplitDriver();

function entryOf(kind: u32, errno: i32): usize {
  return <usize>WORKERS_PTR + WORKER_FAILURES + <usize>(kind * FAILURE_ERRNOS + errno) * FAILURE_STRIDE;
}

function countOf(kind: u32, errno: i32): u64 {
  return load<u64>(entryOf(kind, errno), FAILURE_COUNT);
}

function sectorOf(kind: u32, errno: i32): u64 {
  return load<u64>(entryOf(kind, errno), FAILURE_SECTOR);
}

/** Of all kinds. */
function countAll(): u64 {
  let count: u64 = 0;
  for (let i: u32 = 0; i < ENTRIES; i++)
    count += load<u64>(entryOf(0, 0) + i * FAILURE_STRIDE, FAILURE_COUNT);
  return count;
}

function read(sector: u64, result: i32): u32 {
  offerRead(queue, sector, 1024);
  turn();
  return finish(result);
}

describe("a failure of the engine", () => {
  beforeEach(() => {
    openCore();
    memory.fill(entryOf(0, 0), 0, <usize>ENTRIES * FAILURE_STRIDE);
    queue = new SplitDriver();
    queue.start();
    turn();
  });

  test("is counted by kind and errno, with the sector of the first.", () => {
    expect(read(40, -EIO) & STEP_FAILED).toBe(STEP_FAILED);
    expect(statusByte()).toBe(<u8>VIRTIO_BLK_S_IOERR);
    read(7, -EIO);
    expect(countOf(KIND_READ, EIO)).toBe(2);
    expect(sectorOf(KIND_READ, EIO)).toBe(40);
    expect(countAll()).toBe(2);
  });

  test("is the first again once the host has seen those before.", () => {
    read(40, -EIO);
    store<u64>(entryOf(KIND_READ, EIO), 1, FAILURE_SEEN);
    read(7, -EIO);
    read(9, -EIO);
    expect(sectorOf(KIND_READ, EIO)).toBe(7);
    expect(countOf(KIND_READ, EIO)).toBe(3);
  });

  test("is told by one step alone.", () => {
    read(0, -EIO);
    expect(turn() & STEP_FAILED).toBe(0);
    expect(read(0, 1024) & STEP_FAILED).toBe(0);
  });

  test("of a part of a transfer is where that part begins.", () => {
    offerWrite(queue, 8, 4096);
    turn();
    finish(2048);
    finish(-ENOSPC);
    expect(countOf(KIND_WRITE, ENOSPC)).toBe(1);
    expect(sectorOf(KIND_WRITE, ENOSPC)).toBe(12);
  });

  test("of a bounce buffer's copy or move is one of a read or a write.", () => {
    setDevice<u32>(DEVICE_DIRECT_MASK, 511);
    setDevice<i32>(DEVICE_BOUNCE_FD, 7);
    beginRequest(VIRTIO_BLK_T_IN, 40);
    writable(allocate(1024) + 16, 512);
    endRequest();
    queue.offer();
    turn();
    finish(-EIO);
    expect(countOf(KIND_READ, EIO)).toBe(1);
    expect(sectorOf(KIND_READ, EIO)).toBe(40);
    beginRequest(VIRTIO_BLK_T_OUT, 8);
    readable(allocate(1024) + 16, 512);
    endRequest();
    queue.offer();
    turn();
    finish(-EIO);
    expect(countOf(KIND_WRITE, EIO)).toBe(1);
    expect(countAll()).toBe(2);
  });

  test("that moves nothing has errno 0, as has an errno without an entry.", () => {
    read(3, 0);
    expect(countOf(KIND_READ, 0)).toBe(1);
    expect(sectorOf(KIND_READ, 0)).toBe(3);
    read(3, -FAILURE_ERRNOS);
    read(3, i32.MIN_VALUE);
    expect(countOf(KIND_READ, 0)).toBe(3);
    read(3, 1 - FAILURE_ERRNOS);
    expect(countOf(KIND_READ, FAILURE_ERRNOS - 1)).toBe(1);
    expect(countAll()).toBe(4);
  });

  test("is kept apart by operation: ranges end with a flush, and zeroes may be written.", () => {
    offerPlain(queue, VIRTIO_BLK_T_FLUSH);
    turn();
    finish(-EIO);
    expect(countOf(KIND_FLUSH, EIO)).toBe(1);
    offerRangeOf(queue, VIRTIO_BLK_T_DISCARD, 16, 8, 0);
    turn();
    finish(-EIO);
    expect(countOf(KIND_DISCARD, EIO)).toBe(1);
    expect(sectorOf(KIND_DISCARD, EIO)).toBe(16);
    offerRangeOf(queue, VIRTIO_BLK_T_WRITE_ZEROES, 24, 8, 0);
    turn();
    finish(-EOPNOTSUPP);
    finish(-ENOSPC);
    expect(countOf(KIND_WRITE_ZEROES, ENOSPC)).toBe(1);
    expect(sectorOf(KIND_WRITE_ZEROES, ENOSPC)).toBe(24);
    setDevice<u32>(DEVICE_WRITE_THROUGH, 1);
    offerRangeOf(queue, VIRTIO_BLK_T_WRITE_ZEROES, 24, 8, 0);
    turn();
    finish(0);
    finish(-EIO);
    expect(countOf(KIND_FLUSH, EIO)).toBe(2);
    expect(countAll()).toBe(4);
  });

  test("is none where the core goes on by other means.", () => {
    offerRangeOf(queue, VIRTIO_BLK_T_DISCARD, 16, 8, 0);
    turn();
    expect(finish(-EOPNOTSUPP) & STEP_FAILED).toBe(0);
    offerRead(queue, 0, 1024);
    turn();
    finish(-EAGAIN);
    finish(1024);
    expect(countAll()).toBe(0);
  });

  test("is one when the kernel has asked for a retry too often.", () => {
    offerRead(queue, 0, 1024);
    turn();
    for (let i = 0; i < 65; i++) finish(-EAGAIN);
    expect(countOf(KIND_READ, EAGAIN)).toBe(1);
  });

  test("is not what the guest asked wrongly.", () => {
    offerRead(queue, CAPACITY, 1024);
    expect(turn() & STEP_FAILED).toBe(0);
    offerRead(queue, 0, 100);
    turn();
    offerPlain(queue, 77);
    turn();
    offerRangeOf(queue, VIRTIO_BLK_T_DISCARD, CAPACITY, 8, 0);
    turn();
    setDevice<u32>(DEVICE_READ_ONLY, 1);
    offerWrite(queue, 0, 1024);
    expect(turn() & STEP_FAILED).toBe(0);
    expect(countAll()).toBe(0);
  });
});
