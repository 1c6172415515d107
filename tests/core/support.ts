// What stands in for a guest and a kernel: a driver of either ring format, and an engine that takes SQEs and posts CQEs.

import { OP_CHAIN } from "../../assembly/abi/chain.ts";
import {
  DEVICE_BLOCK_SECTORS,
  DEVICE_CAPACITY_SECTORS,
  DEVICE_DISCARD_UNMAPS,
  DEVICE_FILE_FD,
  DEVICE_MAX_DISCARD_SECTORS,
  DEVICE_MAX_RANGES,
  DEVICE_MAX_WRITE_ZEROES_SECTORS,
  DEVICE_MEMORY_HOST_ADDRESS,
  DEVICE_SIZE,
  DEVICE_TURN_REQUESTS,
  DEVICE_UNALIGNED_FD,
} from "../../assembly/abi/device-block.ts";
import {
  COPIES_MAX,
  ENTRY_GPA,
  ENTRY_LENGTH,
  ENTRY_TARGET,
  GUEST_WRITES_MAX,
  REGIONS_MAX,
  TABLE_ENTRY_SIZE,
  WINDOWS_MAX,
} from "../../assembly/abi/guest-memory.ts";
import { DEVICE_PTR, GUEST_PTR, REGION_TABLE_PTR, WORKERS_PTR } from "../../assembly/abi/memory.ts";
import { QUEUE_F_EVENT_IDX, QUEUE_F_PACKED, QUEUE_STRIDE, QUEUES_MAX } from "../../assembly/abi/queue.ts";
import {
  REQUEST_STRIDE,
  REQUESTS_MAX,
  WORKER_COPIES,
  WORKER_GUEST_WRITES,
  WORKER_QUEUES,
  WORKER_REQUESTS,
  WORKER_WINDOW_TABLE,
} from "../../assembly/abi/worker.ts";
import { attachRings, openWorker, startQueue, step } from "../../assembly/index.ts";
import {
  CQE_RES,
  CQE_SIZE,
  CQE_USER_DATA,
  IORING_OP_ASYNC_CANCEL,
  SQE_ADDR,
  SQE_FD,
  SQE_LEN,
  SQE_OFF,
  SQE_OP_FLAGS,
  SQE_SIZE,
  SQE_USER_DATA,
} from "../../assembly/spec/io-uring.ts";
import {
  BLK_HEADER_SECTOR,
  BLK_HEADER_SIZE,
  RANGE_FLAGS,
  RANGE_NUM_SECTORS,
  RANGE_SIZE,
} from "../../assembly/spec/virtio-blk.ts";
import {
  AVAIL_FLAGS,
  AVAIL_IDX,
  AVAIL_RING,
  DESC_LEN,
  DESC_SIZE,
  EVENT_FLAGS,
  PACKED_DESC_FLAGS,
  PACKED_DESC_ID,
  PACKED_DESC_LEN,
  USED_ELEM_LEN,
  USED_ELEM_SIZE,
  USED_IDX,
  USED_RING,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
} from "../../assembly/spec/virtqueue.ts";
import { pushUsed, takeChain } from "../../assembly/virtqueue/queue.ts";
import { Chain, Virtqueue } from "../../assembly/virtqueue/state.ts";

// --- Memory ---------------------------------------------------------------------------------------------------------

/** Guest memory. Guest address, pointer and host address have nothing in common, so that mixing them up cannot work. */
export const RAM_GPA: u64 = 0x1_4000_0000;
export const RAM_SIZE: u64 = 0x400_0000;
export const RAM_PTR: usize = GUEST_PTR;
export const RAM_HOST: u64 = 0x7f12_0000_0000;
/** Where linear memory lies for the kernel. */
export const MEMORY_HOST: u64 = 0x7e00_0000_0000;

/** The rings of one queue lie so far behind those of the one before; buffers behind those of the last. */
const RINGS_STRIDE: usize = 0x10_0000;
const RINGS_MAX: usize = 8;
/** Of the space between two buffers, so that none touches another by chance. */
const GAP: u64 = 64;

