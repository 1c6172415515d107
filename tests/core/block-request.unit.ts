// block/, through whole turns of the core: from a chain to operations, from their results to a status byte
// (virtio 1.4, 5.2.6).

import {
  KIND_DISCARD,
  KIND_FLUSH,
  KIND_ID,
  KIND_READ,
  KIND_WRITE,
  KIND_WRITE_ZEROES,
  RANGES_MAX,
} from "../../assembly/abi/block.ts";
import {
  DEVICE_BLOCK_SECTORS,
  DEVICE_CAPACITY_SECTORS,
  DEVICE_DIRECT_MASK,
  DEVICE_DISCARD_UNMAPS,
  DEVICE_FLUSHED,
  DEVICE_ID,
  DEVICE_MAX_RANGES,
  DEVICE_MAX_WRITE_ZEROES_SECTORS,
  DEVICE_READ_ONLY,
  DEVICE_WRITE_THROUGH,
  WRITE_THROUGH_UNTIL_FLUSH,
} from "../../assembly/abi/device-block.ts";
import { FAULT_ADDRESS, FAULT_READABLE_AFTER_WRITABLE } from "../../assembly/abi/faults.ts";
import { DEVICE_PTR, WORKERS_PTR, ZEROES_PTR, ZEROES_SIZE } from "../../assembly/abi/memory.ts";
import { QUEUE_BYTES_IN, QUEUE_BYTES_OUT, QUEUE_FAILURES, QUEUE_KINDS } from "../../assembly/abi/queue.ts";
import { IOVECS_MAX, WORKER_QUEUES } from "../../assembly/abi/worker.ts";
import { queueFault } from "../../assembly/index.ts";
import {
  EAGAIN,
  EINTR,
  EINVAL,
  EOPNOTSUPP,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  IORING_FSYNC_DATASYNC,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  RWF_DSYNC,
} from "../../assembly/spec/io-uring.ts";
import {
  RANGE_SIZE,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from "../../assembly/spec/virtio-blk.ts";
import {
  addRange,
  allocate,
  beginRanges,
  beginRequest,
  CAPACITY,
  complete,
  Driver,
  dataGpa,
  endRequest,
  expectUsed,
  FILE_FD,
  finish,
  headerOf,
  hostOf,
  lastOperation,
  MAX_DISCARD,
  MAX_RANGES,
  MAX_WRITE_ZEROES,
  MEMORY_HOST,
  offerPlain,
  offerRangeOf,
  offerRanges,
  offerRead,
  offerWrite,
  openCore,
  operation,
  operationCount,
  PackedDriver,
  ptrOf,
  RAM_GPA,
  RAM_SIZE,
  rangesAt,
  readable,
  SplitDriver,
  Sqe,
  STATUS_UNWRITTEN,
  setDevice,
  setRegion,
  statusByte,
  turn,
  UNALIGNED_FD,
  vectorBase,
  vectorLength,
  writable,
} from "./support.ts";

const OK: u8 = <u8>VIRTIO_BLK_S_OK;
const IOERR: u8 = <u8>VIRTIO_BLK_S_IOERR;
const UNSUPP: u8 = <u8>VIRTIO_BLK_S_UNSUPP;

const EIO: i32 = 5;
const UNMAP: u32 = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
const DISCARD: u32 = VIRTIO_BLK_T_DISCARD;
const WRITE_ZEROES: u32 = VIRTIO_BLK_T_WRITE_ZEROES;
const PUNCH_HOLE: u32 = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
const ZERO_RANGE: u32 = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

/** How often in a row the kernel may ask for a retry. */
const RETRIES_MAX: i32 = 64;

let queue: Driver = new SplitDriver();

function begin(): void {
  openCore();
  queue = new SplitDriver();
  queue.start();
}

function counter(offset: i32): u64 {
  return load<u64>(WORKERS_PTR + WORKER_QUEUES + offset);
}

function done(kind: i32): u64 {
  return load<u64>(WORKERS_PTR + WORKER_QUEUES + QUEUE_KINDS + (kind << 3));
}

function expectOperation(sqe: Sqe, opcode: u32, offset: u64, address: u64, length: u32): void {
  expect<u32>(sqe.opcode).toBe(opcode, "opcode");
  expect(sqe.fd).toBe(FILE_FD, "descriptor");
  expect(sqe.offset).toBe(offset, "offset");
  expect(sqe.address).toBe(address, "address");
  expect(sqe.length).toBe(length, "length");
}

function expectVector(sqe: Sqe, index: u32, base: u64, byteLength: u64): void {
  expect(vectorBase(sqe, index)).toBe(base, "base");
  expect(vectorLength(sqe, index)).toBe(byteLength, "length");
}

/** The request offered last ends without an operation. */
function expectRefused(status: u8): void {
  turn();
  expect(operationCount()).toBe(0, "operations");
  expectUsed(queue, status, 1);
}

/** Adds `count` buffers of 512 bytes, none of which touches another. Returns the first. */
function addScattered(count: u32, isWritable: bool): u64 {
  const first = allocate(512);
  for (let i: u32 = 0; i < count; i++) {
    const gpa = i === 0 ? first : allocate(512);
    if (isWritable) writable(gpa, 512);
    else readable(gpa, 512);
  }
  return first;
}

describe("reads and writes", () => {
  beforeEach(begin);

  test("A read is one READ from the image to where the guest's memory is for the kernel.", () => {
    offerRead(queue, 8, 4096);
    turn();
    expect(operationCount()).toBe(1);
    expectOperation(operation(0), IORING_OP_READ, 8 * 512, hostOf(dataGpa), 4096);
    expect(operation(0).opFlags).toBe(0);
  });

  test("A write is one WRITE from there to the image.", () => {
    offerWrite(queue, 8, 4096);
    turn();
    expect(operationCount()).toBe(1);
    expectOperation(operation(0), IORING_OP_WRITE, 8 * 512, hostOf(dataGpa), 4096);
    expect(operation(0).opFlags).toBe(0);
  });

  test("Nothing is used before the operation has finished.", () => {
    offerRead(queue, 0, 512);
    turn();
    expect(queue.takeUsed()).toBe(false);
    expect(statusByte()).toBe(STATUS_UNWRITTEN);
  });

  test("A read that is done wrote its data and the status byte.", () => {
    offerRead(queue, 0, 4096);
    turn();
    finish(4096);
    expectUsed(queue, OK, 4097);
  });

  test("A write that is done wrote the status byte alone.", () => {
    offerWrite(queue, 0, 4096);
    turn();
    finish(4096);
    expectUsed(queue, OK, 1);
  });

  test("A chain is used under its own name.", () => {
    offerRead(queue, 0, 512);
    const second = offerRead(queue, 0, 512);
    turn();
    finish(512);
    expect(queue.takeUsed()).toBe(true);
    expect(queue.usedId).toBe(second);
  });

  test("Buffers that do not touch become the vectors of one READV.", () => {
    beginRequest(VIRTIO_BLK_T_IN, 4);
    const first = addScattered(3, true);
    endRequest();
    queue.offer();
    turn();
    const sqe = lastOperation();
    expect<u32>(sqe.opcode).toBe(IORING_OP_READV);
    expect(sqe.offset).toBe(4 * 512);
    expect(sqe.length).toBe(3);
    expectVector(sqe, 0, hostOf(first), 512);
    expectVector(sqe, 1, hostOf(first) + 1024, 512);
    expectVector(sqe, 2, hostOf(first) + 2048, 512);
    finish(3 * 512);
    expectUsed(queue, OK, 3 * 512 + 1);
  });

  test("The same of a write become the vectors of one WRITEV.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 4);
    const first = addScattered(2, false);
    endRequest();
    queue.offer();
    turn();
    const sqe = lastOperation();
    expect<u32>(sqe.opcode).toBe(IORING_OP_WRITEV);
    expect(sqe.fd).toBe(FILE_FD);
    expect(sqe.length).toBe(2);
    expectVector(sqe, 0, hostOf(first), 512);
    expectVector(sqe, 1, hostOf(first) + 1024, 512);
    finish(1024);
    expectUsed(queue, OK, 1);
  });

  test("Buffers that touch become one vector.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    const data = allocate(4096);
    readable(data, 1024);
    readable(data + 1024, 512);
    readable(data + 1536, 2560);
    endRequest();
    queue.offer();
    turn();
    expectOperation(lastOperation(), IORING_OP_WRITE, 0, hostOf(data), 4096);
  });

  test("Buffers that touch in the wrong order stay apart.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    const data = allocate(1024);
    readable(data + 512, 512);
    readable(data, 512);
    endRequest();
    queue.offer();
    turn();
    expectVector(lastOperation(), 0, hostOf(data) + 512, 512);
    expectVector(lastOperation(), 1, hostOf(data), 512);
  });

  test("A buffer across regions that lie apart for the kernel becomes two vectors.", () => {
    const border = RAM_GPA + RAM_SIZE;
    setRegion(1, border, 4096, 0x7000_0000_0000);
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    readable(border - 1024, 2048);
    endRequest();
    queue.offer();
    turn();
    expectVector(lastOperation(), 0, hostOf(border) - 1024, 1024);
    expectVector(lastOperation(), 1, 0x7000_0000_0000, 1024);
  });

  test("Data needs no window.", () => {
    const far: u64 = 0x40_0000_0000;
    setRegion(1, far, 0x1_0000_0000, 0x6000_0000_0000);
    beginRequest(VIRTIO_BLK_T_IN, 0);
    writable(far + 0x8000_0000, 4096);
    endRequest();
    queue.offer();
    turn();
    expectOperation(lastOperation(), IORING_OP_READ, 0, 0x6000_8000_0000, 4096);
  });

  test("A vector never grows beyond what the kernel moves at once.", () => {
    const far: u64 = 0x40_0000_0000;
    setRegion(1, far, 0x1_0000_0000, 0x6000_0000_0000);
    setDevice<u64>(DEVICE_CAPACITY_SECTORS, 0x1000_0000);
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    readable(far, 0x4000_0000);
    readable(far + 0x4000_0000, 0x4000_0000);
    endRequest();
    queue.offer();
    turn();
    const sqe = lastOperation();
    expect<u32>(sqe.opcode).toBe(IORING_OP_WRITEV);
    expectVector(sqe, 0, 0x6000_0000_0000, 0x4000_0000);
    expectVector(sqe, 1, 0x6000_4000_0000, 0x4000_0000);
  });

  test("A transfer of 4 GiB goes on where each operation ended.", () => {
    const far: u64 = 0x40_0000_0000;
    const moved: i32 = 0x7fff_f000;
    setRegion(1, far, 0x1_0000_0000, 0x6000_0000_0000);
    setDevice<u64>(DEVICE_CAPACITY_SECTORS, 0x1000_0000);
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    readable(far, 0xffff_fe00);
    endRequest();
    queue.offer();
    turn();
    expectOperation(lastOperation(), IORING_OP_WRITE, 0, 0x6000_0000_0000, 0xffff_fe00);
    finish(moved);
    expectOperation(lastOperation(), IORING_OP_WRITE, moved, 0x6000_7fff_f000, 0x8000_0e00);
    finish(moved);
    expectOperation(lastOperation(), IORING_OP_WRITE, 2 * <u64>moved, 0x6000_ffff_e000, 0x1e00);
    finish(0x1e00);
    expectUsed(queue, OK, 1);
  });

  test("A request says nothing of what the one before it wrote.", () => {
    offerRead(queue, 0, 4096);
    turn();
    finish(4096);
    expectUsed(queue, OK, 4097);
    offerPlain(queue, VIRTIO_BLK_T_FLUSH);
    turn();
    finish(0);
    expectUsed(queue, OK, 1);
  });

  test("A request without data is done at once.", () => {
    offerPlain(queue, VIRTIO_BLK_T_IN);
    expectRefused(OK);
    offerPlain(queue, VIRTIO_BLK_T_OUT);
    expectRefused(OK);
  });

  test("Empty buffers are passed over.", () => {
    beginRequest(VIRTIO_BLK_T_IN, 0);
    readable(0, 0);
    writable(0, 0);
    const data = allocate(512);
    writable(data, 512);
    writable(0, 0);
    endRequest();
    writable(0, 0);
    queue.offer();
    turn();
    expectOperation(lastOperation(), IORING_OP_READ, 0, hostOf(data), 512);
    finish(512);
    expectUsed(queue, OK, 513);
  });
});

