// The least that drives the core: one queue, of a disk in memory or of chains; no thread, no descriptor, nothing of any runtime.
// Made from assembly/ABI.md, and from nothing else.

import { OP_CHAIN } from "../../assembly/abi/chain.ts";
import * as layout from "../../assembly/abi/index.ts";
import * as uring from "../../assembly/spec/io-uring.ts";
import { SECTOR_SIZE } from "../../assembly/spec/virtio-blk.ts";

/** What is used of the core's exports ("Exports"). They are raw: a boolean is a number, and a u32 may come out negative. */
export interface Core {
  abiVersion(): number;
  attachRings(...pointersAndEntries: number[]): void;
  openWorker(index: number, queues: number, requests: number, controlFd: number): void;
  trackInflight(queue: number, region: number, entries: number): void;
  startQueue(queue: number, size: number, flags: number, ...pointersBaseAndFds: number[]): void;
  addCredit(queue: number, count: number): void;
  step(): number;
  stopQueue(queue: number): void;
  isStopped(queue: number): number;
  queueBase(queue: number): number;
  queueFault(queue: number): number;
}

export interface Disk {
  bytes: Uint8Array;
  flushes: number;
}

/** Guest memory: `byteLength` bytes from guest physical address `gpa` lie at `ptr` in linear memory. */
export interface GuestRam {
  gpa: bigint;
  ptr: number;
  byteLength: number;
}

/** Pointers into linear memory, as virtio names them; `flags` are QUEUE_F_*. */
export interface RingStart {
  size: number;
  flags: number;
  desc: number;
  driver: number;
  device: number;
  base: number;
}

/** A submission queue entry, as far as an operation on the disk needs it. */
export interface Operation {
  opcode: number;
  fd: number;
  offset: number;
  address: number;
  length: number;
  flags: number;
  userData: bigint;
}

/** A chain as a device has it: what the driver gives, and the room that it has, in linear memory. */
export interface Chain {
  readable: Uint8Array[];
  writable: Uint8Array[];
  /** CHAIN_F_*. */
  flags: number;
}

/** Pages for the head and one worker; guest memory may lie behind them. */
export const FIRST_FREE_PTR = layout.WORKERS_PTR + layout.WORKER_STRIDE;

/** Where the rings' words lie is the embedder's choice. */
const RINGS = layout.WORKERS_PTR + layout.WORKER_RINGS;
const SQ_HEAD = RINGS;
const SQ_TAIL = RINGS + 4;
const SQ_FLAGS = RINGS + 8;
const CQ_HEAD = RINGS + 12;
const CQ_TAIL = RINGS + 16;
const CQES = RINGS + 64;
const SQES = layout.WORKERS_PTR + layout.WORKER_SQES;
const SQ_ENTRIES = 64;
const CQ_ENTRIES = 128;
const REQUESTS = 32;

/** Descriptors are names for the core to use: these say what an operation is for. */
const FILE_FD = 1;
const CALL_FD = 2;
const CONTROL_FD = 3;
const NO_FD = -1;

export class Embedder {
  onCall = () => {};
  /** What a device makes of a chain: a result, as "Chains as operations" lists them. */
  onChain = (_chain: Chain): number => -uring.EINVAL;
  /** Operations on the disk and chains wait in `held` while this is set. */
  isHolding = false;
  readonly held: Operation[] = [];

  private readonly view: DataView;
  private readonly bytes: Uint8Array;