/** The tests' own part of linear memory: below the workers, outside of what the core knows. */
const ENGINE_PTR: usize = 0x100_0000;
const SQES_PTR: usize = 0x101_0000;
const CQES_PTR: usize = 0x110_0000;
const CHAIN_PTR: usize = 0x120_0000;
/** Free for a test to use. */
export const PLAIN_PTR: usize = 0x130_0000;
const LOG_PTR: usize = 0x140_0000;

let nextBufferGpa: u64 = 0;

/** A buffer of the guest's, on a boundary of 512 bytes. */
export function allocate(byteLength: u64): u64 {
  const gpa = (nextBufferGpa + 511) & ~(<u64>511);
  nextBufferGpa = gpa + byteLength + GAP;
  assert(nextBufferGpa <= RAM_GPA + RAM_SIZE);
  return gpa;
}

export function ptrOf(gpa: u64): usize {
  return RAM_PTR + <usize>(gpa - RAM_GPA);
}

export function hostOf(gpa: u64): u64 {
  return RAM_HOST + (gpa - RAM_GPA);
}

export function setEntry(table: usize, index: u32, gpa: u64, byteLength: u64, target: u64): void {
  const entry = table + <usize>index * TABLE_ENTRY_SIZE;
  store<u64>(entry, gpa, ENTRY_GPA);
  store<u64>(entry, byteLength, ENTRY_LENGTH);
  store<u64>(entry, target, ENTRY_TARGET);
}

export function setRegion(index: u32, gpa: u64, byteLength: u64, hostAddress: u64): void {
  setEntry(REGION_TABLE_PTR, index, gpa, byteLength, hostAddress);
}

export function setWindow(index: u32, gpa: u64, byteLength: u64, ptr: usize): void {
  setEntry(WORKERS_PTR + WORKER_WINDOW_TABLE, index, gpa, byteLength, ptr);
}

/** Shows all guest memory but `byteLength` bytes from `gpa`. */
export function hideFromWindows(gpa: u64, byteLength: u64): void {
  const end = gpa + byteLength;
  setWindow(0, RAM_GPA, gpa - RAM_GPA, RAM_PTR);
  setWindow(1, end, RAM_GPA + RAM_SIZE - end, ptrOf(end));
}

/** Shows all guest memory, in one window. */
export function showAll(): void {
  setWindow(0, RAM_GPA, RAM_SIZE, RAM_PTR);
  setWindow(1, 0, 0, 0);
}

/** Lends the chain that is being read a copy of `byteLength` bytes at `gpa`, made at `ptr`. */
export function lendCopy(index: u32, gpa: u64, byteLength: u32, ptr: usize): void {
  memory.copy(ptr, ptrOf(gpa), byteLength);
  setEntry(WORKERS_PTR + WORKER_COPIES, index, gpa, byteLength, ptr);
  setEntry(WORKERS_PTR + WORKER_COPIES, index + 1, 0, 0, 0);
}

/** Writes what the core wants written in guest memory. Returns how many entries that were. */
export function writeForCore(): u32 {
  let count: u32 = 0;
  for (; count < <u32>GUEST_WRITES_MAX; count++) {
    const entry = <usize>(WORKERS_PTR + WORKER_GUEST_WRITES) + <usize>count * TABLE_ENTRY_SIZE;
    const byteLength = <u32>load<u64>(entry, ENTRY_LENGTH);
    if (byteLength === 0) break;
    memory.copy(ptrOf(load<u64>(entry, ENTRY_GPA)), <usize>load<u64>(entry, ENTRY_TARGET), byteLength);
  }
  return count;
}

export function setDevice<T>(field: i32, value: T): void {
  store<T>(DEVICE_PTR + field, value);
}