describe("framing", () => {
  beforeEach(begin);

  test("A header may come in sixteen buffers of one byte.", () => {
    const header = headerOf(VIRTIO_BLK_T_OUT, 0x1234);
    for (let i: u64 = 0; i < 16; i++) {
      const part = allocate(1);
      store<u8>(ptrOf(part), load<u8>(ptrOf(header + i)));
      readable(part, 1);
    }
    const data = allocate(512);
    readable(data, 512);
    endRequest();
    queue.offer();
    turn();
    expectOperation(lastOperation(), IORING_OP_WRITE, 0x1234 * 512, hostOf(data), 512);
  });

  test("Data to be written may follow the header in its buffer.", () => {
    const header = allocate(16 + 512);
    memory.copy(ptrOf(header), ptrOf(headerOf(VIRTIO_BLK_T_OUT, 3)), 16);
    readable(header, 16 + 512);
    endRequest();
    queue.offer();
    turn();
    expectOperation(lastOperation(), IORING_OP_WRITE, 3 * 512, hostOf(header) + 16, 512);
  });

  test("A header may be cut anywhere, with data behind its end.", () => {
    const header = headerOf(VIRTIO_BLK_T_OUT, 3);
    const rest = allocate(9 + 512);
    memory.copy(ptrOf(rest), ptrOf(header) + 7, 9);
    readable(header, 7);
    readable(rest, 9 + 512);
    endRequest();
    queue.offer();
    turn();
    expectOperation(lastOperation(), IORING_OP_WRITE, 3 * 512, hostOf(rest) + 9, 512);
  });

  test("The status may be the last byte of the data's buffer.", () => {
    beginRequest(VIRTIO_BLK_T_IN, 0);
    const data = allocate(512 + 1);
    writable(data, 512 + 1);
    queue.offer();
    turn();
    expectOperation(lastOperation(), IORING_OP_READ, 0, hostOf(data), 512);
    finish(512);
    expect(queue.takeUsed()).toBe(true);
    expect(queue.usedLength).toBe(513);
    expect(load<u8>(ptrOf(data + 512))).toBe(OK);
  });

  test("A status byte that touches the data is not read over.", () => {
    beginRequest(VIRTIO_BLK_T_IN, 0);
    const data = allocate(512 + 1);
    writable(data, 512);
    writable(data + 512, 1);
    queue.offer();
    turn();
    expectOperation(lastOperation(), IORING_OP_READ, 0, hostOf(data), 512);
  });

  test("Data may end in the buffer of the status.", () => {
    beginRequest(VIRTIO_BLK_T_IN, 0);
    const data = allocate(500);
    const tail = allocate(13);
    writable(data, 500);
    writable(tail, 13);
    queue.offer();
    turn();
    expect(lastOperation().length).toBe(2);
    expectVector(lastOperation(), 0, hostOf(data), 500);
    expectVector(lastOperation(), 1, hostOf(tail), 12);
    finish(512);
    expect(queue.takeUsed()).toBe(true);
    expect(queue.usedLength).toBe(513);
    expect(load<u8>(ptrOf(tail + 12))).toBe(OK);
  });

  test("Space for the device behind a write's data holds the status in its last byte.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    readable(allocate(512), 512);
    const space = allocate(100);
    memory.fill(ptrOf(space), STATUS_UNWRITTEN, 100);
    writable(space, 100);
    queue.offer();
    turn();
    finish(512);
    expect(load<u8>(ptrOf(space + 98))).toBe(STATUS_UNWRITTEN);
    expect(load<u8>(ptrOf(space + 99))).toBe(OK);
    expect(queue.takeUsed()).toBe(true);
    expect(queue.usedLength).toBe(1);
  });

  test("Bytes to be read behind the header of a read mean nothing.", () => {
    beginRequest(VIRTIO_BLK_T_IN, 0);
    readable(allocate(100), 100);
    const data = allocate(512);
    writable(data, 512);
    endRequest();
    queue.offer();
    turn();
    expectOperation(lastOperation(), IORING_OP_READ, 0, hostOf(data), 512);
  });

  test("The reserved word of the header means nothing.", () => {
    const header = headerOf(VIRTIO_BLK_T_IN, 5);
    store<u32>(ptrOf(header), 0xffffffff, 4);
    readable(header, 16);
    writable(allocate(512), 512);
    endRequest();
    queue.offer();
    turn();
    expect(lastOperation().offset).toBe(5 * 512);
  });

  test("A buffer to be read behind one to be written breaks the ring (2.7.4.2).", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    endRequest();
    readable(allocate(512), 512);
    queue.offer();
    turn();
    expect(queueFault(0)).toBe(FAULT_READABLE_AFTER_WRITABLE);
    expect(operationCount()).toBe(0);
  });

  test("A buffer outside of guest memory breaks the ring, wherever it stands.", () => {
    beginRequest(VIRTIO_BLK_T_IN, 0);
    writable(RAM_GPA + RAM_SIZE, 512);
    endRequest();
    queue.offer();
    turn();
    expect(queueFault(0)).toBe(FAULT_ADDRESS);

    begin();
    readable(RAM_GPA - 8, 16);
    endRequest();
    queue.offer();
    turn();
    expect(queueFault(0)).toBe(FAULT_ADDRESS);

    begin();
    beginRequest(VIRTIO_BLK_T_FLUSH, 0);
    writable(0, 1);
    queue.offer();
    turn();
    expect(queueFault(0)).toBe(FAULT_ADDRESS);
  });

  test("A buffer that leaves guest memory breaks the ring.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    readable(RAM_GPA + RAM_SIZE - 512, 1024);
    endRequest();
    queue.offer();
    turn();
    expect(queueFault(0)).toBe(FAULT_ADDRESS);
  });

  test("So does one that nobody would look at: data of a flush.", () => {
    beginRequest(VIRTIO_BLK_T_FLUSH, 0);
    readable(0, 512);
    endRequest();
    queue.offer();
    turn();
    expect(queueFault(0)).toBe(FAULT_ADDRESS);
  });
});

