// chain.ts: what a chain holds, and every way in which a driver can break one (virtio 1.4, 2.7.5 and 2.8).

import {
  FAULT_ADDRESS,
  FAULT_CHAIN_TOO_LONG,
  FAULT_HEAD_PAST_QUEUE,
  FAULT_INDIRECT_LENGTH,
  FAULT_NESTED_INDIRECT,
  FAULT_NEXT_PAST_TABLE,
} from "../../assembly/abi/faults.ts";
import { TABLE_MAX } from "../../assembly/abi/queue.ts";
import { IOVECS_MAX } from "../../assembly/abi/worker.ts";
import {
  DESC_SIZE,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../../assembly/spec/virtqueue.ts";
import {
  beginChain,
  bufferGpa,
  bufferIsWritable,
  bufferLength,
  chainCount,
  chainId,
  nextBuffer,
  useScratch,
} from "../../assembly/virtqueue/chain.ts";
import { missedGpa } from "../../assembly/virtqueue/guest-memory.ts";
import { startRing } from "../../assembly/virtqueue/queue.ts";
import { BUFFER, CHAIN_END, MISSED } from "../../assembly/virtqueue/results.ts";
import { Virtqueue } from "../../assembly/virtqueue/state.ts";
import {
  allocate,
  Driver,
  hideFromWindows,
  openCore,
  PACKED_BASE,
  PackedDriver,
  PLAIN_PTR,
  ptrOf,
  RAM_GPA,
  RAM_PTR,
  RAM_SIZE,
  readable,
  SplitDriver,
  setWindow,
  writable,
  writeDescriptor,
} from "./support.ts";

const NEXT: u32 = VIRTQ_DESC_F_NEXT;
const WRITE: u32 = VIRTQ_DESC_F_WRITE;
const INDIRECT: u32 = VIRTQ_DESC_F_INDIRECT;
/** The longest chain that is walked: I/O vectors of one request, its header and its status. */
/** More than one operation takes. */
const LONG: u32 = 3 * IOVECS_MAX;
const MOST: u32 = TABLE_MAX;

const queue = changetype<Virtqueue>(PLAIN_PTR);
const SCRATCH: usize = PLAIN_PTR + 0x1000;

let split: SplitDriver = new SplitDriver();
let packed: PackedDriver = new PackedDriver();
let table: u64 = 0;

function beginRing(driver: Driver, base: u32): void {
  memory.fill(PLAIN_PTR, 0, offsetof<Virtqueue>());
  useScratch(SCRATCH);
  table = allocate(2048 * DESC_SIZE);
  startRing(queue, driver.size, driver.flags, driver.desc, driver.driver, driver.device, base);
}

function beginSplit(size: u32): void {
  openCore();
  split = new SplitDriver(0, size);
  beginRing(split, 0);
}

function beginPacked(size: u32, base: u32): void {
  openCore();
  packed = new PackedDriver(0, size);
  beginRing(packed, base);
}

/** A split descriptor: in the ring, in the table. Its buffer is never looked at. */
function inRing(slot: u32, flags: u32, next: u32): void {
  writeDescriptor(split.slot(slot), 0x1000 + slot, 16 + slot, flags, next);
}

function inTable(index: u32, flags: u32, next: u32): void {
  writeDescriptor(ptrOf(table) + <usize>index * DESC_SIZE, 0x2000 + index, 32 + index, flags, next);
}

function tableInRing(slot: u32, byteLength: u32, flags: u32): void {
  writeDescriptor(split.slot(slot), table, byteLength, flags | INDIRECT, 0);
}

function packedInRing(slot: u32, flags: u32, id: u32): void {
  writeDescriptor(packed.slot(slot), 0x1000 + slot, 16 + slot, id, flags);
}

function packedInTable(index: u32, flags: u32, id: u32): void {
  writeDescriptor(ptrOf(table) + <usize>index * DESC_SIZE, 0x2000 + index, 32 + index, id, flags);
}

function packedTableInRing(slot: u32, byteLength: u32, flags: u32, id: u32): void {
  writeDescriptor(packed.slot(slot), table, byteLength, id, flags | INDIRECT);
}

/** How many buffers come before what `ending` then is. */
let walkedBuffers: u32 = 0;
let ending: i32 = 0;

function walk(): i32 {
  beginChain(queue);
  walkedBuffers = 0;
  for (ending = nextBuffer(); ending === BUFFER; ending = nextBuffer()) walkedBuffers++;
  return ending;
}

function walkFrom(head: u16): i32 {
  split.publish(head);
  return walk();
}

function expectBuffer(gpa: u64, byteLength: u32, isWritable: bool): void {
  expect(nextBuffer()).toBe(BUFFER);
  expect(bufferGpa).toBe(gpa, "address");
  expect(bufferLength).toBe(byteLength, "length");
  expect(bufferIsWritable).toBe(isWritable, "writable");
}

describe("a split chain", () => {
  beforeEach(() => {
    beginSplit(8);
  });

  test("A single descriptor is a chain.", () => {
    inRing(3, 0, 0);
    split.publish(3);
    beginChain(queue);
    expectBuffer(0x1003, 19, false);
    expect(nextBuffer()).toBe(CHAIN_END);
  });

  test("Buffers come in the order of next, wherever they lie in the table.", () => {
    inRing(5, NEXT, 1);
    inRing(1, NEXT | WRITE, 7);
    inRing(7, WRITE, 0);
    split.publish(5);
    beginChain(queue);
    expectBuffer(0x1005, 21, false);
    expectBuffer(0x1001, 17, true);
    expectBuffer(0x1007, 23, true);
    expect(nextBuffer()).toBe(CHAIN_END);
  });

  test("It is named by its head and counts its descriptors.", () => {
    inRing(5, NEXT, 1);
    inRing(1, NEXT, 7);
    inRing(7, 0, 0);
    walkFrom(5);
    expect(chainId).toBe(5);
    expect(chainCount).toBe(3);
  });

  test("Its address and length may be any.", () => {
    writeDescriptor(split.slot(0), 0xffffffffffffffff, 0xffffffff, 0, 0);
    split.publish(0);
    beginChain(queue);
    expectBuffer(0xffffffffffffffff, 0xffffffff, false);
  });

  test("next means nothing without VIRTQ_DESC_F_NEXT.", () => {
    inRing(0, 0, 0xffff);
    expect(walkFrom(0)).toBe(CHAIN_END);
  });

  test("A head past the queue is a fault.", () => {
    expect(walkFrom(8)).toBe(FAULT_HEAD_PAST_QUEUE);
    expect(walkedBuffers).toBe(0);
  });

  test("The largest head is a fault like others.", () => {
    expect(walkFrom(0xffff)).toBe(FAULT_HEAD_PAST_QUEUE);
  });

  test("A next past the table is a fault.", () => {
    inRing(0, NEXT, 8);
    expect(walkFrom(0)).toBe(FAULT_NEXT_PAST_TABLE);
    expect(walkedBuffers).toBe(1);
  });

  test("A chain may hold every descriptor of the table.", () => {
    for (let i: u32 = 0; i < 8; i++) inRing(i, i < 7 ? NEXT : 0, i + 1);
    expect(walkFrom(0)).toBe(CHAIN_END);
    expect(walkedBuffers).toBe(8);
  });

  test("A chain that ends in a circle is too long.", () => {
    for (let i: u32 = 0; i < 8; i++) inRing(i, NEXT, (i + 1) % 8);
    expect(walkFrom(0)).toBe(FAULT_CHAIN_TOO_LONG);
    expect(walkedBuffers).toBe(8);
  });

  test("A descriptor that is its own next is too long a chain.", () => {
    inRing(2, NEXT, 2);
    expect(walkFrom(2)).toBe(FAULT_CHAIN_TOO_LONG);
  });

  test("Unknown flags mean nothing.", () => {
    inRing(0, 0xfff8, 1);
    expect(walkFrom(0)).toBe(CHAIN_END);
    expect(walkedBuffers).toBe(1);
  });
});

describe("a split chain with an indirect table", () => {
  beforeEach(() => {
    beginSplit(8);
  });

  test("The table's buffers are the chain's, in the order of next.", () => {
    inTable(0, NEXT, 2);
    inTable(2, NEXT, 1);
    inTable(1, WRITE, 0);
    tableInRing(4, 3 * DESC_SIZE, 0);
    split.publish(4);
    beginChain(queue);
    expectBuffer(0x2000, 32, false);
    expectBuffer(0x2002, 34, false);
    expectBuffer(0x2001, 33, true);
    expect(nextBuffer()).toBe(CHAIN_END);
  });

  test("It holds one descriptor of the ring, by which it is named.", () => {
    inTable(0, NEXT, 1);
    inTable(1, 0, 0);
    tableInRing(4, 2 * DESC_SIZE, 0);
    walkFrom(4);
    expect(chainId).toBe(4);
    expect(chainCount).toBe(1);
  });

  test("A table may end before its last descriptor.", () => {
    inTable(0, 0, 0);
    inTable(1, INDIRECT, 0);
    tableInRing(4, 2 * DESC_SIZE, 0);
    expect(walkFrom(4)).toBe(CHAIN_END);
    expect(walkedBuffers).toBe(1);
  });

  test("A table may follow descriptors of the ring (2.7.5.3.2).", () => {
    inRing(1, NEXT, 2);
    inRing(2, NEXT, 4);
    tableInRing(4, DESC_SIZE, 0);
    inTable(0, WRITE, 0);
    expect(walkFrom(1)).toBe(CHAIN_END);
    expect(walkedBuffers).toBe(3);
    expect(chainCount).toBe(3);
  });

  test("VIRTQ_DESC_F_WRITE of the descriptor that refers to a table means nothing (2.7.5.3.2).", () => {
    tableInRing(4, DESC_SIZE, WRITE);
    inTable(0, 0, 0);
    split.publish(4);
    beginChain(queue);
    expectBuffer(0x2000, 32, false);
  });

  test("A chain that goes on behind its table is a fault.", () => {
    tableInRing(4, DESC_SIZE, NEXT);
    inTable(0, 0, 0);
    expect(walkFrom(4)).toBe(FAULT_NESTED_INDIRECT);
  });

  test("A table in a table is a fault.", () => {
    tableInRing(4, 2 * DESC_SIZE, 0);
    inTable(0, NEXT, 1);
    inTable(1, INDIRECT, 0);
    expect(walkFrom(4)).toBe(FAULT_NESTED_INDIRECT);
    expect(walkedBuffers).toBe(1);
  });

  test("An empty table is a fault.", () => {
    tableInRing(4, 0, 0);
    expect(walkFrom(4)).toBe(FAULT_INDIRECT_LENGTH);
  });

  test("A table of no whole number of descriptors is a fault.", () => {
    tableInRing(4, DESC_SIZE - 1, 0);
    expect(walkFrom(4)).toBe(FAULT_INDIRECT_LENGTH);
    tableInRing(4, DESC_SIZE + 8, 0);
    expect(walk()).toBe(FAULT_INDIRECT_LENGTH);
  });

  test("A next past the table is a fault, even if the ring is longer.", () => {
    tableInRing(4, 2 * DESC_SIZE, 0);
    inTable(0, NEXT, 2);
    expect(walkFrom(4)).toBe(FAULT_NEXT_PAST_TABLE);
  });

  test("A table may be longer than the queue, as Windows makes it.", () => {
    for (let i: u32 = 0; i < 515; i++) inTable(i, i < 514 ? NEXT : WRITE, i + 1);
    tableInRing(0, 515 * DESC_SIZE, 0);
    expect(walkFrom(0)).toBe(CHAIN_END);
    expect(walkedBuffers).toBe(515);
  });

  test("A table may hold more buffers than one operation takes.", () => {
    for (let i: u32 = 0; i < LONG; i++) inTable(i, i + 1 < LONG ? NEXT : 0, i + 1);
    tableInRing(0, LONG * DESC_SIZE, 0);
    expect(walkFrom(0)).toBe(CHAIN_END);
    expect(walkedBuffers).toBe(LONG);
  });

  test("A table may hold as many as next can tell apart.", () => {
    for (let i: u32 = 0; i < MOST; i++) inTable(i, i + 1 < MOST ? NEXT : 0, i + 1);
    tableInRing(0, MOST * DESC_SIZE, 0);
    expect(walkFrom(0)).toBe(CHAIN_END);
    expect(walkedBuffers).toBe(MOST);
  });

  test("A circle in a larger table is found after as many.", () => {
    for (let i: u32 = 0; i < MOST; i++) inTable(i, NEXT, i + 1);
    tableInRing(0, 2 * MOST * DESC_SIZE, 0);
    expect(walkFrom(0)).toBe(FAULT_CHAIN_TOO_LONG);
    expect(walkedBuffers).toBe(MOST);
  });

  test("A table that runs in a circle is too long a chain.", () => {
    inTable(0, NEXT, 1);
    inTable(1, NEXT, 0);
    tableInRing(0, 2 * DESC_SIZE, 0);
    expect(walkFrom(0)).toBe(FAULT_CHAIN_TOO_LONG);
  });

  test("A table outside of guest memory is a fault.", () => {
    writeDescriptor(split.slot(0), RAM_GPA + RAM_SIZE, DESC_SIZE, INDIRECT, 0);
    expect(walkFrom(0)).toBe(FAULT_ADDRESS);
  });

  test("A table that leaves guest memory is a fault where it does.", () => {
    const gpa = RAM_GPA + RAM_SIZE - DESC_SIZE;
    writeDescriptor(ptrOf(gpa), 0, 0, NEXT, 1);
    writeDescriptor(split.slot(0), gpa, 2 * DESC_SIZE, INDIRECT, 0);
    expect(walkFrom(0)).toBe(FAULT_ADDRESS);
    expect(walkedBuffers).toBe(1);
  });

  test("A table that no window shows is a miss.", () => {
    hideFromWindows(table, 4096);
    inTable(0, 0, 0);
    tableInRing(0, DESC_SIZE, 0);
    expect(walkFrom(0)).toBe(MISSED);
    expect(missedGpa).toBe(table);
  });

  test("After the miss, the chain is read from its beginning.", () => {
    hideFromWindows(table, DESC_SIZE);
    inRing(1, NEXT, 4);
    tableInRing(4, DESC_SIZE, 0);
    inTable(0, 0, 0);
    expect(walkFrom(1)).toBe(MISSED);
    setWindow(2, table, DESC_SIZE, ptrOf(table));
    expect(walk()).toBe(CHAIN_END);
    expect(walkedBuffers).toBe(2);
    expect(chainCount).toBe(2);
  });

  test("A descriptor on both sides of a border between windows is put together.", () => {
    // The window before the border shows a copy of the table's first bytes, far from the rest.
    const border = table + DESC_SIZE + 6;
    const copy = RAM_PTR + <usize>RAM_SIZE;
    inTable(0, NEXT, 1);
    inTable(1, WRITE, 0);
    memory.copy(copy, ptrOf(table), DESC_SIZE + 6);
    memory.fill(ptrOf(table), 0xff, DESC_SIZE + 6);
    setWindow(0, table, border - table, copy);
    setWindow(1, border, RAM_GPA + RAM_SIZE - border, ptrOf(border));
    tableInRing(0, 2 * DESC_SIZE, 0);
    split.publish(0);
    beginChain(queue);
    expectBuffer(0x2000, 32, false);
    expectBuffer(0x2001, 33, true);
    expect(nextBuffer()).toBe(CHAIN_END);
  });

  test("A descriptor of which a part is not shown is a miss at that part.", () => {
    hideFromWindows(table + 6, 100);
    inTable(0, 0, 0);
    tableInRing(0, DESC_SIZE, 0);
    expect(walkFrom(0)).toBe(MISSED);
    expect(missedGpa).toBe(table + 6);
  });
});

describe("a packed chain", () => {
  beforeEach(() => {
    beginPacked(5, PACKED_BASE);
  });

  test("Its buffers are those of the slots, one by one.", () => {
    packedInRing(0, NEXT, 9);
    packedInRing(1, NEXT | WRITE, 9);
    packedInRing(2, WRITE, 3);
    beginChain(queue);
    expectBuffer(0x1000, 16, false);
    expectBuffer(0x1001, 17, true);
    expectBuffer(0x1002, 18, true);
    expect(nextBuffer()).toBe(CHAIN_END);
  });

  test("It is named by the id of its last descriptor.", () => {
    packedInRing(0, NEXT, 9);
    packedInRing(1, NEXT, 8);
    packedInRing(2, 0, 3);
    walk();
    expect(chainId).toBe(3);
    expect(chainCount).toBe(3);
  });

  test("Its id may be any, also past the queue.", () => {
    packedInRing(0, 0, 0xffff);
    walk();
    expect(chainId).toBe(0xffff);
  });

  test("It goes on at the first slot behind the last.", () => {
    beginPacked(5, 0x80048004);
    packedInRing(4, NEXT, 0);
    packedInRing(0, NEXT, 0);
    packedInRing(1, 0, 7);
    beginChain(queue);
    expectBuffer(0x1004, 20, false);
    expectBuffer(0x1000, 16, false);
    expectBuffer(0x1001, 17, false);
    expect(nextBuffer()).toBe(CHAIN_END);
    expect(chainId).toBe(7);
  });

  test("It may hold every slot of the ring.", () => {
    for (let i: u32 = 0; i < 5; i++) packedInRing(i, i < 4 ? NEXT : 0, 2);
    expect(walk()).toBe(CHAIN_END);
    expect(chainCount).toBe(5);
  });

  test("Without an end it is too long.", () => {
    for (let i: u32 = 0; i < 5; i++) packedInRing(i, NEXT, 2);
    expect(walk()).toBe(FAULT_CHAIN_TOO_LONG);
    expect(walkedBuffers).toBe(5);
  });
});

describe("a packed chain with an indirect table", () => {
  beforeEach(() => {
    beginPacked(5, PACKED_BASE);
  });

  test("The table's buffers are the chain's, in the order of the table.", () => {
    packedInTable(0, 0, 0);
    packedInTable(1, WRITE, 0);
    packedTableInRing(0, 2 * DESC_SIZE, 0, 6);
    beginChain(queue);
    expectBuffer(0x2000, 32, false);
    expectBuffer(0x2001, 33, true);
    expect(nextBuffer()).toBe(CHAIN_END);
  });

  test("It is named by the descriptor in the ring, and holds that one alone.", () => {
    packedInTable(0, 0, 99);
    packedInTable(1, 0, 99);
    packedTableInRing(0, 2 * DESC_SIZE, 0, 6);
    walk();
    expect(chainId).toBe(6);
    expect(chainCount).toBe(1);
  });

  test("Only VIRTQ_DESC_F_WRITE means anything in a table (2.8.7).", () => {
    packedInTable(0, 0xffff & ~WRITE, 0);
    packedInTable(1, 0xffff, 0);
    packedTableInRing(0, 2 * DESC_SIZE, 0, 6);
    beginChain(queue);
    expectBuffer(0x2000, 32, false);
    expectBuffer(0x2001, 33, true);
    expect(nextBuffer()).toBe(CHAIN_END);
  });

  test("VIRTQ_DESC_F_WRITE of the descriptor that refers to a table means nothing.", () => {
    packedInTable(0, 0, 0);
    packedTableInRing(0, DESC_SIZE, WRITE, 6);
    beginChain(queue);
    expectBuffer(0x2000, 32, false);
  });

  test("A table is read to its end.", () => {
    for (let i: u32 = 0; i < 515; i++) packedInTable(i, 0, 0);
    packedTableInRing(0, 515 * DESC_SIZE, 0, 6);
    expect(walk()).toBe(CHAIN_END);
    expect(walkedBuffers).toBe(515);
  });

  test("A table may hold more buffers than one operation takes, up to a bound.", () => {
    for (let i: u32 = 0; i <= MOST; i++) packedInTable(i, 0, 0);
    packedTableInRing(0, (MOST + 1) * DESC_SIZE, 0, 6);
    expect(walk()).toBe(FAULT_CHAIN_TOO_LONG);
    packedTableInRing(0, MOST * DESC_SIZE, 0, 6);
    expect(walk()).toBe(CHAIN_END);
    expect(walkedBuffers).toBe(MOST);
  });

  test("A table behind other descriptors is a fault (2.8.19).", () => {
    packedInRing(0, NEXT, 0);
    packedTableInRing(1, DESC_SIZE, 0, 6);
    expect(walk()).toBe(FAULT_NESTED_INDIRECT);
  });

  test("A chain that goes on behind its table is a fault.", () => {
    packedTableInRing(0, DESC_SIZE, NEXT, 6);
    expect(walk()).toBe(FAULT_NESTED_INDIRECT);
  });

  test("An empty table is a fault, and one of no whole number of descriptors.", () => {
    packedTableInRing(0, 0, 0, 6);
    expect(walk()).toBe(FAULT_INDIRECT_LENGTH);
    packedTableInRing(0, DESC_SIZE + 1, 0, 6);
    expect(walk()).toBe(FAULT_INDIRECT_LENGTH);
  });
});

describe("the driver of these tests", () => {
  test("Its split chains are walked as they were built, direct and by table.", () => {
    beginSplit(8);
    readable(0x11, 1);
    writable(0x22, 2);
    expect(split.offer()).toBe(0);
    beginChain(queue);
    expectBuffer(0x11, 1, false);
    expectBuffer(0x22, 2, true);
    expect(nextBuffer()).toBe(CHAIN_END);

    beginSplit(8);
    readable(0x33, 3);
    writable(0x44, 4);
    split.offerTable();
    beginChain(queue);
    expectBuffer(0x33, 3, false);
    expectBuffer(0x44, 4, true);
    expect(nextBuffer()).toBe(CHAIN_END);
  });

  test("Its packed chains are walked as they were built, direct and by table.", () => {
    beginPacked(8, PACKED_BASE);
    readable(0x11, 1);
    writable(0x22, 2);
    packed.offer();
    beginChain(queue);
    expectBuffer(0x11, 1, false);
    expectBuffer(0x22, 2, true);
    expect(nextBuffer()).toBe(CHAIN_END);

    beginPacked(8, PACKED_BASE);
    readable(0x33, 3);
    writable(0x44, 4);
    packed.offerTable();
    beginChain(queue);
    expectBuffer(0x33, 3, false);
    expectBuffer(0x44, 4, true);
    expect(nextBuffer()).toBe(CHAIN_END);
  });
});