export function clearTables(): void {
  memory.fill(REGION_TABLE_PTR, 0, REGIONS_MAX * TABLE_ENTRY_SIZE);
  memory.fill(WORKERS_PTR + WORKER_WINDOW_TABLE, 0, WINDOWS_MAX * TABLE_ENTRY_SIZE);
  memory.fill(WORKERS_PTR + WORKER_COPIES, 0, COPIES_MAX * TABLE_ENTRY_SIZE);
  memory.fill(WORKERS_PTR + WORKER_GUEST_WRITES, 0, GUEST_WRITES_MAX * TABLE_ENTRY_SIZE);
}

// --- The core under test --------------------------------------------------------------------------------------------

export const FILE_FD: i32 = 100;
export const UNALIGNED_FD: i32 = 101;
export const CONTROL_FD: i32 = 200;
/** Queue 0's; each queue has the next. */
export const KICK_FD: i32 = 300;
export const CALL_FD: i32 = 400;

export const CAPACITY: u64 = 0x10_0000;
export const MAX_DISCARD: u32 = 0x8000;
export const MAX_WRITE_ZEROES: u32 = 0x4_0000;
export const MAX_RANGES: u32 = 16;
/** Requests that one turn takes from one queue at the most. */
export const TURN_REQUESTS: u32 = 4;

let sqEntries: u32 = 0;
let cqEntries: u32 = 0;

/** A fresh worker 0 with all guest memory in one window. No queue has started. */
export function openCore(queueCount: u32 = 1, requestCount: u32 = 64, sqEntryCount: u32 = 1024): void {
  clearTables();
  memory.fill(WORKERS_PTR + WORKER_QUEUES, 0, QUEUES_MAX * QUEUE_STRIDE);
  memory.fill(WORKERS_PTR + WORKER_REQUESTS, 0, REQUESTS_MAX * REQUEST_STRIDE);
  memory.fill(RAM_PTR, 0, RINGS_STRIDE * RINGS_MAX);
  nextBufferGpa = RAM_GPA + RINGS_STRIDE * RINGS_MAX;
  setRegion(0, RAM_GPA, RAM_SIZE, RAM_HOST);
  showAll();

  memory.fill(DEVICE_PTR, 0, DEVICE_SIZE);
  setDevice<u64>(DEVICE_CAPACITY_SECTORS, CAPACITY);
  setDevice<u64>(DEVICE_MEMORY_HOST_ADDRESS, MEMORY_HOST);
  setDevice<i32>(DEVICE_FILE_FD, FILE_FD);
  setDevice<i32>(DEVICE_UNALIGNED_FD, UNALIGNED_FD);
  setDevice<u32>(DEVICE_BLOCK_SECTORS, 1);
  setDevice<u32>(DEVICE_DISCARD_UNMAPS, 1);
  setDevice<u32>(DEVICE_MAX_DISCARD_SECTORS, MAX_DISCARD);
  setDevice<u32>(DEVICE_MAX_WRITE_ZEROES_SECTORS, MAX_WRITE_ZEROES);
  setDevice<u32>(DEVICE_MAX_RANGES, MAX_RANGES);
  setDevice<u32>(DEVICE_TURN_REQUESTS, TURN_REQUESTS);

  openEngine(sqEntryCount, 4096, 0);
  openWorker(0, queueCount, requestCount, CONTROL_FD);
  clearChain();
}

// --- The engine -----------------------------------------------------------------------------------------------------

/** struct io_uring_sqe. */
@unmanaged
export class Sqe {
  opcode: u8;
  flags: u8;
  ioprio: u16;
  fd: i32;
  offset: u64;
  address: u64;
  length: u32;
  opFlags: u32;
  userData: u64;
  rest0: u64;
  rest1: u64;
  rest2: u64;
}
if (offsetof<Sqe>("fd") !== SQE_FD) ERROR("Sqe.fd");
if (offsetof<Sqe>("offset") !== SQE_OFF) ERROR("Sqe.offset");
if (offsetof<Sqe>("address") !== SQE_ADDR) ERROR("Sqe.address");
if (offsetof<Sqe>("length") !== SQE_LEN) ERROR("Sqe.length");
if (offsetof<Sqe>("opFlags") !== SQE_OP_FLAGS) ERROR("Sqe.opFlags");
if (offsetof<Sqe>("userData") !== SQE_USER_DATA) ERROR("Sqe.userData");
if (offsetof<Sqe>() !== SQE_SIZE) ERROR("Sqe");