describe("chains without a header or a status", () => {
  beforeEach(begin);

  test("A chain too short for a header is used with length 0 and keeps its status byte.", () => {
    readable(headerOf(VIRTIO_BLK_T_FLUSH, 0), 15);
    endRequest();
    const id = queue.offer();
    turn();
    expectUsed(queue, STATUS_UNWRITTEN, 0);
    expect(queue.usedId).toBe(id);
    expect(operationCount()).toBe(0);
  });

  test("A chain without anything to read is used with length 0.", () => {
    endRequest();
    queue.offer();
    turn();
    expectUsed(queue, STATUS_UNWRITTEN, 0);
  });

  test("A short header is not completed from an earlier request's.", () => {
    offerWrite(queue, 7, 512);
    turn();
    finish(512);
    queue.takeUsed();
    readable(headerOf(VIRTIO_BLK_T_IN, 0), 4);
    writable(allocate(512), 512);
    endRequest();
    queue.offer();
    turn();
    expectUsed(queue, STATUS_UNWRITTEN, 0);
    expect(operationCount()).toBe(1);
  });

  test("A chain without a place for the status is used with length 0, and nothing is done.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    readable(allocate(512), 512);
    queue.offer();
    turn();
    expect(queue.takeUsed()).toBe(true);
    expect(queue.usedLength).toBe(0);
    expect(operationCount()).toBe(0);
  });

  test("An empty buffer is no place for the status.", () => {
    beginRequest(VIRTIO_BLK_T_FLUSH, 0);
    writable(allocate(1), 0);
    queue.offer();
    turn();
    expect(queue.takeUsed()).toBe(true);
    expect(queue.usedLength).toBe(0);
    expect(operationCount()).toBe(0);
  });

  test("They count as failures.", () => {
    endRequest();
    queue.offer();
    turn();
    expect(counter(QUEUE_FAILURES)).toBe(1);
  });

  test("The queue goes on behind them.", () => {
    endRequest();
    queue.offer();
    offerPlain(queue, VIRTIO_BLK_T_IN);
    turn();
    expect(queue.takeUsed()).toBe(true);
    expectUsed(queue, OK, 1);
  });

  test("In a packed ring too the used length is 0.", () => {
    openCore();
    queue = new PackedDriver();
    queue.start();
    endRequest();
    queue.offer();
    turn();
    expectUsed(queue, STATUS_UNWRITTEN, 0);
  });
});

describe("the bounds of the disk", () => {
  beforeEach(begin);

  test("The last sector can be read and written.", () => {
    offerRead(queue, CAPACITY - 1, 512);
    offerWrite(queue, CAPACITY - 1, 512);
    turn();
    expect(operationCount()).toBe(2);
    expect(operation(1).offset).toBe((CAPACITY - 1) * 512);
  });

  test("A read or write that ends behind the last sector is an error.", () => {
    offerRead(queue, CAPACITY - 1, 1024);
    expectRefused(IOERR);
    offerWrite(queue, CAPACITY - 1, 1024);
    expectRefused(IOERR);
  });

  test("A read or write that begins behind the last sector is an error.", () => {
    offerRead(queue, CAPACITY, 512);
    expectRefused(IOERR);
    offerWrite(queue, CAPACITY + 1, 512);
    expectRefused(IOERR);
  });

  test("A sector whose offset in bytes exceeds 64 bits is an error.", () => {
    // 2^55 sectors are 2^64 bytes: as an offset that would be 0.
    offerRead(queue, 0x80_0000_0000_0000, 512);
    expectRefused(IOERR);
    offerWrite(queue, 0x80_0000_0000_0001, 512);
    expectRefused(IOERR);
  });

  test("The largest sector is an error, also where adding the length wraps.", () => {
    offerRead(queue, u64.MAX_VALUE, 512);
    expectRefused(IOERR);
    offerWrite(queue, u64.MAX_VALUE - 7, 4096);
    expectRefused(IOERR);
  });

  test("Data of no whole number of sectors is an error.", () => {
    offerRead(queue, 0, 513);
    expectRefused(IOERR);
    offerWrite(queue, 0, 511);
    expectRefused(IOERR);
  });

  test("Data shorter than a sector is an error.", () => {
    offerRead(queue, 0, 1);
    expectRefused(IOERR);
  });

  test("A sector that is not on a block's boundary is an error.", () => {
    setDevice<u32>(DEVICE_BLOCK_SECTORS, 8);
    offerRead(queue, 4, 4096);
    expectRefused(IOERR);
    offerWrite(queue, 7, 4096);
    expectRefused(IOERR);
  });

  test("A sector that is on a block's boundary is none.", () => {
    setDevice<u32>(DEVICE_BLOCK_SECTORS, 8);
    offerRead(queue, 16, 4096);
    turn();
    expect(operationCount()).toBe(1);
  });

  test("An empty request past the end is an error like others.", () => {
    beginRequest(VIRTIO_BLK_T_IN, CAPACITY + 1);
    endRequest();
    queue.offer();
    expectRefused(IOERR);
  });

  test("A disk that has grown can be used to its new end.", () => {
    setDevice<u64>(DEVICE_CAPACITY_SECTORS, CAPACITY + 8);
    offerRead(queue, CAPACITY, 4096);
    turn();
    expect(operationCount()).toBe(1);
  });

  test("A disk without any sector has none to read.", () => {
    setDevice<u64>(DEVICE_CAPACITY_SECTORS, 0);
    offerRead(queue, 0, 512);
    expectRefused(IOERR);
  });
});