  /** `core` is a new instance over `memory`, in which all but guest memory and the inflight region is zero. */
  constructor(
    private readonly core: Core,
    memory: { buffer: ArrayBuffer },
    ram: GuestRam,
    private readonly disk: Disk,
  ) {
    if (core.abiVersion() >>> 16 !== layout.ABI_VERSION >>> 16) throw new Error("a core with another ABI");
    this.view = new DataView(memory.buffer);
    this.bytes = new Uint8Array(memory.buffer);
    this.writeDeviceBlock();
    // Linear memory is all there is, so a host address is a pointer, and one window shows all of the region.
    this.writeEntry(layout.REGION_TABLE_PTR, ram);
    this.writeEntry(layout.WORKERS_PTR + layout.WORKER_WINDOW_TABLE, ram);
    core.attachRings(SQ_HEAD, SQ_TAIL, SQ_FLAGS, SQES, SQ_ENTRIES, CQ_HEAD, CQ_TAIL, CQES, CQ_ENTRIES);
    core.openWorker(0, 1, REQUESTS, CONTROL_FD);
  }

  /** `inflight`: where requests in flight are recorded, with room for as many descriptors as the ring has. 0: nowhere. */
  start({ size, flags, desc, driver, device, base }: RingStart, inflight = 0): void {
    this.core.trackInflight(0, inflight, inflight === 0 ? 0 : size);
    // Without a kick descriptor the core reads none: whoever kicks calls run().
    this.core.startQueue(0, size, flags, desc, driver, device, base, NO_FD, CALL_FD);
  }

  /** The device asks for so many chains more. */
  addCredit(count: number): void {
    this.core.addCredit(0, count);
  }

  /** Completes what is in flight. Returns the base to go on from. */
  stop(): number {
    this.core.stopQueue(0);
    this.run();
    if (this.core.isStopped(0) === 0) throw new Error("the ring has not stopped");
    return this.core.queueBase(0) >>> 0;
  }

  /** Turns until only a kick, or release(), brings something new. */
  run(): void {
    for (;;) {
      const outcome = this.core.step();
      if (outcome & layout.STEP_WINDOW_MISS) throw new Error("guest memory that no window shows");
      if (outcome & layout.STEP_BROKEN) throw new Error(`the ring broke: fault ${this.core.queueFault(0)}`);
      for (let count = outcome & layout.STEP_SUBMIT_MASK; count > 0; count--) this.serve(this.takeSqe());
      const mayWait = (outcome & (layout.STEP_WAIT | layout.STEP_POLL)) !== 0;
      if (mayWait && this.load(CQ_HEAD) === this.load(CQ_TAIL)) return;
    }
  }

  /** Performs the operation at `at` of those held. */
  release(at = 0): void {
    for (const operation of this.held.splice(at, 1))
      this.complete(operation.userData, this.perform(operation));
  }

  private takeSqe(): Operation {
    const head = this.load(SQ_HEAD);
    const sqe = SQES + (head % SQ_ENTRIES) * uring.SQE_SIZE;
    this.store(SQ_HEAD, head + 1);
    return {
      opcode: this.view.getUint8(sqe + uring.SQE_OPCODE),
      fd: this.view.getInt32(sqe + uring.SQE_FD, true),
      offset: Number(this.view.getBigUint64(sqe + uring.SQE_OFF, true)),
      address: Number(this.view.getBigUint64(sqe + uring.SQE_ADDR, true)),
      length: this.load(sqe + uring.SQE_LEN),
      flags: this.load(sqe + uring.SQE_OP_FLAGS),
      userData: this.view.getBigUint64(sqe + uring.SQE_USER_DATA, true),
    };
  }

  private serve(operation: Operation): void {
    // What has completed can't be cancelled, and what is held needn't be.
    if (operation.opcode === uring.IORING_OP_ASYNC_CANCEL) return;
    // Of a chain this is the number of its queue.
    const fd = operation.opcode === OP_CHAIN ? NO_FD : operation.fd;
    // Commands are calls in this program: the read of the control descriptor never completes.
    if (fd === CONTROL_FD) return;
    if (fd === CALL_FD) {
      this.onCall();
      this.complete(operation.userData, operation.length);
    } else if (this.isHolding) {
      this.held.push(operation);
    } else {
      this.complete(operation.userData, this.perform(operation));
    }
  }