export const SQ_HEAD: usize = ENGINE_PTR;
export const SQ_TAIL: usize = ENGINE_PTR + 4;
export const CQ_HEAD: usize = ENGINE_PTR + 8;
export const CQ_TAIL: usize = ENGINE_PTR + 12;
export const SQ_FLAGS: usize = ENGINE_PTR + 16;

/** Every SQE taken so far, in order, and those of them that are for the image. */
let log: Sqe[] = [];
let operations: Sqe[] = [];

/** Attaches the core to empty rings whose indices all stand at `index`. */
export function openEngine(sqEntryCount: u32, cqEntryCount: u32, index: u32): void {
  sqEntries = sqEntryCount;
  cqEntries = cqEntryCount;
  log = [];
  operations = [];
  memory.fill(SQES_PTR, 0, <usize>sqEntryCount * SQE_SIZE);
  for (let offset: usize = 0; offset < 16; offset += 4) store<u32>(ENGINE_PTR + offset, index);
  attachRings(SQ_HEAD, SQ_TAIL, SQ_FLAGS, SQES_PTR, sqEntryCount, CQ_HEAD, CQ_TAIL, CQES_PTR, cqEntryCount);
}

export function sqeAt(index: u32): Sqe {
  return changetype<Sqe>(SQES_PTR + <usize>(index & (sqEntries - 1)) * SQE_SIZE);
}

/** Takes what has been published, `limit` entries at most. Returns how many that were. */
export function takeSqes(limit: u32 = u32.MAX_VALUE): u32 {
  let head = load<u32>(SQ_HEAD);
  const tail = load<u32>(SQ_TAIL);
  let count: u32 = 0;
  for (; head !== tail && count < limit; count++) {
    const copy = changetype<Sqe>(LOG_PTR + <usize>log.length * SQE_SIZE);
    memory.copy(changetype<usize>(copy), changetype<usize>(sqeAt(head)), SQE_SIZE);
    log.push(copy);
    if (copy.fd === FILE_FD || copy.fd === UNALIGNED_FD) operations.push(copy);
    store<u32>(SQ_HEAD, ++head);
  }
  return count;
}

/** One turn of the core, after which the engine has taken all. */
export function turn(): u32 {
  const outcome = step();
  takeSqes();
  return outcome;
}

/** Forgets what was taken so far, for tests that would fill the log. */
export function clearLog(): void {
  log.length = 0;
  operations.length = 0;
}

/** How many operations on the image were taken so far. */
export function operationCount(): i32 {
  return operations.length;
}

/** The operations that are chains, of all that were taken so far. */
export function chainsTaken(): Sqe[] {
  const found: Sqe[] = [];
  for (let i = 0; i < log.length; i++) if (log[i].opcode === OP_CHAIN) found.push(log[i]);
  return found;
}

export function lastChain(): Sqe {
  const found = chainsTaken();
  return found[found.length - 1];
}

/** Completes the chain taken last, and lets the core have a turn. */
export function finishChain(result: i32): u32 {
  complete(lastChain(), result);
  return turn();
}

export function operation(index: i32): Sqe {
  return operations[index];
}

export function lastOperation(): Sqe {
  return operations[operations.length - 1];
}

/** How many SQEs for `fd` were taken so far: reads of a kick or control eventfd, writes of a call. */
export function countFor(fd: i32): i32 {
  let count = 0;
  for (let i = 0; i < log.length; i++) if (log[i].fd === fd) count++;
  return count;
}

export function lastFor(fd: i32): Sqe {
  let i = log.length - 1;
  while (log[i].fd !== fd) i--;
  return log[i];
}

export function cancelCount(): i32 {
  let count = 0;
  for (let i = 0; i < log.length; i++) if (log[i].opcode === IORING_OP_ASYNC_CANCEL) count++;
  return count;
}