describe("many vectors", () => {
  beforeEach(begin);

  test("A write may have as many as the kernel takes.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    addScattered(IOVECS_MAX, false);
    endRequest();
    queue.offerTable();
    turn();
    expect(lastOperation().length).toBe(IOVECS_MAX);
    finish(IOVECS_MAX * 512);
    expectUsed(queue, OK, 1);
  });

  test("A read may have as many as the kernel takes, beside its status byte.", () => {
    beginRequest(VIRTIO_BLK_T_IN, 0);
    addScattered(IOVECS_MAX, true);
    endRequest();
    queue.offerTable();
    turn();
    expect(operationCount()).toBe(1);
    expect(lastOperation().length).toBe(IOVECS_MAX);
    finish(IOVECS_MAX * 512);
    expectUsed(queue, OK, IOVECS_MAX * 512 + 1);
  });

  test("A write of more is several operations, one after the other.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 8);
    addScattered(2 * IOVECS_MAX + 10, false);
    endRequest();
    queue.offerTable();
    turn();
    expect(operationCount()).toBe(1);
    expect(lastOperation().length).toBe(IOVECS_MAX);
    expect(lastOperation().offset).toBe(8 * 512);
    // A short transfer goes on within its operation's vectors.
    finish(512);
    expect(lastOperation().length).toBe(IOVECS_MAX - 1);
    finish((IOVECS_MAX - 1) * 512);
    expect(lastOperation().length).toBe(IOVECS_MAX);
    expect(lastOperation().offset).toBe((8 + IOVECS_MAX) * 512);
    finish(IOVECS_MAX * 512);
    expect(lastOperation().length).toBe(10);
    expect(lastOperation().offset).toBe((8 + 2 * IOVECS_MAX) * 512);
    finish(10 * 512);
    expect(operationCount()).toBe(4);
    expectUsed(queue, OK, 1);
  });

  test("So is a read of more, whose status byte is no data.", () => {
    beginRequest(VIRTIO_BLK_T_IN, 0);
    addScattered(IOVECS_MAX + 1, true);
    endRequest();
    queue.offerTable();
    turn();
    finish(IOVECS_MAX * 512);
    expect(operationCount()).toBe(2);
    expect(lastOperation().opcode).toBe(<u8>IORING_OP_READ);
    expect(lastOperation().length).toBe(512);
    finish(512);
    expectUsed(queue, OK, (IOVECS_MAX + 1) * 512 + 1);
  });

  test("An error of a later operation is the request's.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    addScattered(IOVECS_MAX + 1, false);
    endRequest();
    queue.offerTable();
    turn();
    finish(IOVECS_MAX * 512);
    finish(-5);
    expectUsed(queue, IOERR, 1);
  });

  test("More bytes than an operation was for are an error, even if more are left.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    addScattered(IOVECS_MAX + 1, false);
    endRequest();
    queue.offerTable();
    turn();
    finish(IOVECS_MAX * 512 + 1);
    expectUsed(queue, IOERR, 1);
  });

  test("Each operation moves whole blocks, wherever buffers are cut.", () => {
    setDevice<u32>(DEVICE_BLOCK_SECTORS, 8);
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    // 1,536 buffers of 24 bytes are 9 blocks of 4,096; the first 1,024 of them exactly 6.
    const first = allocate(64 * 1536);
    readable(first + 63 * 1536, 16);
    for (let i: u64 = 0; i < 1536; i++) readable(first + i * 40, i === 1535 ? 8 : 24);
    endRequest();
    queue.offerTable();
    turn();
    let moved: u64 = 0;
    for (let i = 0; i < 2; i++) {
      const sqe = lastOperation();
      let bytes: u64 = 0;
      for (let j: u32 = 0; j < sqe.length; j++) bytes += vectorLength(sqe, j);
      expect(sqe.offset).toBe(moved);
      expect(bytes % 4096).toBe(0);
      expect(bytes).toBeGreaterThan(0);
      moved += bytes;
      finish(<i32>bytes);
    }
    expect(moved).toBe(9 * 4096);
    expectUsed(queue, OK, 1);
  });

  test("One with more than all requests together have vectors for is an error, and the queue goes on.", () => {
    openCore(1, 2);
    queue.start();
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    addScattered(2 * IOVECS_MAX + 1, false);
    endRequest();
    queue.offerTable();
    expectRefused(IOERR);
    offerPlain(queue, VIRTIO_BLK_T_OUT);
    expectRefused(OK);
  });

  test("Buffers that touch count as one.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    const data = allocate(IOVECS_MAX * 512);
    for (let i: u64 = 0; i < <u64>IOVECS_MAX; i++) readable(data + i * 512, 512);
    endRequest();
    queue.offerTable();
    turn();
    expectOperation(lastOperation(), IORING_OP_WRITE, 0, hostOf(data), IOVECS_MAX * 512);
  });
});

describe("a read-only disk", () => {
  beforeEach(() => {
    begin();
    setDevice<u32>(DEVICE_READ_ONLY, 1);
  });

  test("A write is an error, and nothing is written.", () => {
    offerWrite(queue, 0, 512);
    expectRefused(IOERR);
  });

  test("Discards and write zeroes are errors.", () => {
    offerRangeOf(queue, DISCARD, 0, 8, 0);
    expectRefused(IOERR);
    offerRangeOf(queue, WRITE_ZEROES, 0, 8, 0);
    expectRefused(IOERR);
  });

  test("It can be read, flushed and asked for its ID.", () => {
    offerRead(queue, 0, 512);
    offerPlain(queue, VIRTIO_BLK_T_FLUSH);
    turn();
    expect(operationCount()).toBe(2);
  });
});

describe("flushes", () => {
  beforeEach(begin);

  test("A flush is one FSYNC of the image's data.", () => {
    offerPlain(queue, VIRTIO_BLK_T_FLUSH);
    turn();
    expectOperation(lastOperation(), IORING_OP_FSYNC, 0, 0, 0);
    expect(lastOperation().opFlags).toBe(IORING_FSYNC_DATASYNC);
    finish(0);
    expectUsed(queue, OK, 1);
  });

  test("A flush that failed is an error.", () => {
    offerPlain(queue, VIRTIO_BLK_T_FLUSH);
    turn();
    finish(-EIO);
    expectUsed(queue, IOERR, 1);
  });

  test("A flush that failed is not tried again: the kernel says so only once.", () => {
    offerPlain(queue, VIRTIO_BLK_T_FLUSH);
    turn();
    finish(-EIO);
    expect(operationCount()).toBe(1);
  });

  test("A flush does not care for its sector, nor for data.", () => {
    beginRequest(VIRTIO_BLK_T_FLUSH, u64.MAX_VALUE);
    readable(allocate(100), 100);
    endRequest();
    queue.offer();
    turn();
    expect<u32>(lastOperation().opcode).toBe(IORING_OP_FSYNC);
  });
});

/** Gives the disk an ID of 20 bytes. */
function setId(): void {
  for (let i = 0; i < VIRTIO_BLK_ID_BYTES; i++) setDevice<u8>(DEVICE_ID + i, <u8>(0x41 + i));
}

function expectId(gpa: u64, from: i32, byteLength: i32): void {
  expect(memory.compare(ptrOf(gpa), DEVICE_PTR + DEVICE_ID + from, byteLength)).toBe(0, "ID");
}

describe("the ID", () => {
  beforeEach(() => {
    begin();
    setId();
  });

  test("It comes in twenty bytes, without any operation.", () => {
    beginRequest(VIRTIO_BLK_T_GET_ID, 0);
    const data = allocate(20);
    writable(data, 20);
    endRequest();
    queue.offer();
    turn();
    expectId(data, 0, 20);
    expectUsed(queue, OK, 21);
    expect(operationCount()).toBe(0);
  });

  test("It may share its buffer with the status.", () => {
    beginRequest(VIRTIO_BLK_T_GET_ID, 0);
    const data = allocate(21);
    writable(data, 21);
    queue.offer();
    turn();
    expectId(data, 0, 20);
    expect(load<u8>(ptrOf(data + 20))).toBe(OK);
    expect(queue.takeUsed()).toBe(true);
    expect(queue.usedLength).toBe(21);
  });

  test("It may be spread over buffers.", () => {
    beginRequest(VIRTIO_BLK_T_GET_ID, 0);
    const first = allocate(7);
    const second = allocate(10);
    const third = allocate(3);
    writable(first, 7);
    writable(second, 10);
    writable(third, 3);
    endRequest();
    queue.offer();
    turn();
    expectId(first, 0, 7);
    expectId(second, 7, 10);
    expectId(third, 17, 3);
    expectUsed(queue, OK, 21);
  });

  test("Of a longer buffer only the first twenty bytes are written.", () => {
    beginRequest(VIRTIO_BLK_T_GET_ID, 0);
    const data = allocate(64);
    memory.fill(ptrOf(data), 0xee, 64);
    writable(data, 64);
    endRequest();
    queue.offer();
    turn();
    expectId(data, 0, 20);
    expect(load<u8>(ptrOf(data + 20))).toBe(0xee);
    expectUsed(queue, OK, 21);
  });

  test("A shorter buffer takes as much as it holds.", () => {
    beginRequest(VIRTIO_BLK_T_GET_ID, 0);
    const data = allocate(20);
    memory.fill(ptrOf(data), 0xee, 20);
    writable(data, 10);
    endRequest();
    queue.offer();
    turn();
    expectId(data, 0, 10);
    expect(load<u8>(ptrOf(data + 10))).toBe(0xee);
    expect(statusByte()).toBe(OK);
  });

  test("With a shorter buffer, no more is said to be written than there is room.", () => {
    beginRequest(VIRTIO_BLK_T_GET_ID, 0);
    writable(allocate(10), 10);
    endRequest();
    queue.offer();
    turn();
    expectUsed(queue, OK, 11);
  });

  test("With a shorter buffer that ends with the status, no more is said to be written than there is room.", () => {
    beginRequest(VIRTIO_BLK_T_GET_ID, 0);
    const data = allocate(10);
    writable(data, 10);
    queue.offer();
    turn();
    expectId(data, 0, 9);
    expect(load<u8>(ptrOf(data + 9))).toBe(OK);
    expect(queue.takeUsed()).toBe(true);
    expect(queue.usedLength).toBe(10);
  });

  test("Without a buffer there is only the status.", () => {
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    expectUsed(queue, OK, 1);
  });
});