  private complete(userData: bigint, result: number): void {
    const tail = this.load(CQ_TAIL);
    const cqe = CQES + (tail % CQ_ENTRIES) * uring.CQE_SIZE;
    this.view.setBigUint64(cqe + uring.CQE_USER_DATA, userData, true);
    this.view.setInt32(cqe + uring.CQE_RES, result, true);
    this.store(CQ_TAIL, tail + 1);
  }

  /** The result is a number of bytes, 0, or a negated errno. */
  private perform({ opcode, offset, address, length, flags }: Operation): number {
    switch (opcode) {
      case OP_CHAIN: {
        const buffers = this.buffersAt(address, length);
        return this.onChain({ readable: buffers.slice(0, offset), writable: buffers.slice(offset), flags });
      }
      case uring.IORING_OP_READ:
      case uring.IORING_OP_WRITE:
        return this.transfer(opcode === uring.IORING_OP_WRITE, offset, address, length);
      case uring.IORING_OP_READV:
      case uring.IORING_OP_WRITEV:
        return this.transferVectors(opcode === uring.IORING_OP_WRITEV, offset, address, length);
      case uring.IORING_OP_FSYNC:
        this.disk.flushes++;
        return 0;
      case uring.IORING_OP_FALLOCATE:
        // The number of bytes travels in `address`; both modes leave zeroes.
        this.disk.bytes.fill(0, offset, offset + address);
        return 0;
      default:
        return -uring.EINVAL;
    }
  }

  private transfer(isWrite: boolean, offset: number, ptr: number, length: number): number {
    if (isWrite) this.disk.bytes.set(this.bytes.subarray(ptr, ptr + length), offset);
    else this.bytes.set(this.disk.bytes.subarray(offset, offset + length), ptr);
    return length;
  }

  private transferVectors(isWrite: boolean, offset: number, vectors: number, count: number): number {
    let moved = 0;
    for (let i = 0; i < count; i++) {
      const vector = vectors + i * uring.IOVEC_SIZE;
      const length = this.load(vector + uring.IOVEC_LEN);
      moved += this.transfer(isWrite, offset + moved, this.load(vector + uring.IOVEC_BASE), length);
    }
    return moved;
  }

  private buffersAt(vectors: number, count: number): Uint8Array[] {
    return Array.from({ length: count }, (_, i) => {
      const vector = vectors + i * uring.IOVEC_SIZE;
      const base = this.load(vector + uring.IOVEC_BASE);
      return this.bytes.subarray(base, base + this.load(vector + uring.IOVEC_LEN));
    });
  }

  private writeDeviceBlock(): void {
    const device = layout.DEVICE_PTR;
    const sectors = this.disk.bytes.length / SECTOR_SIZE;
    this.view.setBigUint64(device + layout.DEVICE_CAPACITY_SECTORS, BigInt(sectors), true);
    this.store(device + layout.DEVICE_FILE_FD, FILE_FD);
    this.store(device + layout.DEVICE_UNALIGNED_FD, FILE_FD);
    this.store(device + layout.DEVICE_BLOCK_SECTORS, 1);
    this.store(device + layout.DEVICE_DISCARD_UNMAPS, 1);
    this.store(device + layout.DEVICE_MAX_DISCARD_SECTORS, sectors);
    this.store(device + layout.DEVICE_MAX_WRITE_ZEROES_SECTORS, sectors);
    this.store(device + layout.DEVICE_MAX_RANGES, 1);
  }

  private writeEntry(entry: number, { gpa, ptr, byteLength }: GuestRam): void {
    this.view.setBigUint64(entry + layout.ENTRY_GPA, gpa, true);
    this.view.setBigUint64(entry + layout.ENTRY_LENGTH, BigInt(byteLength), true);
    this.view.setBigUint64(entry + layout.ENTRY_TARGET, BigInt(ptr), true);
  }

  private load(ptr: number): number {
    return this.view.getUint32(ptr, true);
  }

  private store(ptr: number, value: number): void {
    this.view.setUint32(ptr, value, true);
  }
}