export function lastCancel(): Sqe {
  let i = log.length - 1;
  while (log[i].opcode !== IORING_OP_ASYNC_CANCEL) i--;
  return log[i];
}

export function postCqe(userData: u64, result: i32): void {
  const tail = load<u32>(CQ_TAIL);
  const cqe = CQES_PTR + <usize>(tail & (cqEntries - 1)) * CQE_SIZE;
  store<u64>(cqe, userData, CQE_USER_DATA);
  store<i32>(cqe, result, CQE_RES);
  store<u32>(CQ_TAIL, tail + 1);
}

/** Completes what the SQE asked for; the core hears of it at its next turn. */
export function complete(sqe: Sqe, result: i32): void {
  postCqe(sqe.userData, result);
}

/** Completes the operation taken last, and lets the core have a turn. */
export function finish(result: i32): u32 {
  complete(lastOperation(), result);
  return turn();
}

/** The `index`th I/O vector of a READV or WRITEV: its address, its length. */
export function vectorBase(sqe: Sqe, index: u32): u64 {
  return load<u64>(<usize>(sqe.address - MEMORY_HOST) + <usize>index * 16);
}

export function vectorLength(sqe: Sqe, index: u32): u64 {
  return load<u64>(<usize>(sqe.address - MEMORY_HOST) + <usize>index * 16, 8);
}

// --- A chain in the making ------------------------------------------------------------------------------------------

@unmanaged
class Part {
  gpa: u64;
  length: u32;
  flags: u32;
}

let partCount: u32 = 0;

function partAt(index: u32): Part {
  return changetype<Part>(CHAIN_PTR + <usize>index * offsetof<Part>());
}

function addPart(gpa: u64, byteLength: u32, flags: u32): void {
  const part = partAt(partCount++);
  part.gpa = gpa;
  part.length = byteLength;
  part.flags = flags;
}

export function clearChain(): void {
  partCount = 0;
}

/** Adds a buffer for the device to read. */
export function readable(gpa: u64, byteLength: u32): void {
  addPart(gpa, byteLength, 0);
}

/** Adds a buffer for the device to write. */
export function writable(gpa: u64, byteLength: u32): void {
  addPart(gpa, byteLength, VIRTQ_DESC_F_WRITE);
}

/** Writes one descriptor: virtq_desc's flags and next, or pvirtq_desc's id and flags. */
export function writeDescriptor(desc: usize, gpa: u64, byteLength: u32, third: u32, fourth: u32): void {
  store<u64>(desc, gpa);
  store<u32>(desc, byteLength, DESC_LEN);
  store<u16>(desc, <u16>third, 12);
  store<u16>(desc, <u16>fourth, 14);
}

// --- Drivers --------------------------------------------------------------------------------------------------------

export abstract class Driver {
  /** Descriptor area, driver area and device area: pointers. */
  desc: usize;
  driver: usize;
  device: usize;
  kickFd: i32;
  callFd: i32;
  /** What takeUsed() found. */
  usedId: u32 = 0;
  usedLength: u32 = 0;

  constructor(
    public index: u32,
    public size: u32,
    public flags: u32,
  ) {
    this.desc = RAM_PTR + <usize>index * RINGS_STRIDE;
    this.driver = this.desc + <usize>size * DESC_SIZE;
    // 6 bytes beside the avail ring; the used ring wants a boundary of 4.
    this.device = (this.driver + 6 + <usize>size * 2 + 3) & ~3;
    this.kickFd = KICK_FD + index;
    this.callFd = CALL_FD + index;
  }

  startAt(base: u32): void {
    startQueue(
      this.index,
      this.size,
      this.flags,
      this.desc,
      this.driver,
      this.device,
      base,
      this.kickFd,
      this.callFd,
    );
  }

  abstract start(): void;