describe("unknown requests", () => {
  beforeEach(begin);

  test("Types that are not offered are unsupported: SCSI, lifetime, secure erase, zones.", () => {
    const types: StaticArray<u32> = [
      2, 3, 5, 9, 10, 12, 14, 15, 16, 18, 20, 22, 24, 26, 0x80000000, 0xffffffff,
    ];
    for (let i = 0; i < types.length; i++) {
      offerPlain(queue, types[i]);
      expectRefused(UNSUPP);
    }
  });

  test("Their data is left alone.", () => {
    beginRequest(10, 0);
    const data = allocate(6);
    memory.fill(ptrOf(data), 0xee, 6);
    writable(data, 6);
    endRequest();
    queue.offer();
    expectRefused(UNSUPP);
    expect(load<u8>(ptrOf(data))).toBe(0xee);
    expect(load<u8>(ptrOf(data + 5))).toBe(0xee);
  });
});

describe("discards", () => {
  beforeEach(begin);

  test("A discard punches a hole that leaves the file's size.", () => {
    offerRangeOf(queue, DISCARD, 16, 8, 0);
    turn();
    // fallocate(2) over io_uring: the length travels in addr, the mode in len.
    expectOperation(lastOperation(), IORING_OP_FALLOCATE, 16 * 512, 8 * 512, PUNCH_HOLE);
    finish(0);
    expectUsed(queue, OK, 1);
  });

  test("Where nothing may be unmapped, a discard is done at once.", () => {
    setDevice<u32>(DEVICE_DISCARD_UNMAPS, 0);
    offerRangeOf(queue, DISCARD, 16, 8, 0);
    expectRefused(OK);
  });

  test("Ranges are discarded one after the other.", () => {
    beginRanges(DISCARD);
    addRange(0, 8, 0);
    addRange(100, 1, 0);
    addRange(50, 2, 0);
    offerRanges(queue);
    turn();
    expectOperation(lastOperation(), IORING_OP_FALLOCATE, 0, 8 * 512, PUNCH_HOLE);
    expect(operationCount()).toBe(1);
    finish(0);
    expectOperation(lastOperation(), IORING_OP_FALLOCATE, 100 * 512, 512, PUNCH_HOLE);
    finish(0);
    expectOperation(lastOperation(), IORING_OP_FALLOCATE, 50 * 512, 1024, PUNCH_HOLE);
    finish(0);
    expect(operationCount()).toBe(3);
    expectUsed(queue, OK, 1);
  });

  test("A file system that can't is no error: a discard is advice.", () => {
    offerRangeOf(queue, DISCARD, 0, 8, 0);
    turn();
    finish(-EOPNOTSUPP);
    expectUsed(queue, OK, 1);
    expect(operationCount()).toBe(1);
  });

  test("Nor is a block device with larger blocks.", () => {
    offerRangeOf(queue, DISCARD, 1, 1, 0);
    turn();
    finish(-EINVAL);
    expectUsed(queue, OK, 1);
  });

  test("The ranges behind one that could not be discarded are tried.", () => {
    beginRanges(DISCARD);
    addRange(0, 8, 0);
    addRange(8, 8, 0);
    offerRanges(queue);
    turn();
    finish(-EOPNOTSUPP);
    expect(operationCount()).toBe(2);
    expect(lastOperation().offset).toBe(8 * 512);
  });

  test("Any other error is one, and ends the request.", () => {
    beginRanges(DISCARD);
    addRange(0, 8, 0);
    addRange(8, 8, 0);
    offerRanges(queue);
    turn();
    finish(-EIO);
    expect(operationCount()).toBe(1);
    expectUsed(queue, IOERR, 1);
  });

  test("Any flag makes it unsupported, UNMAP too.", () => {
    offerRangeOf(queue, DISCARD, 0, 8, UNMAP);
    expectRefused(UNSUPP);
    offerRangeOf(queue, DISCARD, 0, 8, 2);
    expectRefused(UNSUPP);
    offerRangeOf(queue, DISCARD, 0, 8, 0x80000000);
    expectRefused(UNSUPP);
  });

  test("More sectors than the maximum are an error.", () => {
    offerRangeOf(queue, DISCARD, 0, MAX_DISCARD + 1, 0);
    expectRefused(IOERR);
    offerRangeOf(queue, DISCARD, 0, u32.MAX_VALUE, 0);
    expectRefused(IOERR);
  });

  test("The maximum is none.", () => {
    offerRangeOf(queue, DISCARD, 0, MAX_DISCARD, 0);
    turn();
    expect(operationCount()).toBe(1);
  });

  test("Its maximum is not that of write zeroes.", () => {
    setDevice<u32>(DEVICE_MAX_WRITE_ZEROES_SECTORS, 1);
    offerRangeOf(queue, DISCARD, 0, MAX_DISCARD, 0);
    turn();
    expect(operationCount()).toBe(1);
  });
});

describe("write zeroes", () => {
  beforeEach(begin);

  test("Zeroes are written by the file system.", () => {
    offerRangeOf(queue, WRITE_ZEROES, 16, 8, 0);
    turn();
    expectOperation(lastOperation(), IORING_OP_FALLOCATE, 16 * 512, 8 * 512, ZERO_RANGE);
    finish(0);
    expectUsed(queue, OK, 1);
  });

  test("UNMAP allows a hole.", () => {
    offerRangeOf(queue, WRITE_ZEROES, 16, 8, UNMAP);
    turn();
    expectOperation(lastOperation(), IORING_OP_FALLOCATE, 16 * 512, 8 * 512, PUNCH_HOLE);
  });

  test("UNMAP does not make a hole where nothing may be unmapped.", () => {
    setDevice<u32>(DEVICE_DISCARD_UNMAPS, 0);
    offerRangeOf(queue, WRITE_ZEROES, 16, 8, UNMAP);
    turn();
    expectOperation(lastOperation(), IORING_OP_FALLOCATE, 16 * 512, 8 * 512, ZERO_RANGE);
  });

  test("Each range has flags of its own.", () => {
    beginRanges(WRITE_ZEROES);
    addRange(0, 8, UNMAP);
    addRange(8, 8, 0);
    offerRanges(queue);
    turn();
    expect(lastOperation().length).toBe(PUNCH_HOLE);
    finish(0);
    expect(lastOperation().length).toBe(ZERO_RANGE);
  });

  test("Unknown flags make it unsupported.", () => {
    offerRangeOf(queue, WRITE_ZEROES, 0, 8, 2);
    expectRefused(UNSUPP);
    offerRangeOf(queue, WRITE_ZEROES, 0, 8, UNMAP | 0x80000000);
    expectRefused(UNSUPP);
  });

  test("More sectors than the maximum are an error.", () => {
    offerRangeOf(queue, WRITE_ZEROES, 0, MAX_WRITE_ZEROES + 1, 0);
    expectRefused(IOERR);
  });

  test("The maximum is none, though it is more than that of discards.", () => {
    offerRangeOf(queue, WRITE_ZEROES, 0, MAX_WRITE_ZEROES, 0);
    turn();
    expect(operationCount()).toBe(1);
  });

  test("An error of the disk is an error.", () => {
    offerRangeOf(queue, WRITE_ZEROES, 0, 8, 0);
    turn();
    finish(-EIO);
    expectUsed(queue, IOERR, 1);
  });
});