  /** Makes the chain available and begins a new one. Returns what names it: head, or buffer id. */
  abstract offer(): u16;
  /** The same by way of an indirect table. */
  abstract offerTable(): u16;
  /** Takes the next used chain, if there is one. */
  abstract takeUsed(): bool;
  /** Whether the driver wants calls at all. */
  abstract wantCalls(wanted: bool): void;
}

/** virtio 1.4, 2.7.13 and 2.7.14. Descriptors are taken in turn; a test never has more in flight than the table holds. */
export class SplitDriver extends Driver {
  availIdx: u16 = 0;
  lastUsed: u16 = 0;
  nextFree: u32 = 0;

  constructor(index: u32 = 0, size: u32 = 256, flags: u32 = 0) {
    super(index, size, flags);
  }

  start(): void {
    this.startFrom(0);
  }

  /** Starts with all of the ring's indices at `base`. */
  startFrom(base: u16): void {
    this.availIdx = base;
    this.lastUsed = base;
    store<u16>(this.driver, base, AVAIL_IDX);
    store<u16>(this.device, base, USED_IDX);
    this.startAt(base);
  }

  slot(index: u32): usize {
    return this.desc + <usize>index * DESC_SIZE;
  }

  offer(): u16 {
    const head = this.nextFree;
    for (let i: u32 = 0; i < partCount; i++) {
      const part = partAt(i);
      const next = this.takeFree();
      const flags = part.flags | (i + 1 < partCount ? VIRTQ_DESC_F_NEXT : 0);
      writeDescriptor(this.slot(next), part.gpa, part.length, flags, this.nextFree);
    }
    clearChain();
    this.publish(<u16>head);
    return <u16>head;
  }

  offerTable(): u16 {
    const table = allocate(<u64>partCount * DESC_SIZE);
    for (let i: u32 = 0; i < partCount; i++) {
      const part = partAt(i);
      const flags = part.flags | (i + 1 < partCount ? VIRTQ_DESC_F_NEXT : 0);
      writeDescriptor(ptrOf(table) + <usize>i * DESC_SIZE, part.gpa, part.length, flags, i + 1);
    }
    const head = this.takeFree();
    writeDescriptor(this.slot(head), table, partCount * DESC_SIZE, VIRTQ_DESC_F_INDIRECT, 0);
    clearChain();
    this.publish(<u16>head);
    return <u16>head;
  }

  private takeFree(): u32 {
    const slot = this.nextFree;
    this.nextFree = (slot + 1) % this.size;
    return slot;
  }

  /** Puts any head into the avail ring. */
  publish(head: u16): void {
    store<u16>(this.driver + ((<usize>this.availIdx % this.size) << 1), head, AVAIL_RING);
    this.availIdx++;
    store<u16>(this.driver, this.availIdx, AVAIL_IDX);
  }

  get usedIdx(): u16 {
    return load<u16>(this.device, USED_IDX);
  }

  takeUsed(): bool {
    if (this.usedIdx === this.lastUsed) return false;
    const element = this.device + USED_RING + (<usize>this.lastUsed % this.size) * USED_ELEM_SIZE;
    this.usedId = load<u32>(element);
    this.usedLength = load<u32>(element, USED_ELEM_LEN);
    this.lastUsed++;
    return true;
  }

  wantCalls(wanted: bool): void {
    store<u16>(this.driver, wanted ? 0 : VIRTQ_AVAIL_F_NO_INTERRUPT, AVAIL_FLAGS);
  }

  set usedEvent(event: u16) {
    store<u16>(this.driver + AVAIL_RING + <usize>this.size * 2, event);
  }

  get availEvent(): u16 {
    return load<u16>(this.device + USED_RING + <usize>this.size * USED_ELEM_SIZE);
  }

  get usedFlags(): u16 {
    return load<u16>(this.device);
  }
}

/** The first position of a packed ring, for available and for used: slot 0, wrap counter 1. */
export const PACKED_BASE: u32 = 0x8000_8000;

/** virtio 1.4, 2.8.21 and 2.8.22. */
export class PackedDriver extends Driver {
  nextAvail: u32 = 0;
  availWrap: bool = true;
  nextUsed: u32 = 0;
  usedWrap: bool = true;
  nextId: u32 = 0;
  counts: StaticArray<u32>;

  constructor(index: u32 = 0, size: u32 = 256, flags: u32 = 0) {
    super(index, size, flags | QUEUE_F_PACKED);
    this.counts = new StaticArray<u32>(<i32>size);
  }

  start(): void {
    this.startAt(PACKED_BASE);
  }

  slot(index: u32): usize {
    return this.desc + <usize>index * DESC_SIZE;
  }

  /** What marks a descriptor available in this lap. */
  get availMark(): u32 {
    return this.availWrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
  }

  offer(): u16 {
    const id = this.takeId(partCount);
    const first = this.slot(this.nextAvail);
    let firstFlags: u32 = 0;
    for (let i: u32 = 0; i < partCount; i++) {
      const part = partAt(i);
      const isLast = i + 1 === partCount;
      const flags = part.flags | this.availMark | (isLast ? 0 : VIRTQ_DESC_F_NEXT);
      // The id stands in the last descriptor alone; the flags of the first are written last of all.
      const desc = this.slot(this.nextAvail);
      const old = load<u16>(desc, PACKED_DESC_FLAGS);
      writeDescriptor(desc, part.gpa, part.length, isLast ? id : 0xdead, i === 0 ? old : flags);
      if (i === 0) firstFlags = flags;
      this.advance();
    }
    store<u16>(first, <u16>firstFlags, PACKED_DESC_FLAGS);
    clearChain();
    return <u16>id;
  }

  offerTable(): u16 {
    const table = allocate(<u64>partCount * DESC_SIZE);
    for (let i: u32 = 0; i < partCount; i++) {
      const part = partAt(i);
      // Only VIRTQ_DESC_F_WRITE may be set in a table (2.8.19).
      writeDescriptor(ptrOf(table) + <usize>i * DESC_SIZE, part.gpa, part.length, 0, part.flags);
    }
    const id = this.takeId(1);
    const flags = VIRTQ_DESC_F_INDIRECT | this.availMark;
    writeDescriptor(this.slot(this.nextAvail), table, partCount * DESC_SIZE, id, flags);
    this.advance();
    clearChain();
    return <u16>id;
  }

  private takeId(count: u32): u32 {
    const id = this.nextId;
    this.nextId = (id + 1) % this.size;
    this.counts[id] = count;
    return id;
  }

  private advance(): void {
    if (++this.nextAvail === this.size) {
      this.nextAvail = 0;
      this.availWrap = !this.availWrap;
    }
  }

  takeUsed(): bool {
    const desc = this.slot(this.nextUsed);
    const flags = load<u16>(desc, PACKED_DESC_FLAGS);
    const avail = (flags & VIRTQ_DESC_F_AVAIL) !== 0;
    const used = (flags & VIRTQ_DESC_F_USED) !== 0;
    if (avail !== this.usedWrap || used !== this.usedWrap) return false;
    this.usedId = load<u16>(desc, PACKED_DESC_ID);
    // The length means something only if VIRTQ_DESC_F_WRITE is set (2.8.4).
    this.usedLength = (flags & VIRTQ_DESC_F_WRITE) !== 0 ? load<u32>(desc, PACKED_DESC_LEN) : 0;
    this.nextUsed += this.counts[this.usedId];
    if (this.nextUsed >= this.size) {
      this.nextUsed -= this.size;
      this.usedWrap = !this.usedWrap;
    }
    return true;
  }

  wantCalls(wanted: bool): void {
    store<u16>(this.driver, wanted ? 0 : 1, EVENT_FLAGS);
  }
}

export const EVENT_IDX: u32 = QUEUE_F_EVENT_IDX;

// --- Block requests -------------------------------------------------------------------------------------------------

/** What a status byte holds before the device has written it. */
export const STATUS_UNWRITTEN: u8 = 0xee;

/** The data buffer and the status byte of the request built last. */
export let dataGpa: u64 = 0;
export let statusGpa: u64 = 0;