describe("ranges", () => {
  beforeEach(begin);

  test("A range that ends behind the disk is an error.", () => {
    offerRangeOf(queue, DISCARD, CAPACITY - 4, 8, 0);
    expectRefused(IOERR);
    offerRangeOf(queue, WRITE_ZEROES, CAPACITY - 4, 8, 0);
    expectRefused(IOERR);
  });

  test("A range that ends with the disk is none.", () => {
    offerRangeOf(queue, DISCARD, CAPACITY - 8, 8, 0);
    turn();
    expect(operationCount()).toBe(1);
  });

  test("A sector whose offset in bytes exceeds 64 bits is an error.", () => {
    offerRangeOf(queue, DISCARD, 0x80_0000_0000_0000, 8, 0);
    expectRefused(IOERR);
    offerRangeOf(queue, WRITE_ZEROES, u64.MAX_VALUE - 3, 8, 0);
    expectRefused(IOERR);
  });

  test("A sector that is not on a block's boundary is an error.", () => {
    setDevice<u32>(DEVICE_BLOCK_SECTORS, 8);
    offerRangeOf(queue, DISCARD, 4, 8, 0);
    expectRefused(IOERR);
  });

  test("Out of range and of unknown flags, the first is told, as QEMU does.", () => {
    offerRangeOf(queue, WRITE_ZEROES, CAPACITY, 8, 0xff00);
    expectRefused(IOERR);
  });

  test("One bad range among good ones ends the request before anything is done.", () => {
    beginRanges(DISCARD);
    addRange(0, 8, 0);
    addRange(CAPACITY, 8, 0);
    offerRanges(queue);
    expectRefused(IOERR);
    beginRanges(WRITE_ZEROES);
    addRange(0, 8, 0);
    addRange(8, 8, 4);
    offerRanges(queue);
    expectRefused(UNSUPP);
  });

  test("As many ranges as offered are taken.", () => {
    beginRanges(DISCARD);
    for (let i: u32 = 0; i < MAX_RANGES; i++) addRange(i, 1, 0);
    offerRanges(queue);
    turn();
    for (let i: u32 = 1; i < MAX_RANGES; i++) finish(0);
    expect(lastOperation().offset).toBe((MAX_RANGES - 1) * 512);
    expect(queue.takeUsed()).toBe(false);
    finish(0);
    expectUsed(queue, OK, 1);
  });

  test("More ranges than offered are unsupported.", () => {
    beginRanges(DISCARD);
    for (let i: u32 = 0; i <= MAX_RANGES; i++) addRange(i, 1, 0);
    offerRanges(queue);
    expectRefused(UNSUPP);
  });

  test("Too many ranges are unsupported, whether their bytes are whole or not.", () => {
    beginRanges(WRITE_ZEROES);
    for (let i: u32 = 0; i < MAX_RANGES; i++) addRange(i, 1, 0);
    offerRanges(queue, 8);
    expectRefused(UNSUPP);
  });

  test("Too many ranges are unsupported, however their bytes are spread.", () => {
    beginRanges(WRITE_ZEROES);
    for (let i: u32 = 0; i < MAX_RANGES; i++) addRange(i, 1, 0);
    readable(rangesAt(), 8);
    readable(allocate(0x10000), 0x10000);
    offerRanges(queue);
    expectRefused(UNSUPP);
  });

  test("Their bytes do not run over the vectors of another request.", () => {
    offerPlain(queue, VIRTIO_BLK_T_FLUSH);
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    const data = addScattered(2, false);
    endRequest();
    queue.offer();
    turn();
    const write = lastOperation();
    // The flush leaves its place, before that of the write, to the ranges.
    complete(operation(0), 0);
    turn();
    expect(queue.takeUsed()).toBe(true);
    const bytes = allocate(0x10000);
    memory.fill(ptrOf(bytes), 0xff, 0x10000);
    beginRanges(WRITE_ZEROES);
    readable(rangesAt(), 8);
    readable(bytes, 0x10000);
    offerRanges(queue);
    turn();
    expectUsed(queue, UNSUPP, 1);
    expectVector(write, 0, hostOf(data), 512);
    expectVector(write, 1, hostOf(data) + 1024, 512);
  });

  test("The largest number of ranges that can be offered works.", () => {
    setDevice<u32>(DEVICE_MAX_RANGES, RANGES_MAX);
    beginRanges(DISCARD);
    for (let i: u32 = 0; i < <u32>RANGES_MAX; i++) addRange(2 * i, 1, 0);
    offerRanges(queue);
    turn();
    for (let i: u32 = 0; i < <u32>RANGES_MAX; i++) {
      expect(lastOperation().offset).toBe(2 * i * 512);
      finish(0);
    }
    expectUsed(queue, OK, 1);
  });

  test("Bytes that are no whole number of ranges are an error.", () => {
    beginRanges(DISCARD);
    addRange(0, 8, 0);
    offerRanges(queue, -1);
    expectRefused(IOERR);
    beginRanges(DISCARD);
    addRange(0, 8, 0);
    offerRanges(queue, 8);
    expectRefused(IOERR);
  });

  test("A request without any range is an error.", () => {
    offerPlain(queue, DISCARD);
    expectRefused(IOERR);
    offerPlain(queue, WRITE_ZEROES);
    expectRefused(IOERR);
  });

  test("A range without sectors is passed over.", () => {
    beginRanges(DISCARD);
    addRange(0, 0, 0);
    addRange(24, 8, 0);
    addRange(0, 0, 0);
    offerRanges(queue);
    turn();
    expectOperation(lastOperation(), IORING_OP_FALLOCATE, 24 * 512, 8 * 512, PUNCH_HOLE);
    finish(0);
    expect(operationCount()).toBe(1);
    expectUsed(queue, OK, 1);
  });

  test("Ranges without sectors alone are done at once.", () => {
    offerRangeOf(queue, WRITE_ZEROES, 0, 0, 0);
    expectRefused(OK);
  });

  test("A range may be cut anywhere.", () => {
    beginRanges(DISCARD);
    addRange(0x123456, 8, 0);
    setDevice<u64>(DEVICE_CAPACITY_SECTORS, 0x200000);
    const copy = allocate(RANGE_SIZE);
    memory.copy(ptrOf(copy), ptrOf(rangesAt()), RANGE_SIZE);
    readable(copy, 1);
    readable(copy + 1, 6);
    readable(copy + 7, 9);
    endRequest();
    queue.offer();
    turn();
    expectOperation(lastOperation(), IORING_OP_FALLOCATE, 0x123456 * 512, 8 * 512, PUNCH_HOLE);
  });

  test("Ranges may follow the header in its buffer.", () => {
    const header = allocate(16 + RANGE_SIZE);
    memory.copy(ptrOf(header), ptrOf(headerOf(DISCARD, 0)), 16);
    store<u64>(ptrOf(header + 16), 9);
    store<u32>(ptrOf(header + 24), 3);
    store<u32>(ptrOf(header + 28), 0);
    readable(header, 16 + RANGE_SIZE);
    endRequest();
    queue.offer();
    turn();
    expectOperation(lastOperation(), IORING_OP_FALLOCATE, 9 * 512, 3 * 512, PUNCH_HOLE);
  });

  test("The guest can't change a range once it was checked.", () => {
    beginRanges(DISCARD);
    addRange(0, 8, 0);
    addRange(8, 8, 0);
    offerRanges(queue);
    turn();
    store<u64>(ptrOf(rangesAt()) + RANGE_SIZE, u64.MAX_VALUE);
    finish(0);
    expect(lastOperation().offset).toBe(8 * 512);
  });
});

describe("zeroes by hand", () => {
  beforeEach(begin);

  test("They are written where the file system can't zero a range.", () => {
    offerRangeOf(queue, WRITE_ZEROES, 16, 8, 0);
    turn();
    finish(-EOPNOTSUPP);
    expectOperation(lastOperation(), IORING_OP_WRITE, 16 * 512, MEMORY_HOST + ZEROES_PTR, 8 * 512);
    finish(8 * 512);
    expectUsed(queue, OK, 1);
  });

  test("They are written where the block device has larger blocks.", () => {
    offerRangeOf(queue, WRITE_ZEROES, 16, 8, UNMAP);
    turn();
    finish(-EINVAL);
    expectOperation(lastOperation(), IORING_OP_WRITE, 16 * 512, MEMORY_HOST + ZEROES_PTR, 8 * 512);
  });

  test("Many of them are one WRITEV of one page of zeroes, again and again, and a WRITE for the rest.", () => {
    const byteLength: u32 = 3 * ZEROES_SIZE + 512;
    offerRangeOf(queue, WRITE_ZEROES, 0, byteLength / 512, 0);
    turn();
    finish(-EOPNOTSUPP);
    const sqe = lastOperation();
    expect<u32>(sqe.opcode).toBe(IORING_OP_WRITEV);
    expect(sqe.length).toBe(3);
    for (let i: u32 = 0; i < 3; i++) expectVector(sqe, i, MEMORY_HOST + ZEROES_PTR, ZEROES_SIZE);
    finish(3 * ZEROES_SIZE);
    expectOperation(lastOperation(), IORING_OP_WRITE, 3 * ZEROES_SIZE, MEMORY_HOST + ZEROES_PTR, 512);
    finish(512);
    expectUsed(queue, OK, 1);
  });

  test("No operation has more vectors than the kernel takes.", () => {
    const most: u32 = IOVECS_MAX * ZEROES_SIZE;
    offerRangeOf(queue, WRITE_ZEROES, 0, most / 512 + 512, 0);
    turn();
    finish(-EOPNOTSUPP);
    expect(lastOperation().length).toBe(IOVECS_MAX);
    finish(most);
    expect(lastOperation().offset).toBe(most);
    expect(lastOperation().length).toBe(4);
  });

  test("A short write goes on where it ended.", () => {
    offerRangeOf(queue, WRITE_ZEROES, 0, (2 * ZEROES_SIZE) / 512, 0);
    turn();
    finish(-EOPNOTSUPP);
    finish(ZEROES_SIZE - 512);
    expect(lastOperation().offset).toBe(ZEROES_SIZE - 512);
    expect<u32>(lastOperation().opcode).toBe(IORING_OP_WRITEV);
    expect(lastOperation().length).toBe(1);
    finish(ZEROES_SIZE);
    expectOperation(lastOperation(), IORING_OP_WRITE, 2 * ZEROES_SIZE - 512, MEMORY_HOST + ZEROES_PTR, 512);
    finish(512);
    expectUsed(queue, OK, 1);
  });

  test("The next range is the file system's again.", () => {
    beginRanges(WRITE_ZEROES);
    addRange(0, 8, 0);
    addRange(64, 8, 0);
    offerRanges(queue);
    turn();
    finish(-EOPNOTSUPP);
    finish(8 * 512);
    expectOperation(lastOperation(), IORING_OP_FALLOCATE, 64 * 512, 8 * 512, ZERO_RANGE);
  });

  test("An error ends the request.", () => {
    offerRangeOf(queue, WRITE_ZEROES, 0, 8, 0);
    turn();
    finish(-EOPNOTSUPP);
    finish(-EOPNOTSUPP);
    expectUsed(queue, IOERR, 1);
  });

  test("A range that O_DIRECT refuses goes past it.", () => {
    setDevice<u32>(DEVICE_DIRECT_MASK, 4095);
    beginRanges(WRITE_ZEROES);
    addRange(8, 8, 0);
    addRange(17, 8, 0);
    addRange(32, 7, 0);
    offerRanges(queue);
    turn();
    finish(-EOPNOTSUPP);
    expect(lastOperation().fd).toBe(FILE_FD);
    finish(8 * 512);
    finish(-EOPNOTSUPP);
    expect(lastOperation().fd).toBe(UNALIGNED_FD);
    finish(8 * 512);
    finish(-EOPNOTSUPP);
    expect(lastOperation().fd).toBe(UNALIGNED_FD);
  });
});

describe("write-through", () => {
  beforeEach(() => {
    begin();
    setDevice<u32>(DEVICE_WRITE_THROUGH, 1);
  });

  test("A write is stable when it is done: RWF_DSYNC.", () => {
    offerWrite(queue, 0, 512);
    turn();
    expect(lastOperation().opFlags).toBe(RWF_DSYNC);
    finish(512);
    expectUsed(queue, OK, 1);
  });

  test("So is a write of many vectors, and what is left of a short one.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    addScattered(2, false);
    endRequest();
    queue.offer();
    turn();
    expect(lastOperation().opFlags).toBe(RWF_DSYNC);
    finish(512);
    expect(lastOperation().opFlags).toBe(RWF_DSYNC);
  });

  test("A read knows nothing of it.", () => {
    offerRead(queue, 0, 512);
    turn();
    expect(lastOperation().opFlags).toBe(0);
  });

  test("Ranges are followed by one FSYNC.", () => {
    beginRanges(WRITE_ZEROES);
    addRange(0, 8, 0);
    addRange(8, 8, 0);
    offerRanges(queue);
    turn();
    finish(0);
    finish(0);
    expectOperation(lastOperation(), IORING_OP_FSYNC, 0, 0, 0);
    expect(lastOperation().opFlags).toBe(IORING_FSYNC_DATASYNC);
    expect(queue.takeUsed()).toBe(false);
    finish(0);
    expect(operationCount()).toBe(3);
    expectUsed(queue, OK, 1);
  });

  test("Zeroes by hand are followed by an FSYNC.", () => {
    offerRangeOf(queue, WRITE_ZEROES, 0, 8, 0);
    turn();
    finish(-EOPNOTSUPP);
    finish(8 * 512);
    expect<u32>(lastOperation().opcode).toBe(IORING_OP_FSYNC);
  });

  test("If the FSYNC behind ranges fails, so does the request.", () => {
    offerRangeOf(queue, DISCARD, 0, 8, 0);
    turn();
    finish(0);
    expect<u32>(lastOperation().opcode).toBe(IORING_OP_FSYNC);
    finish(-EIO);
    expectUsed(queue, IOERR, 1);
  });

  test("Until a FLUSH, if the host wishes it so: a driver that flushes counts on no write before it has.", () => {
    setDevice<u32>(DEVICE_WRITE_THROUGH, WRITE_THROUGH_UNTIL_FLUSH);
    offerWrite(queue, 0, 512);
    turn();
    expect(lastOperation().opFlags).toBe(RWF_DSYNC);
    expect(load<u32>(DEVICE_PTR, DEVICE_FLUSHED)).toBe(0);
    offerPlain(queue, VIRTIO_BLK_T_FLUSH);
    turn();
    expect(load<u32>(DEVICE_PTR, DEVICE_FLUSHED)).toBe(1);
    offerWrite(queue, 0, 512);
    turn();
    expect(lastOperation().opFlags).toBe(0);
    offerRangeOf(queue, DISCARD, 0, 8, 0);
    turn();
    const discards = operationCount();
    finish(0);
    expect(operationCount()).toBe(discards);
  });

  test("A FLUSH doesn't turn it off for good.", () => {
    setDevice<u32>(DEVICE_FLUSHED, 1);
    offerWrite(queue, 0, 512);
    turn();
    expect(lastOperation().opFlags).toBe(RWF_DSYNC);
  });

  test("The driver may turn it off for the next request.", () => {
    offerWrite(queue, 0, 512);
    turn();
    setDevice<u32>(DEVICE_WRITE_THROUGH, 0);
    offerWrite(queue, 0, 512);
    turn();
    expect(operation(0).opFlags).toBe(RWF_DSYNC);
    expect(operation(1).opFlags).toBe(0);
  });
});

describe("O_DIRECT", () => {
  beforeEach(() => {
    begin();
    setDevice<u32>(DEVICE_DIRECT_MASK, 511);
  });

  test("A transfer with aligned address, length and offset uses it.", () => {
    offerRead(queue, 1, 512);
    turn();
    expect(lastOperation().fd).toBe(FILE_FD);
  });

  test("A buffer at any other address goes past it.", () => {
    beginRequest(VIRTIO_BLK_T_IN, 0);
    writable(allocate(520) + 8, 512);
    endRequest();
    queue.offer();
    turn();
    expect(lastOperation().fd).toBe(UNALIGNED_FD);
  });

  test("One vector of another length sends them all past it.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    readable(allocate(512), 512);
    readable(allocate(256), 256);
    readable(allocate(256), 256);
    endRequest();
    queue.offer();
    turn();
    expect(lastOperation().fd).toBe(UNALIGNED_FD);
  });

  test("An offset that is not on its boundary goes past it.", () => {
    setDevice<u32>(DEVICE_DIRECT_MASK, 4095);
    beginRequest(VIRTIO_BLK_T_IN, 1);
    writable(RAM_GPA + 0x200_0000, 4096);
    endRequest();
    queue.offer();
    turn();
    expect(lastOperation().fd).toBe(UNALIGNED_FD);
  });

  test("What is left of a short transfer is judged anew.", () => {
    offerRead(queue, 0, 2048);
    turn();
    expect(lastOperation().fd).toBe(FILE_FD);
    finish(100);
    expect(lastOperation().fd).toBe(UNALIGNED_FD);
    finish(412);
    expect(lastOperation().fd).toBe(FILE_FD);
  });

  test("Without O_DIRECT there is one descriptor for all.", () => {
    setDevice<u32>(DEVICE_DIRECT_MASK, 0);
    beginRequest(VIRTIO_BLK_T_IN, 0);
    writable(allocate(520) + 1, 512);
    endRequest();
    queue.offer();
    turn();
    expect(lastOperation().fd).toBe(FILE_FD);
  });
});