/** A buffer with a request header in it. */
export function headerOf(type: u32, sector: u64): u64 {
  const gpa = allocate(BLK_HEADER_SIZE);
  store<u32>(ptrOf(gpa), type);
  store<u32>(ptrOf(gpa), 0, 4);
  store<u64>(ptrOf(gpa), sector, BLK_HEADER_SECTOR);
  return gpa;
}

export function beginRequest(type: u32, sector: u64): void {
  readable(headerOf(type, sector), BLK_HEADER_SIZE);
}

/** A byte for the status, marked as not yet written. */
export function allocateStatus(): u64 {
  statusGpa = allocate(1);
  store<u8>(ptrOf(statusGpa), STATUS_UNWRITTEN);
  return statusGpa;
}

/** Adds a status byte in a buffer of its own. */
export function endRequest(): void {
  writable(allocateStatus(), 1);
}

/** Offers a request without data. */
export function offerPlain(queue: Driver, type: u32): u16 {
  beginRequest(type, 0);
  endRequest();
  return queue.offer();
}

/** Offers a read or a write of one buffer. */
export function offerRead(queue: Driver, sector: u64, byteLength: u32): u16 {
  beginRequest(0, sector);
  dataGpa = allocate(byteLength);
  writable(dataGpa, byteLength);
  endRequest();
  return queue.offer();
}

export function offerWrite(queue: Driver, sector: u64, byteLength: u32): u16 {
  beginRequest(1, sector);
  dataGpa = allocate(byteLength);
  readable(dataGpa, byteLength);
  endRequest();
  return queue.offer();
}

/** Ranges of a discard or write zeroes, as they are added; they lie one behind the other. */
let rangesGpa: u64 = 0;
let rangeCount: u32 = 0;

export function beginRanges(type: u32): void {
  beginRequest(type, 0);
  rangesGpa = allocate(512 * RANGE_SIZE);
  rangeCount = 0;
}

export function addRange(sector: u64, sectorCount: u32, flags: u32): void {
  const range = ptrOf(rangesGpa) + <usize>rangeCount * RANGE_SIZE;
  store<u64>(range, sector);
  store<u32>(range, sectorCount, RANGE_NUM_SECTORS);
  store<u32>(range, flags, RANGE_FLAGS);
  rangeCount++;
}

/** Offers the ranges in one buffer, `extraBytes` longer than they are. */
export function offerRanges(queue: Driver, extraBytes: i32 = 0): u16 {
  readable(rangesGpa, rangeCount * RANGE_SIZE + extraBytes);
  endRequest();
  return queue.offer();
}

/** Where the ranges lie, for a test that adds the buffers itself. */
export function rangesAt(): u64 {
  return rangesGpa;
}

export function offerRangeOf(queue: Driver, type: u32, sector: u64, sectorCount: u32, flags: u32): u16 {
  beginRanges(type);
  addRange(sector, sectorCount, flags);
  return offerRanges(queue);
}

export function statusByte(): u8 {
  return load<u8>(ptrOf(statusGpa));
}

/** The next used chain must be one that ended with `status` and says that `byteLength` bytes were written. */
export function expectUsed(queue: Driver, status: u8, byteLength: u32): void {
  expect(queue.takeUsed()).toBe(true, "no chain was used");
  expect(statusByte()).toBe(status, "status byte");
  expect(queue.usedLength).toBe(byteLength, "used length");
}

/** Stands for as many chains as are in flight. */
const someChain = changetype<Chain>(memory.data(offsetof<Chain>()));

/** Takes a chain of `count` descriptors, whatever it is. */
export function takeAny(queue: Virtqueue, count: u32): void {
  someChain.count = count;
  someChain.isTaken = 0;
  takeChain(queue, someChain);
}

/** Gives back a chain with this name. */
export function giveBack(queue: Virtqueue, id: u16, count: u32, byteLength: u32): void {
  someChain.id = id;
  someChain.count = count;
  someChain.isTaken = 1;
  pushUsed(queue, someChain, byteLength);
}