describe("results", () => {
  beforeEach(begin);

  test("A short read goes on with what is left of its vector.", () => {
    offerRead(queue, 8, 4096);
    turn();
    finish(1000);
    expectOperation(lastOperation(), IORING_OP_READ, 8 * 512 + 1000, hostOf(dataGpa) + 1000, 3096);
    expect(queue.takeUsed()).toBe(false);
    finish(3096);
    expectUsed(queue, OK, 4097);
  });

  test("A short write goes on likewise.", () => {
    offerWrite(queue, 8, 4096);
    turn();
    finish(4095);
    expectOperation(lastOperation(), IORING_OP_WRITE, 8 * 512 + 4095, hostOf(dataGpa) + 4095, 1);
    finish(1);
    expectUsed(queue, OK, 1);
  });

  test("A transfer that ends within a vector goes on there, with those behind it.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    const first = addScattered(3, false);
    endRequest();
    queue.offer();
    turn();
    finish(512 + 100);
    const sqe = lastOperation();
    expect<u32>(sqe.opcode).toBe(IORING_OP_WRITEV);
    expect(sqe.offset).toBe(612);
    expect(sqe.length).toBe(2);
    expectVector(sqe, 0, hostOf(first) + 1024 + 100, 412);
    expectVector(sqe, 1, hostOf(first) + 2048, 512);
  });

  test("A transfer that ends with a vector goes on with the next.", () => {
    beginRequest(VIRTIO_BLK_T_OUT, 0);
    const first = addScattered(3, false);
    endRequest();
    queue.offer();
    turn();
    finish(1024);
    expectOperation(lastOperation(), IORING_OP_WRITE, 1024, hostOf(first) + 2048, 512);
    finish(512);
    expectUsed(queue, OK, 1);
  });

  test("A transfer may come byte by byte.", () => {
    offerRead(queue, 0, 512);
    turn();
    for (let i = 0; i < 512; i++) finish(1);
    expect(operationCount()).toBe(512);
    expectUsed(queue, OK, 513);
  });

  test("An error of the disk is an error.", () => {
    offerRead(queue, 0, 512);
    turn();
    finish(-EIO);
    expect(queue.takeUsed()).toBe(true);
    expect(statusByte()).toBe(IOERR);
    offerWrite(queue, 0, 512);
    turn();
    finish(-EIO);
    expectUsed(queue, IOERR, 1);
  });

  test("An error behind a short transfer is an error.", () => {
    offerWrite(queue, 0, 1024);
    turn();
    finish(512);
    finish(-EIO);
    expectUsed(queue, IOERR, 1);
  });

  test("The end of the file, where there should be none, is an error.", () => {
    offerRead(queue, 0, 512);
    turn();
    finish(0);
    expect(queue.takeUsed()).toBe(true);
    expect(statusByte()).toBe(IOERR);
    expect(operationCount()).toBe(1);
  });

  test("More bytes than were asked for are an error.", () => {
    offerWrite(queue, 0, 512);
    turn();
    finish(513);
    expectUsed(queue, IOERR, 1);
  });

  test("Bytes from an operation that moves none are an error.", () => {
    offerRangeOf(queue, DISCARD, 0, 8, 0);
    turn();
    finish(1);
    expectUsed(queue, IOERR, 1);
    offerPlain(queue, VIRTIO_BLK_T_FLUSH);
    turn();
    finish(1);
    expectUsed(queue, IOERR, 1);
  });
});

/** Submits one request, then lets the kernel ask for `count` retries in a row. */
function retry(count: i32, error: i32): void {
  turn();
  for (let i = 0; i < count; i++) finish(-error);
}

describe("retries", () => {
  beforeEach(begin);

  test("An interrupted transfer is submitted again as it was.", () => {
    offerRead(queue, 8, 4096);
    retry(1, EINTR);
    expect(operationCount()).toBe(2);
    expectOperation(lastOperation(), IORING_OP_READ, 8 * 512, hostOf(dataGpa), 4096);
    finish(4096);
    expectUsed(queue, OK, 4097);
  });

  test("So is one that the kernel had no resources for.", () => {
    offerWrite(queue, 8, 4096);
    retry(1, EAGAIN);
    expectOperation(lastOperation(), IORING_OP_WRITE, 8 * 512, hostOf(dataGpa), 4096);
  });

  test("So are flushes, ranges, and zeroes by hand.", () => {
    offerPlain(queue, VIRTIO_BLK_T_FLUSH);
    retry(1, EINTR);
    expect(operationCount()).toBe(2);
    expect<u32>(lastOperation().opcode).toBe(IORING_OP_FSYNC);

    offerRangeOf(queue, WRITE_ZEROES, 16, 8, 0);
    retry(1, EINTR);
    expect(operationCount()).toBe(4);
    expectOperation(lastOperation(), IORING_OP_FALLOCATE, 16 * 512, 8 * 512, ZERO_RANGE);

    finish(-EOPNOTSUPP);
    finish(-EAGAIN);
    expect(operationCount()).toBe(6);
    expectOperation(lastOperation(), IORING_OP_WRITE, 16 * 512, MEMORY_HOST + ZEROES_PTR, 8 * 512);
  });

  test("The second range is retried, not the first.", () => {
    beginRanges(DISCARD);
    addRange(0, 8, 0);
    addRange(64, 8, 0);
    offerRanges(queue);
    turn();
    finish(0);
    finish(-EINTR);
    expect(lastOperation().offset).toBe(64 * 512);
  });

  test("They are many, but not without end.", () => {
    offerWrite(queue, 0, 512);
    retry(RETRIES_MAX, EAGAIN);
    expect(operationCount()).toBe(1 + RETRIES_MAX);
    expect(queue.takeUsed()).toBe(false);
    finish(-EAGAIN);
    expect(operationCount()).toBe(1 + RETRIES_MAX);
    expectUsed(queue, IOERR, 1);
  });

  test("Progress begins their count anew.", () => {
    offerWrite(queue, 0, 1024);
    retry(RETRIES_MAX, EINTR);
    finish(512);
    for (let i = 0; i < RETRIES_MAX; i++) finish(-EINTR);
    expect(queue.takeUsed()).toBe(false);
    finish(512);
    expectUsed(queue, OK, 1);
  });

  test("After a request that was given up, the next is retried.", () => {
    offerWrite(queue, 0, 512);
    retry(RETRIES_MAX + 1, EINTR);
    expectUsed(queue, IOERR, 1);
    offerWrite(queue, 0, 512);
    retry(1, EINTR);
    finish(512);
    expectUsed(queue, OK, 1);
  });

  test("Each request has a count of its own.", () => {
    offerWrite(queue, 0, 512);
    retry(RETRIES_MAX, EINTR);
    finish(512);
    expectUsed(queue, OK, 1);
    offerWrite(queue, 0, 512);
    retry(RETRIES_MAX, EINTR);
    finish(512);
    expectUsed(queue, OK, 1);
  });
});

describe("statistics", () => {
  beforeEach(begin);

  test("Reads and their bytes are counted.", () => {
    offerRead(queue, 0, 4096);
    turn();
    expect(done(KIND_READ)).toBe(0);
    finish(4096);
    expect(done(KIND_READ)).toBe(1);
    expect(counter(QUEUE_BYTES_IN)).toBe(4096);
  });

  test("Writes and their bytes are counted.", () => {
    offerWrite(queue, 0, 1024);
    turn();
    finish(1024);
    expect(done(KIND_WRITE)).toBe(1);
    expect(counter(QUEUE_BYTES_OUT)).toBe(1024);
  });

  test("Flushes, discards, write zeroes and IDs are counted.", () => {
    offerPlain(queue, VIRTIO_BLK_T_FLUSH);
    turn();
    finish(0);
    offerRangeOf(queue, DISCARD, 0, 8, 0);
    turn();
    finish(0);
    offerRangeOf(queue, WRITE_ZEROES, 0, 8, 0);
    turn();
    finish(0);
    offerPlain(queue, VIRTIO_BLK_T_GET_ID);
    turn();
    expect(done(KIND_FLUSH)).toBe(1);
    expect(done(KIND_DISCARD)).toBe(1);
    expect(done(KIND_WRITE_ZEROES)).toBe(1);
    expect(done(KIND_ID)).toBe(1);
    expect(counter(QUEUE_FAILURES)).toBe(0);
  });

  test("A request that failed counts as that alone.", () => {
    offerRead(queue, 0, 512);
    turn();
    finish(-EIO);
    offerPlain(queue, 99);
    turn();
    expect(counter(QUEUE_FAILURES)).toBe(2);
    expect(done(KIND_READ)).toBe(0);
    expect(counter(QUEUE_BYTES_IN)).toBe(0);
  });
});
